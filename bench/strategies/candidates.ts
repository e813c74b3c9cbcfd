/**
 * The plans that are measured in a scenario, by name: every strategy as the planner makes it, its own choice among them
 * all, and what others would do, who know less. What cannot be run has a reason instead of a plan.
 *
 * The three rivals are those that Asteroid compares itself with (Ye et al., MobiCom 2024): a pipeline of equal parts,
 * data parallelism with equal shares, and hybrid planning that takes all devices for alike. They are planned from a profile
 * in which every device is the mean of all and every link too; only memory they know.
 */

import type { DeviceProfile, LinkProfile, Profile } from "../../actors/scheduler/cost.ts";
import type { Plan } from "../../actors/scheduler/plan.ts";
import { planCost } from "../../actors/scheduler/plan-cost.ts";
import { PlanError } from "../../actors/scheduler/plan-error.ts";
import { makePlan, type PlanOptions, type PlanRequest } from "../../actors/scheduler/planner.ts";
import { simulate } from "../../actors/scheduler/simulate.ts";
import type { StrategyRole } from "./result.ts";

export interface Candidate {
  readonly name: string;
  readonly role: StrategyRole;
  readonly plan: Plan | null;
  readonly refused: string | null;
}

interface Kind {
  readonly role: StrategyRole;
  readonly strategy: string;
  readonly schedule: string;
  /** Planned as if all devices were alike. */
  readonly blind?: boolean;
  readonly localSteps?: number;
}

const kind = (strategy: string, schedule = "1f1b"): Kind => ({ role: "strategy", strategy, schedule });

export const KINDS = {
  single: kind("single"),
  data: kind("data"),
  tensor: kind("tensor"),
  sequence: kind("sequence"),
  "tensor-sequence": kind("tensor-sequence"),
  gpipe: kind("pipeline", "gpipe"),
  "1f1b": kind("pipeline", "1f1b"),
  "eager-1f1b": kind("pipeline", "eager-1f1b"),
  interleaved: kind("pipeline", "interleaved"),
  "zero-bubble": kind("pipeline", "zero-bubble"),
  hybrid: kind("hybrid", "auto"),
  auto: { ...kind("auto", "auto"), role: "planner" },
  "even-split": { ...kind("pipeline"), role: "rival", blind: true },
  "equal-data": { ...kind("data"), role: "rival", blind: true },
  "blind-hybrid": { ...kind("hybrid", "auto"), role: "rival", blind: true },
  pipedream: { ...kind("pipeline", "pipedream"), role: "other semantics" },
  local: { ...kind("local"), role: "other semantics", localSteps: 4 },
} as const satisfies Record<string, Kind>;

export type StrategyName = keyof typeof KINDS;

/** Those that are measured unless others are asked for: all that have one device's result. */
export const DEFAULT_STRATEGIES: readonly StrategyName[] = (Object.keys(KINDS) as StrategyName[]).filter(
  (name) => KINDS[name].role !== "other semantics",
);

export function isStrategyName(name: string): name is StrategyName {
  return Object.hasOwn(KINDS, name);
}

/** What plans are made from: a request without its options. */
export type Inputs = Omit<PlanRequest, "options"> & { readonly microBatches: number };

/** The plan of a strategy, or why there is none. */
export function candidate(name: StrategyName, inputs: Inputs): Candidate {
  const { role, strategy, schedule, blind = false, localSteps }: Kind = KINDS[name];
  const options: PlanOptions = {
    ...{ strategy, schedule, microBatches: inputs.microBatches, recompute: false },
    ...(localSteps === undefined ? {} : { localSteps }),
  };
  const { segments, devices } = inputs;
  try {
    const profile = blind ? alike(inputs.profile) : inputs.profile;
    const plan = makePlan({ segments, devices, profile, options });
    const known = blind ? foretold(plan, inputs) : plan;
    const refused = misfit(known, inputs);
    return { name, role, plan: known, refused };
  } catch (error) {
    if (!(error instanceof PlanError)) throw error;
    return { name, role, plan: null, refused: error.message };
  }
}

