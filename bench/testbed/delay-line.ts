/**
 * A script: makes two TAP devices and carries frames from each to the other, every one a fixed time later. Between a
 * switch and a device they are a long cable: what goes through it is TCP from end to end, whose congestion control sees
 * the delay. Ends with its standard input.
 */

import { Ring } from "../../protocols/ring.ts";
import { Tap, waitForAny } from "./tap.ts";

/** Frames read in a row before those that are due are written. */
const AT_ONCE = 64;
const STANDARD_INPUT = 0;

interface Direction {
  readonly from: Tap;
  readonly to: Tap;
  readonly held: Ring<{ readonly frame: Uint8Array<ArrayBuffer>; readonly due: number }>;
}

const [port, tap, latency] = process.argv.slice(2);
const latencyMs = Number(latency);
const ends = [new Tap(port!), new Tap(tap!)] as const;
const directions: readonly Direction[] = [
  { from: ends[0], to: ends[1], held: new Ring() },
  { from: ends[1], to: ends[0], held: new Ring() },
];
await Bun.write(Bun.stdout, "ready\n");

const files = [STANDARD_INPUT, ...ends.map(({ file }) => file)];
for (;;) {
  const next = Math.min(...directions.map(({ held }) => held.peek()?.due ?? Number.POSITIVE_INFINITY));
  const [ended] = waitForAny(files, Math.max(0, next - performance.now()));
  // Nothing is ever said to it.
  if (ended) process.exit(0);
  for (const { from, to, held } of directions) {
    const now = performance.now();
    for (let count = 0; count < AT_ONCE; count++) {
      const frame = from.read();
      if (!frame) break;
      held.push({ frame, due: now + latencyMs });
    }
    for (let first = held.peek(); first && first.due <= now; first = held.peek()) {
      to.write(first.frame);
      held.shift();
    }
  }
}
