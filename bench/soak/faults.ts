/** What comes over a soak next: drawn from a seed, as data. */

import { PHASES, type Phase } from "../../actors/chaos/fault.ts";
import type { Random } from "../../runtime/index.ts";

export const FAULT_KINDS = [
  ...(["kill", "kill at a point", "kill two", "kill in recovery", "stop", "hang"] as const),
  ...(["cut", "slow"] as const),
  ...(["kill coordinator", "kill coordinator and device", "stop coordinator"] as const),
] as const;
/**
 * kill: a device, from outside, whenever that is. kill at a point: it kills itself, about to do what is named. kill two: at
 * once. kill in recovery: another one, as it is about to fetch what the first has left. stop: for longer than the others'
 * patience, and then it goes on. hang: its kernels never end, until it finds that out and ends itself. cut: it works on, and
 * nothing reaches it for longer than patience. slow: for a while. kill coordinator: with the data source; it is started again.
 * stop coordinator: for longer than patience, so that all devices have given it up when it goes on.
 */
export type FaultKind = (typeof FAULT_KINDS)[number];

/** How often each comes, of all. */
const WEIGHTS: Readonly<Record<FaultKind, number>> = {
  kill: 4,
  "kill at a point": 4,
  "kill two": 3,
  "kill in recovery": 3,
  stop: 3,
  hang: 1,
  cut: 2,
  slow: 2,
  "kill coordinator": 2,
  "kill coordinator and device": 1,
  "stop coordinator": 1,
};

export interface Drawn {
  readonly kind: FaultKind;
  /** In [0, 1): which devices, in order. */
  readonly which: readonly [number, number];
  /** Of a kill at a point. */
  readonly phase: Phase;
  /** Times as long, of a slow device. */
  readonly factor: number;
  /** Milliseconds until what was killed is started again. */
  readonly awayMs: number;
  /** Milliseconds from when it is due until it comes. */
  readonly afterMs: number;
}

/** @param allowed kinds that may come now; at least one. */
export function draw(random: Random, allowed: readonly FaultKind[]): Drawn {
  const total = allowed.reduce((sum, kind) => sum + WEIGHTS[kind], 0);
  let at = random.next() * total;
  const isIt = (kind: FaultKind) => {
    at -= WEIGHTS[kind];
    return at < 0;
  };
  const kind = allowed.find(isIt) ?? allowed.at(-1)!;
  const phases = PHASES.filter((phase) => phase !== "reduce" && phase !== "recovery");
  return {
    kind,
    which: [random.next(), random.next()],
    phase: phases[random.integer(phases.length)]!,
    factor: 2 + 4 * random.next(),
    awayMs: 1000 + 4000 * random.next(),
    afterMs: 1000 * random.next(),
  };
}