/** The same plan with what it costs by the true profile. */
export function foretold(plan: Plan, inputs: Inputs): Plan {
  const { programs, run, workers } = planCost(plan, inputs);
  const { makespanMs, bubbleFraction } = simulate(programs, run);
  let worker = 0;
  const stages = plan.stages.map((stage) => ({
    ...stage,
    members: stage.members.map((member) => ({ ...member, memoryBytes: workers[worker++]!.memoryBytes })),
  }));
  return { ...plan, stages, predictedStepMs: makespanMs, bubbleFraction, predictedJoules: null };
}

/** Why it does not fit, naming the first device that is too small. */
function misfit({ stages }: Plan, { devices }: Inputs): string | null {
  const needs = new Map<string, number>();
  for (const { device, memoryBytes } of stages.flatMap(({ members }) => members)) {
    needs.set(device, (needs.get(device) ?? 0) + memoryBytes);
  }
  for (const { id, name, memoryBytes = Number.POSITIVE_INFINITY } of devices) {
    const need = needs.get(id) ?? 0;
    if (need <= memoryBytes) continue;
    const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
    return `${name} would need ${megabytes(need)} and has ${megabytes(memoryBytes)}`;
  }
  return null;
}

/** A profile in which every device and every link is the mean of all. */
export function alike({ devices, links, ...rest }: Profile): Profile {
  const profiles = Object.values(devices);
  const column = (of: (profile: DeviceProfile) => readonly number[]) =>
    of(profiles[0]!).map((_, i) => mean(profiles.map((profile) => of(profile)[i]!)));
  const middle: DeviceProfile = {
    forwardMs: column(({ forwardMs }) => forwardMs),
    backwardMs: column(({ backwardMs }) => backwardMs),
    stepMs: column(({ stepMs }) => stepMs),
    ...(profiles.every(({ jointMs }) => jointMs) && { jointMs: column(({ jointMs }) => jointMs!) }),
  };
  const all = Object.values(links).flatMap((row) => Object.values(row));
  const link: LinkProfile = {
    latencyMs: mean(all.map(({ latencyMs }) => latencyMs)),
    bytesPerMs: mean(all.map(({ bytesPerMs }) => bytesPerMs)),
  };
  const same = <T>(row: Readonly<Record<string, unknown>>, value: T) =>
    Object.fromEntries(Object.keys(row).map((id) => [id, value]));
  return {
    ...rest,
    devices: same(devices, middle),
    links: Object.fromEntries(Object.entries(links).map(([id, row]) => [id, same(row, link)])),
  };
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((a, b) => a + b, 0) / values.length;
}

/**
 * Whether two plans have the same work done by the same devices in the same order.
 * @param kinds by device's id, what it is: one may stand for another of its kind.
 */
export function isSame(a: Plan, b: Plan, kinds: Readonly<Record<string, string>> = {}): boolean {
  const work = ({ schedule, microBatches, stages, localSteps, codecs }: Plan) => {
    /** Devices of a kind by the order in which they come. */
    const seen = new Map<string, number>();
    const kindOf = (id: string) => kinds[id] ?? id;
    const named = new Map<string, string>();
    for (const { device } of stages.flatMap(({ members }) => members)) {
      if (named.has(device)) continue;
      const count = seen.get(kindOf(device)) ?? 0;
      seen.set(kindOf(device), count + 1);
      named.set(device, `${kindOf(device)} ${count}`);
    }
    return [
      // A pipeline of one stage has no schedule.
      stages.length > 1 ? schedule : null,
      ...[microBatches, localSteps, codecs],
      stages.map(({ ranges, sharing, recompute, members }) => [
        ...[ranges, sharing, recompute],
        members.map(({ device, share, microBatches: taken }) => [
          named.get(device),
          sharing === "data" ? taken : share,
        ]),
      ]),
    ];
  };
  return JSON.stringify(work(a)) === JSON.stringify(work(b));
}
