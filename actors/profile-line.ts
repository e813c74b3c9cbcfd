/**
 * What a line from here to another device carries: measured one way, since many lines are slower up than down.
 *
 * Bytes go one way, and an answer of nothing comes back. Latency is half a round trip of nothing. For the rate, messages
 * are sent so that the line never stands idle, and the slope of the times at which answers come over the bytes that they
 * answer is what a byte takes: latency does not show in it, nor does what a token bucket lets pass at the beginning,
 * since only the later half of the bytes counts.
 */

import { median } from "../nn/profile/rounds.ts";
import type { LinkProfile } from "./scheduler/cost.ts";

/** Round trips of nothing: so many at least, and more while they take less time than this in all. */
const LEAST_TRIPS = 3;
const MOST_TRIPS = 15;
const TRIPS_MS = 100;

/** Messages under way at once: one on the line, others behind it and in front of it. */
const IN_FLIGHT = 4;
const FIRST_BYTES = 16 * 1024;
const LARGEST_BYTES = 2 ** 20;
/** Where a round trip is long, there is more under way on the line itself. */
export const LARGEST_FAR_BYTES = 4 * 2 ** 20;
const FAR_MS = 20;
/** Messages grow while answers come faster than this one after the other. */
const GROW_MS = 5;
/**
 * They are at most this part of all before them: what a bucket let pass at once is no reason to wait for more. Where a
 * round trip is long there is no time for that.
 */
const MOST_OF_SENT = 1 / 8;
/** The stream ends after so many bytes, or so much time, or so many round trips if these are longer, but not for ever. */
const STREAM_BYTES = 12 * 2 ** 20;
const STREAM_FAR_BYTES = 32 * 2 ** 20;
const STREAM_MS = 300;
const STREAM_TRIPS = 6;
const LONGEST_STREAM_MS = 1200;
const LEAST_ANSWERS = 6;

/** Nothing is faster than memory. */
const LEAST_MS_PER_BYTE = 1e-9;

/** @param send resolves when so many bytes have been taken at the other end, and the answer has come. */
export async function measureLine(
  send: (bytes: number) => Promise<unknown>,
  now: () => number,
): Promise<LinkProfile> {
  const tripMs = await roundTripMs(send, now);
  const answers = await stream(send, tripMs, now);
  const total = answers.at(-1)!.bytes;
  const later = answers.filter(({ bytes }) => bytes >= total / 2);
  const msPerByte = Math.max(LEAST_MS_PER_BYTE, slope(later.length > 1 ? later : answers));
  return { latencyMs: tripMs / 2, bytesPerMs: 1 / msPerByte };
}

async function roundTripMs(send: (bytes: number) => Promise<unknown>, now: () => number): Promise<number> {
  // The first finds the way.
  await send(1);
  const began = now();
  const trips: number[] = [];
  while (trips.length < LEAST_TRIPS || (trips.length < MOST_TRIPS && now() - began < TRIPS_MS)) {
    const start = now();
    await send(1);
    trips.push(now() - start);
  }
  return median(trips);
}

interface Answer {
  /** Sent up to the message that is answered. */
  readonly bytes: number;
  readonly ms: number;
}

async function stream(
  send: (bytes: number) => Promise<unknown>,
  tripMs: number,
  now: () => number,
): Promise<Answer[]> {
  const far = tripMs >= FAR_MS;
  const largest = far ? LARGEST_FAR_BYTES : LARGEST_BYTES;
  const most = far ? Number.POSITIVE_INFINITY : MOST_OF_SENT;
  const longestMs = Math.min(LONGEST_STREAM_MS, Math.max(STREAM_MS, STREAM_TRIPS * tripMs));
  const enough = far ? STREAM_FAR_BYTES : STREAM_BYTES;
  const answers: Answer[] = [];
  let size = FIRST_BYTES;
  let sent = 0;
  const began = now();
  let last = began;
  const isOver = () => answers.length >= LEAST_ANSWERS && (sent >= enough || now() - began >= longestMs);
  const lane = async () => {
    while (!isOver()) {
      sent += size;
      const upTo = sent;
      await send(size);
      const ms = now();
      answers.push({ bytes: upTo, ms });
      if (ms - last < GROW_MS) size = Math.max(size, Math.min(largest, 2 * size, Math.floor(sent * most)));
      last = ms;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane));
  return answers;
}

/** Median of the slopes between all pairs of points (Theil, 1950; Sen, 1968), in milliseconds a byte. */
function slope(answers: readonly Answer[]): number {
  const slopes = answers.flatMap((a, i) =>
    answers.slice(i + 1).flatMap((b) => (a.bytes === b.bytes ? [] : [(b.ms - a.ms) / (b.bytes - a.bytes)])),
  );
  return median(slopes);
}
