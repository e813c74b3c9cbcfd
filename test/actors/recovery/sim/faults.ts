/** What is done to a simulated world, and when; drawn from chance, printed when a run breaks a promise. */

import type { Random } from "../../../../runtime/random.ts";
import { DEVICE_PHASES, type Phase, REPLICA_PHASES, STAGE_PHASES } from "./phases.ts";
import { pick } from "./shapes.ts";

/** Ways to harm a device: its process is killed, its power is cut, it stands still, it is slow, or it is cut off. */
export type Harm =
  | { readonly kind: "kill" | "vanish" }
  | { readonly kind: "freeze"; readonly ms: number }
  | { readonly kind: "slow"; readonly times: number }
  /** The connection between it and another, or, without a number, the coordinator is lost. */
  | { readonly kind: "cut"; readonly other: number | null }
  /** Nothing gets through between it and that one for a while. */
  | { readonly kind: "block"; readonly other: number | null; readonly ms: number };

/** Behind the fault before it, or the begin of training: after a time, or when so many such phases have begun. */
export type Moment =
  | { readonly afterMs: number }
  | { readonly phase: Phase; readonly count: number; readonly delayMs: number };

export interface Fault {
  readonly when: Moment;
  /** The device where the phase is, or the one of this number. */
  readonly who: "there" | number;
  readonly harm: Harm;
}

const PHASES: readonly Phase[] = [
  ...STAGE_PHASES.map((name): Phase => `Stage.${name}`),
  ...REPLICA_PHASES.map((name): Phase => `Replica.${name}`),
  ...DEVICE_PHASES.map((name): Phase => `Device.${name}`),
];
/** Phases of a recovery: where the second fault strikes best. */
const RECOVERING: readonly Phase[] = [
  ...(["retire", "holds", "fetch", "recall", "load", "connect", "keep"] as const).map(
    (name): Phase => `Stage.${name}`,
  ),
  ...(["host", "end"] as const).map((name): Phase => `Device.${name}`),
];

/** @param untilMs about as long as an undisturbed run takes. */
export function drawFaults(random: Random, devices: number, untilMs: number): Fault[] {
  const count = pick(random, [1, 1, 1, 2, 2, 3, 4]);
  return Array.from({ length: count }, (_, i): Fault => {
    const timed = (ms: number): Moment => ({ afterMs: random.next() * ms });
    const at = (phases: readonly Phase[], most: number): Moment => ({
      ...{ phase: pick(random, phases), count: 1 + random.integer(most) },
      delayMs: pick(random, [0, 0, 1, 10]),
    });
    const when =
      i === 0
        ? pick(random, [timed(untilMs), at(PHASES, 4 * devices), at(PHASES, 20)])
        : pick(random, [timed(untilMs), timed(30), { afterMs: 0 }, at(RECOVERING, devices), at(PHASES, 20)]);
    const who = "phase" in when && random.next() < 0.6 ? "there" : random.integer(devices);
    return { when, who, harm: drawHarm(random, devices) };
  });
}

function drawHarm(random: Random, devices: number): Harm {
  const kind = pick(random, [
    "kill",
    "kill",
    "kill",
    "vanish",
    "vanish",
    "freeze",
    "slow",
    "cut",
    "block",
  ] as const);
  const other = random.next() < 0.4 ? null : random.integer(devices);
  switch (kind) {
    case "freeze":
      return { kind, ms: pick(random, [20, 300, 4000, 12_000]) };
    case "slow":
      return { kind, times: pick(random, [3, 30]) };
    case "cut":
      return { kind, other };
    case "block":
      return { kind, other, ms: pick(random, [20, 300, 4000]) };
    default:
      return { kind };
  }
}
