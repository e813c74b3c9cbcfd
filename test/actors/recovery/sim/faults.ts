/** What happens to a simulated world, and when; drawn from chance, printed when a run breaks a promise. */

import type { Random } from "../../../../runtime/random.ts";
import { DEVICE_PHASES, type Phase, REPLICA_PHASES, STAGE_PHASES } from "./phases.ts";
import { pick } from "./shapes.ts";

/** Ways to harm a device: its process is killed, its power is cut, it stands still, it is slow, or it is cut off. */
export type Harm =
  | { readonly kind: "kill" | "vanish" }
  | { readonly kind: "freeze"; readonly ms: number }
  | { readonly kind: "slow"; readonly times: number; readonly ms: number | null }
  /** The connection between it and another, or, without a number, the coordinator is lost. */
  | { readonly kind: "cut"; readonly other: number | null }
  /** Nothing gets through between it and that one for a while. */
  | { readonly kind: "block"; readonly other: number | null; readonly ms: number };

/** What else happens to a run. */
export type Event =
  /** A device says goodbye. */
  | { readonly kind: "leave" }
  /** One that is gone is switched on again, one that was given up is found again. */
  | { readonly kind: "return" }
  /** Another device is there. */
  | { readonly kind: "join" }
  /** Another plan is wanted, which follows from the number. */
  | { readonly kind: "migrate"; readonly number: number }
  /** All devices are gone at once. */
  | { readonly kind: "blackout"; readonly silent: boolean }
  /** The coordinator is killed, or its power cut, and another is started so much later. */
  | { readonly kind: "coordinator"; readonly silent: boolean; readonly afterMs: number };

/** Behind the fault before it, or the begin of training: after a time, or when so many such phases have begun. */
export type Moment =
  | { readonly afterMs: number }
  | { readonly phase: Phase; readonly count: number; readonly delayMs: number };

export interface Fault {
  readonly when: Moment;
  /** The device where the phase is, or the one of this number. */
  readonly who: "there" | number;
  readonly what: Harm | Event;
}

const PHASES: readonly Phase[] = [
  ...STAGE_PHASES.map((name): Phase => `Stage.${name}`),
  ...REPLICA_PHASES.map((name): Phase => `Replica.${name}`),
  ...DEVICE_PHASES.map((name): Phase => `Device.${name}`),
];
/** Phases that every run comes to, again and again. */
export const STEADY: readonly Phase[] = [
  ...(
    ["train", "train", "commit", "keep", "replicate", "forgetBefore", "evaluate", "state", "recall"] as const
  ).map((name): Phase => `Stage.${name}`),
  ...(["put", "complete", "keep"] as const).map((name): Phase => `Replica.${name}`),
];
/** Phases of a recovery: where the second fault strikes best. */
export const RECOVERING: readonly Phase[] = [
  ...(["retire", "holds", "fetch", "recall", "load", "connect", "keep", "hold", "kept"] as const).map(
    (name): Phase => `Stage.${name}`,
  ),
  ...(["host", "end", "attach", "describe"] as const).map((name): Phase => `Device.${name}`),
];

export interface Drawing {
  readonly devices: number;
  readonly steps: number;
  /** Stages that go through each of them, at least. */
  readonly workers: number;
  /** Whether devices may come. */
  readonly waits: boolean;
}

export function drawFaults(random: Random, drawing: Drawing): Fault[] {
  const { devices, waits } = drawing;
  const count = pick(random, [1, 1, 2, 2, 3, 3, 4, 6]);
  return Array.from({ length: count }, (_, i): Fault => {
    const when =
      i === 0
        ? pick(random, [during(random, drawing), at(random, STEADY, 4), at(random, STEADY, 12)])
        : pick(random, [
            ...[timed(random, 300), timed(random, 30), { afterMs: 0 }],
            ...[at(random, RECOVERING, 1), at(random, RECOVERING, devices), at(random, PHASES, 4)],
          ]);
    const who = "phase" in when && random.next() < 0.6 ? "there" : random.integer(devices);
    const isHarm = random.next() < 0.6;
    return { when, who, what: isHarm ? drawHarm(random, devices) : drawEvent(random, waits) };
  });
}

/** Behind the fault before it. */
export function timed(random: Random, ms: number): Moment {
  return { afterMs: random.next() * ms };
}

/** Somewhere in the run; before its end, whatever machines it is on. */
export function during(random: Random, { steps, workers }: Drawing): Moment {
  const delayMs = random.next() * pick(random, [1, 10, 100]);
  return { phase: "Stage.train", count: 1 + random.integer(steps * workers), delayMs };
}

export function at(random: Random, phases: readonly Phase[], most: number): Moment {
  const count = 1 + random.integer(most);
  return { phase: pick(random, phases), count, delayMs: pick(random, [0, 0, 1, 10]) };
}

function drawEvent(random: Random, waits: boolean): Event {
  const coming = waits ? (["return", "return", "join", "join", "blackout"] as const) : [];
  const kind = pick(random, [
    "leave",
    "migrate",
    "migrate",
    "coordinator",
    "coordinator",
    ...coming,
  ] as const);
  switch (kind) {
    case "migrate":
      return { kind, number: random.integer(1000) };
    case "blackout":
      return { kind, silent: random.next() < 0.5 };
    case "coordinator":
      return { kind, silent: random.next() < 0.5, afterMs: pick(random, [10, 300, 4000, 30_000]) };
    default:
      return { kind };
  }
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
      return { kind, times: pick(random, [3, 30]), ms: pick(random, [null, 20, 300]) };
    case "cut":
      return { kind, other };
    case "block":
      return { kind, other, ms: pick(random, [20, 300, 4000]) };
    default:
      return { kind };
  }
}
