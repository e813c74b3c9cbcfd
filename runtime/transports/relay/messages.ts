/**
 * What the two ends of a relayed pipe say to each other, as signals. Those with bytes keep their order; all others
 * may arrive before bytes that were sent earlier, which is why a close says after how many bytes it comes.
 *
 *     open    pipe               →            a new pipe; its id is 16 random hexadecimal digits
 *                                ←  accept    pipe                      or: close
 *     data    pipe, bytes        ⇄            at most `RELAY_WINDOW_BYTES` of them without a credit
 *     credit  pipe, bytes        ⇄            so many have been taken
 *     close   pipe, bytes, why   ⇄            nothing comes after so many bytes in all; why is null in good order
 */

import { Tensor } from "../../../protocols/tensor.ts";

/** The subject of these signals. */
export const RELAY = "relay";
/** Bytes of one direction of a pipe that may be under way: 20 MB/s at a round trip of 50 ms. */
export const RELAY_WINDOW_BYTES = 1024 * 1024;

export type RelayMessage =
  | { readonly kind: "open" | "accept"; readonly pipe: string }
  | { readonly kind: "data"; readonly pipe: string; readonly bytes: Uint8Array }
  | { readonly kind: "credit"; readonly pipe: string; readonly count: number }
  | { readonly kind: "close"; readonly pipe: string; readonly count: number; readonly why: string | null };

export const relay = {
  open: (pipe: string) => ["open", pipe],
  accept: (pipe: string) => ["accept", pipe],
  /** The bytes are borrowed until the link has sent them. A tensor, so that they always take the ordered way. */
  data: (pipe: string, bytes: Uint8Array) => ["data", pipe, new Tensor("u8", [bytes.byteLength], bytes)],
  credit: (pipe: string, count: number) => ["credit", pipe, count],
  close: (pipe: string, count: number, why: string | null) => ["close", pipe, count, why],
};

/** The message in a signal's data, or undefined if there is none. */
export function parseRelay(data: unknown): RelayMessage | undefined {
  if (!Array.isArray(data)) return undefined;
  const [kind, pipe, value, why] = data as unknown[];
  if (typeof pipe !== "string" || !/^[0-9a-f]{16}$/.test(pipe)) return undefined;
  const isCount = Number.isSafeInteger(value) && (value as number) >= 0;
  if (kind === "open" || kind === "accept") return { kind, pipe };
  if (kind === "data") return value instanceof Tensor ? { kind, pipe, bytes: value.bytes } : undefined;
  if (kind === "credit" && isCount) return { kind, pipe, count: value as number };
  if (kind !== "close" || !isCount) return undefined;
  return { kind, pipe, count: value as number, why: typeof why === "string" ? why : null };
}
