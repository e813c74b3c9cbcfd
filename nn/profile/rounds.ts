/**
 * The clockwork of a profile: several probes are run in turn, again and again, until their times are known well enough
 * or the time allowed is up.
 *
 * What is wanted is what a run takes on the average of a long time, on a machine that disturbs single runs. The fastest
 * run is no answer: where a device's share of a core is limited by a quota, short runs fall between two stops and long
 * ones do not. Neither is the mean, which one long disturbance moves. So the proportions between probes are those of
 * their medians, and the scale is the median over rounds, each of which is long enough to have its part of the stops. That
 * probes take turns also lets them find the caches as a step would leave them, and a drift of the machine meets all alike.
 */

/** One thing that is measured. */
export interface Probe {
  /** Runs once; resolves with its milliseconds. */
  run(): Promise<number>;
}

export interface Measured {
  /** By probe, milliseconds of a run. */
  readonly ms: readonly number[];
  /** By pass, then by probe: single runs made one right after the other. */
  readonly passes: readonly (readonly number[])[];
  /** What `ms` is over the median of single runs: above 1 where something keeps stopping them. */
  readonly scale: number;
}

/** A quota's period is 5 to 100 ms: a round sees several of the short ones, and the rounds together of the long. */
const ROUND_MS = 50;
const LEAST_ROUNDS = 3;
/** Rounds that a budget is to be enough for, where passes are short. */
const BUDGET_ROUNDS = 6;
/** The scale is known to this, by the quartiles of rounds. */
const TOLERANCE = 0.015;
/** Or to so many milliseconds of a pass over all probes: models so small are decided by what goes on around kernels. */
const ENOUGH_MS = 0.05;

/**
 * Runs all probes in turn, first once to warm up.
 * @param budgetMs milliseconds to stop after, but not before three rounds.
 */
export async function measureRounds(
  probes: readonly Probe[],
  budgetMs: number,
  now: () => number,
): Promise<Measured> {
  const passes: number[][] = [];
  const pass = async () => {
    const times: number[] = [];
    for (const probe of probes) times.push(await probe.run());
    return times;
  };
  await pass();
  const roundMs = Math.min(ROUND_MS, budgetMs / BUDGET_ROUNDS);
  const began = now();
  const rounds: number[] = [];
  for (;;) {
    const start = now();
    const first = passes.length;
    let taken = 0;
    do {
      passes.push(await pass());
      taken = now() - start;
    } while (taken > 0 && taken < roundMs);
    const own = passes.slice(first);
    rounds.push(own.reduce((sum, times) => sum + total(times), 0) / own.length);
    if (rounds.length < LEAST_ROUNDS) continue;
    const used = now() - began;
    // A simulated world's clock stands still.
    if (used === 0) break;
    // Another round that would go beyond the budget is not begun.
    if (used + used / rounds.length > budgetMs) break;
    if (spread(rounds) <= Math.max(TOLERANCE * median(rounds), ENOUGH_MS)) break;
  }
  const medians = probes.map((_, i) => median(passes.map((times) => times[i]!)));
  const scale = total(medians) > 0 ? median(rounds) / total(medians) : 1;
  return { ms: medians.map((ms) => ms * scale), passes, scale };
}

/** How far the median of values may be off: their quartiles' distance over the root of their number. */
export function spread(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  return (at(0.75) - at(0.25)) / Math.sqrt(values.length);
}

/** The middle value, the mean of the middle two of an even number. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function total(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
