/**
 * Faults without end, of random kinds and at random devices, for runs that are to live with them: each is over after a while. A
 * series is a pure function of its seed and of whom it is about; the same one comes over a run again as often as you like, at
 * the same steps where it goes by steps.
 */

import { seededRandom } from "../../runtime/index.ts";
import { ACTIONS, type Fault, type FaultAction, type Phase } from "./fault.ts";

export interface FaultSeries {
  /** From one fault to the next. */
  readonly every: { readonly steps: number } | { readonly ms: number };
  readonly seed: number;
  /** Milliseconds after which each is over. */
  readonly forMs: number;
}

/** Whom faults come over: those that can be started again may be killed. */
export interface Victims {
  readonly names: readonly string[];
  readonly mortal: boolean;
}

/** Of these every device that computes has some in every step. */
export const POINTS: readonly (Phase | undefined)[] = [undefined, "forward", "backward", "commit"];
/** Slow ones take this many times as long, at the most. */
const SLOWEST = 4;

/** One after the other: at steps that follow each other, or each at the next step there is. */
export function* faultsOf({ every, seed, forMs }: FaultSeries, { names, mortal }: Victims): Generator<Fault> {
  const random = seededRandom(seed);
  const one = <T>(of: readonly T[]): T => of[random.integer(of.length)]!;
  const actions: readonly FaultAction[] = ACTIONS.filter((action) => mortal || action !== "kill");
  for (let count = 1; ; count++) {
    const [action, device, phase] = [one(actions), one(names), one(POINTS)];
    const factor = 2 + random.integer(SLOWEST - 1);
    yield {
      ...{ action, device, ...(action === "slow" && { factor }) },
      step: "steps" in every ? count * every.steps - 1 : 0,
      ...(phase && { phase }),
      forMs,
    };
  }
}
