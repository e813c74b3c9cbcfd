/** What the figures of the contenders, which are nanoseconds or bytes, are told in. */

export type Unit = "messages/s" | "per second" | "µs" | "ms" | "GB/s" | "bytes";

const TOLD: Readonly<Record<Unit, (value: number) => string>> = {
  "messages/s": (ns) => rate(1e9 / ns),
  "per second": (ns) => rate(1e9 / ns),
  µs: (ns) => `${(ns / 1e3).toFixed(2)} µs`,
  ms: (ns) => `${(ns / 1e6).toFixed(2)} ms`,
  // Nanoseconds of a byte.
  "GB/s": (ns) => (1 / ns >= 0.2 ? `${(1 / ns).toFixed(2)} GB/s` : `${(1e3 / ns).toFixed(0)} MB/s`),
  bytes: (bytes) => `${Math.round(bytes)} B`,
};

function rate(perSecond: number): string {
  return perSecond >= 1e6 ? `${(perSecond / 1e6).toFixed(2)} M/s` : `${(perSecond / 1e3).toFixed(0)} k/s`;
}

export function figure({ unit }: { readonly unit: Unit }, value: number): string {
  return TOLD[unit](value);
}
