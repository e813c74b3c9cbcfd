/**
 * Dealing micro-batches to the members of a stage: whole ones, each to whom it will be done with first, as far as memory
 * goes. Micro-batches are equal and devices are not, so going by the earliest end is the best there is (Graham's list
 * scheduling is optimal for equal jobs on uniform machines), and it spreads them evenly over the step by itself.
 */

import { EventQueue } from "../simulate/queue.ts";

/** What one member can do. */
export interface Dealee {
  /** Of one micro-batch. */
  readonly ms: number;
  /** The most it has memory for. */
  readonly most: number;
}

/** Micro-batches of each member, ascending; null where memory is too small for all of them together. */
export function deal(members: readonly Dealee[], microBatches: number): number[][] | null {
  const dealt = members.map((): number[] => []);
  const turns = new Turns(members.map(({ ms }) => ms));
  members.forEach(({ most }, i) => {
    if (most > 0) turns.add(i, 1);
  });
  for (let microBatch = 0; microBatch < microBatches; microBatch++) {
    const next = turns.take();
    if (next === null) return null;
    const count = dealt[next]!.push(microBatch);
    if (count < members[next]!.most) turns.add(next, count + 1);
  }
  return dealt;
}

/** How many micro-batches each member gets when memory is no matter, written to `counts`; and when the last is done. */
export function dealCounts(ms: readonly number[], microBatches: number, counts: number[]): number {
  let speed = 0;
  for (const each of ms) speed += 1 / each;
  const fluid = microBatches / speed;
  let left = microBatches;
  const turns = new Turns(ms);
  for (let i = 0; i < ms.length; i++) {
    const count = Math.floor(fluid / ms[i]! + 1e-9);
    counts[i] = count;
    left -= count;
    turns.add(i, count + 1);
  }
  for (; left > 0; left--) {
    const next = turns.take()!;
    turns.add(next, ++counts[next]! + 1);
  }
  let end = 0;
  for (let i = 0; i < ms.length; i++) end = Math.max(end, counts[i]! * ms[i]!);
  return end;
}

/** Ends that differ by less than so much of the slowest one's time are the same: it is rounding. */
const SAME = 1e-12;

/** Members by when each would be done with one more; of several at one time the first. */
class Turns {
  private readonly ms: readonly number[];
  private readonly unit: number;
  private readonly queue: EventQueue;

  /** @param ms of one micro-batch, by member. */
  constructor(ms: readonly number[]) {
    this.ms = ms;
    let slowest = 0;
    for (const each of ms) slowest = Math.max(slowest, each);
    this.unit = slowest * SAME;
    this.queue = new EventQueue(ms.length);
  }

  /** A member who would have so many then. */
  add(member: number, count: number): void {
    const end = count * this.ms[member]!;
    this.queue.push(this.unit > 0 ? Math.round(end / this.unit) : end, member);
  }

  /** Null when there is none. */
  take(): number | null {
    if (this.queue.size === 0) return null;
    const { firstCode } = this.queue;
    this.queue.pop();
    return firstCode;
  }
}

/**
 * Shares of the work inside a micro-batch, such that all are done at once, of which `divided` (0 … 1) goes by the shares
 * and the rest is everybody's: what everybody repeats takes slow devices longer, so they get less of what is divided.
 * @param ms of the whole work on each.
 */
export function sharesBySpeed(ms: readonly number[], divided: number): number[] {
  const shares = new Array<number>(ms.length).fill(0);
  if (divided <= 0) return shares.fill(1 / ms.length);
  let in_ = ms.map((_, i) => i);
  for (;;) {
    const speed = in_.reduce((sum, i) => sum + 1 / ms[i]!, 0);
    const end = (divided + in_.length * (1 - divided)) / speed;
    const own = (i: number) => (end / ms[i]! - (1 - divided)) / divided;
    const useful = in_.filter((i) => own(i) > 0);
    if (useful.length === in_.length) {
      for (const i of in_) shares[i] = own(i);
      return shares;
    }
    in_ = useful;
  }
}
