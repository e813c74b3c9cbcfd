/**
 * The link between a device and the switch, as asked for and as arithmetic: how `tbf` is to be set for a rate, and how
 * long a message takes through it.
 *
 * The bucket of tbf(8) has to hold what the kernel sends at once. Below that size the kernel cuts large segments in
 * software, at a cost that shows in the devices' own time, and a bucket that is larger than need be lets every message's
 * beginning pass at full speed. So up to 500 Mbit/s segments are limited to 16 KiB, and the bucket holds one; faster, a
 * bucket for the kernel's own 64 KiB is small beside the rate.
 */

/** Between a device and the switch, the same in both directions. */
export interface Line {
  readonly megabits: number;
  /** One way, from the device to the switch; two devices are twice that apart. */
  readonly latencyMs: number;
}

export interface Bucket {
  readonly bytes: number;
  /** The most that is sent in one segment; null for the kernel's own. */
  readonly segmentBytes: number | null;
}

const SMALL_UP_TO_MEGABITS = 500;
const SEGMENT_BYTES = 16_384;

export function bucketOf(megabits: number): Bucket {
  if (megabits <= SMALL_UP_TO_MEGABITS) return { bytes: 18 * 1024, segmentBytes: SEGMENT_BYTES };
  return { bytes: megabits < 1000 ? 72 * 1024 : 128 * 1024, segmentBytes: null };
}

/** Of TCP over Ethernet with time stamps: what passes a link of what it carries. */
export const GOODPUT = 1448 / 1514;

/** Queue in front of the bucket, in milliseconds of its rate. */
export const QUEUE_MS = 20;

/** Milliseconds that a message takes through one line that was at rest. */
export function transferMs(bytes: number, { megabits, latencyMs }: Line): number {
  const shaped = Math.max(0, bytes / GOODPUT - bucketOf(megabits).bytes);
  return (shaped * 8) / (megabits * 1000) + latencyMs;
}
