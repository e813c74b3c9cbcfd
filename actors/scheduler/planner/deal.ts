/**
 * Dealing micro-batches to the members of a stage: whole ones, each to whom it will be done with first, as far as memory
 * goes. Micro-batches are equal and devices are not, so going by the earliest end is the best there is (Graham's list
 * scheduling is optimal for equal jobs on uniform machines), and it spreads them evenly over the step by itself.
 */

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
  for (let microBatch = 0; microBatch < microBatches; microBatch++) {
    let best = -1;
    let bestEnd = Number.POSITIVE_INFINITY;
    for (let i = 0; i < members.length; i++) {
      const { ms, most } = members[i]!;
      const count = dealt[i]!.length;
      const end = (count + 1) * ms;
      if (count < most && end < bestEnd * (1 - 1e-12)) {
        best = i;
        bestEnd = end;
      }
    }
    if (best < 0) return null;
    dealt[best]!.push(microBatch);
  }
  return dealt;
}

/** How many micro-batches each member gets when memory is no matter, written to `counts`; and when the last is done. */
export function dealCounts(ms: readonly number[], microBatches: number, counts: number[]): number {
  let speed = 0;
  for (const each of ms) speed += 1 / each;
  const fluid = microBatches / speed;
  let left = microBatches;
  for (let i = 0; i < ms.length; i++) {
    const count = Math.floor(fluid / ms[i]! + 1e-9);
    counts[i] = count;
    left -= count;
  }
  for (; left > 0; left--) {
    let next = 0;
    for (let i = 1; i < ms.length; i++) {
      if ((counts[i]! + 1) * ms[i]! < (counts[next]! + 1) * ms[next]!) next = i;
    }
    counts[next]!++;
  }
  let end = 0;
  for (let i = 0; i < ms.length; i++) end = Math.max(end, counts[i]! * ms[i]!);
  return end;
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
