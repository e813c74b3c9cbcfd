/**
 * A draft: what a plan decides, without what follows from it. The search makes and changes drafts; `Workshop` makes a
 * plan of one, with its cost, and lets the simulator say how a step of it goes.
 */

import { apportion } from "../../../nn/shards/assign.ts";
import type { ShardKind } from "../../../nn/shards/plan.ts";
import { type DevicePower, joulesOf } from "../../energy/model.ts";
import { OWN_COPIES } from "../../recovery/room.ts";
import { changingBytes, type SegmentCost } from "../cost.ts";
import { isSharded, type Plan, type PlanCodecs, type PlanMember, type Sharing } from "../plan.ts";
import { type CostInputs, type PlanCost, planCost } from "../plan-cost.ts";
import { PlanError } from "../plan-error.ts";
import { ProgramError } from "../program.ts";
import type { ScheduleName } from "../schedule.ts";
import { type Prediction, predict } from "../simulate.ts";
import { copiesOf } from "./copies.ts";
import { deal, sharesBySpeed } from "./deal.ts";
import { type InFlight, mostDealt } from "./group.ts";
import { type Objective, score } from "./objective.ts";
import { sentBytes } from "./traffic.ts";

export interface DraftStage {
  readonly sharing: Sharing | null;
  /** Places of its devices among those of the request. */
  readonly members: readonly number[];
  /** By member. Null: dealt by speed and memory. */
  readonly dealt: readonly (readonly number[])[] | null;
  /** By member, where work inside a micro-batch is shared. Null: by speed. */
  readonly shares: readonly number[] | null;
  readonly recompute: boolean;
}

export interface Draft {
  readonly schedule: ScheduleName;
  readonly stages: readonly DraftStage[];
  /** Where positions begin, and the number of segments. */
  readonly cuts: readonly number[];
  /** The stage of each position. */
  readonly owners: readonly number[];
  readonly codecs: PlanCodecs;
  readonly localSteps: number;
}

/** A draft that can be carried out, and how a step of it goes. */
export interface Outcome {
  readonly draft: Draft;
  /** Without strategy, digest and reasons, which are not the draft's. */
  readonly plan: Plan;
  readonly cost: PlanCost;
  readonly prediction: Prediction;
  readonly joules: number | null;
  /** The less the better. */
  readonly score: number;
}

/** For the search and for dealing; what a plan does need is counted from its programs. */
export function inFlightOf(schedule: ScheduleName, microBatches: number): InFlight {
  if (schedule === "gpipe") return (count, lanesBehind) => (lanesBehind === 0 ? 1 : count);
  const ahead = schedule === "eager-1f1b" ? 2 : 1;
  return (count, lanesBehind) => Math.min(count, 1 + Math.ceil((ahead * lanesBehind * count) / microBatches));
}

/** Workers, or groups of them that work on the same micro-batch. */
export function lanesOf({ sharing, members }: Pick<DraftStage, "sharing" | "members">): number {
  return isSharded(sharing) ? 1 : members.length;
}

export interface WorkshopInputs extends CostInputs {
  readonly microBatches: number;
  readonly objective: Objective;
  /** Of what each stage holds, with room on other devices. */
  readonly copies: number;
}

/** Makes outcomes of drafts, each once. */
export class Workshop {
  readonly inputs: WorkshopInputs;
  /** Events that were simulated: what settling has taken so far. */
  events = 0;
  private readonly known = new Map<string, Outcome | PlanError>();
  private readonly firstTrained: number;

  constructor(inputs: WorkshopInputs) {
    this.inputs = inputs;
    const { segments } = inputs;
    this.firstTrained = segments.findIndex(({ trained = true }, i) => trained || i === segments.length - 1);
  }

  /** How a step of the draft goes, or why it cannot be carried out. */
  outcome(draft: Draft): Outcome | PlanError {
    const key = JSON.stringify(draft);
    let found = this.known.get(key);
    if (!found) {
      found = this.settle(draft);
      this.known.set(key, found);
    }
    return found;
  }

  private settle(draft: Draft): Outcome | PlanError {
    try {
      const bare = this.bare(draft);
      const cost = planCost(bare, this.inputs);
      const tooLarge = this.doesNotFit(bare, cost);
      if (tooLarge) return tooLarge;
      const prediction = predict(cost.programs, cost.run);
      this.events += prediction.events;
      const stepMs = prediction.makespanMs + cost.controlMs;
      const joules = this.joules(bare, cost, prediction, stepMs);
      const plan = withPredictions(bare, cost, prediction, joules);
      const { objective } = this.inputs;
      return {
        draft,
        plan,
        cost,
        prediction,
        joules,
        score: score(objective, stepMs, joules),
      };
    } catch (error) {
      if (error instanceof PlanError) return error;
      // Not every schedule is made for every shape.
      if (error instanceof ProgramError) return new PlanError(error.message);
      throw error;
    }
  }

  /** The plan without predictions. @throws PlanError where micro-batches or shares cannot be dealt. */
  private bare(draft: Draft): Plan {
    const { microBatches, devices } = this.inputs;
    const all = Array.from({ length: microBatches }, (_, i) => i);
    const stages = draft.stages.map((stage, index) => {
      const ranges = draft.owners.flatMap((owner, position) =>
        owner === index ? [{ from: draft.cuts[position]!, to: draft.cuts[position + 1]! }] : [],
      );
      const dealt =
        isSharded(stage.sharing) || stage.members.length === 1 ? null : this.dealt(draft, index, ranges);
      const shares = isSharded(stage.sharing) ? this.shares(stage, ranges) : null;
      const members = stage.members.map((device, rank): PlanMember => {
        const { id, name } = devices[device]!;
        const own = dealt?.[rank] ?? all;
        return {
          ...{ device: id, deviceName: name, microBatches: own },
          share: shares?.[rank] ?? (dealt ? own.length : 1),
          ...{ forwardMs: 0, backwardMs: 0, parameterBytes: 0, memoryBytes: 0 },
        };
      });
      const idle = members.find(({ share }) => !(share > 0));
      if (idle) {
        throw new PlanError(`the others are done with all its share before ${idle.deviceName} is with any`);
      }
      return { stage: index, ranges, sharing: stage.sharing, members, recompute: stage.recompute };
    });
    return {
      ...{ digest: "", strategy: "hybrid", schedule: draft.schedule, microBatches, stages },
      forwardOnly: draft.cuts.slice(1).filter((to) => to <= this.firstTrained).length,
      ...{ localSteps: draft.localSteps, codecs: draft.codecs, devices: [] },
      ...{ predictedStepMs: 0, bubbleFraction: 0, predictedJoules: null },
    };
  }

  private dealt(draft: Draft, index: number, ranges: readonly { from: number; to: number }[]) {
    const stage = draft.stages[index]!;
    if (stage.dealt) return stage.dealt;
    const { microBatches, devices } = this.inputs;
    const behind = draft.stages.slice(index + 1).reduce((sum, each) => sum + lanesOf(each), 0);
    const inFlight = inFlightOf(draft.schedule, microBatches);
    const needs = (count: number) => inFlight(count, behind);
    const members = stage.members.map((device) => ({
      ms: this.passMs(device, ranges, stage.recompute),
      most: mostDealt(microBatches, this.mostInFlight(device, ranges, stage.recompute), needs),
    }));
    const dealt = deal(members, microBatches);
    if (dealt) return dealt;
    const names = stage.members.map((device) => devices[device]!.name).join(", ");
    throw new PlanError(`${names} are too small for the micro-batches in flight of stage ${index}`);
  }

  /** Forward and backward pass of one micro-batch. */
  private passMs(
    device: number,
    ranges: readonly { from: number; to: number }[],
    recompute: boolean,
  ): number {
    const { profile, devices } = this.inputs;
    const { forwardMs, backwardMs } = profile.devices[devices[device]!.id]!;
    let ms = 1e-9;
    for (const { from, to } of ranges) {
      for (let i = from; i < to; i++) ms += forwardMs[i]! * (recompute ? 2 : 1) + backwardMs[i]!;
    }
    return ms;
  }

  private mostInFlight(
    device: number,
    ranges: readonly { from: number; to: number }[],
    recompute: boolean,
  ): number {
    const { segments, devices, stashBytes = 0, copies } = this.inputs;
    const { memoryBytes } = devices[device]!;
    if (memoryBytes === undefined) return Number.POSITIVE_INFINITY;
    let held = 0;
    let kept = 0;
    let working = 0;
    for (const { from, to } of ranges) {
      const own = segments.slice(from, to);
      const stash = own.reduce((sum, each) => sum + each.stashBytes, 0);
      const input = from === 0 ? 0 : segments[from - 1]!.activationBytes;
      held += own.reduce((sum, each) => sum + residentBytes(each), recompute ? stash : 0);
      if (copies > 0) held += OWN_COPIES * own.reduce((sum, each) => sum + changingBytes(each), 0);
      working = own.reduce((most, each) => Math.max(most, each.workingBytes ?? 0), working);
      kept += recompute ? Math.min(stash, input + stashBytes) : stash;
    }
    return kept === 0 ? Number.POSITIVE_INFINITY : Math.floor((memoryBytes - held - working) / kept);
  }

  /** In whole units of what is divided, as they will be given out. */
  private shares(stage: DraftStage, ranges: readonly { from: number; to: number }[]): readonly number[] {
    if (stage.shares) return stage.shares;
    const { segments } = this.inputs;
    const kind = stage.sharing as ShardKind;
    const sharded = ranges.flatMap(({ from, to }) =>
      segments.slice(from, to).map((each) => each.sharded?.[kind]),
    );
    const parts = Math.min(...sharded.map((each) => each?.parts ?? 1));
    if (parts < stage.members.length) throw new PlanError(`${kind} sharing has ${parts} parts to give`);
    const divided = sharded.reduce((sum, each) => sum + (each?.dividedWork ?? 0), 0) / sharded.length;
    const ms = stage.members.map((device) => this.passMs(device, ranges, stage.recompute));
    return apportion(parts, sharesBySpeed(ms, divided));
  }

  private doesNotFit(plan: Plan, cost: PlanCost): PlanError | undefined {
    const { workers } = cost;
    const limits = new Map(this.inputs.devices.map(({ id, memoryBytes }) => [id, memoryBytes]));
    let worker = 0;
    for (const { members } of plan.stages) {
      for (const { device, deviceName } of members) {
        const needed = workers[worker++]!.memoryBytes;
        if (needed > (limits.get(device) ?? Number.POSITIVE_INFINITY)) {
          return new PlanError(`${deviceName} would need ${(needed / 2 ** 20).toFixed(1)} MiB`);
        }
      }
    }
    return this.inputs.copies > 0 ? copiesOf(plan, cost, this.inputs).refused : undefined;
  }

  private joules(plan: Plan, cost: PlanCost, prediction: Prediction, elapsedMs: number): number | null {
    return planJoules(this.inputs, plan, cost, prediction, elapsedMs);
  }
}

/** Joules of a step, of all machines of the plan, each once; null where the power of one of them is unknown. */
export function planJoules(
  { devices, profile: { hosts } }: Pick<CostInputs, "devices" | "profile">,
  plan: Plan,
  cost: PlanCost,
  { makespanMs, idleMs }: Pick<Prediction, "makespanMs" | "idleMs">,
  elapsedMs: number,
): number | null {
  const power = new Map(devices.map((device) => [device.id, device.power]));
  const members = plan.stages.flatMap((stage) => stage.members);
  if (members.some(({ device }) => !power.get(device))) return null;
  const traffic = sentBytes(plan, cost);
  const machines = Map.groupBy(members.keys(), (worker) => {
    const { device } = members[worker]!;
    return hosts?.[device] ?? device;
  });
  let joules = 0;
  for (const workers of machines.values()) {
    const sum = (of: (worker: number) => number) => workers.reduce((all, worker) => all + of(worker), 0);
    const activity = {
      elapsedMs,
      busyMs: sum((worker) => makespanMs - idleMs[worker]!),
      sentBytes: sum((worker) => traffic[worker]!.sentBytes),
      receivedBytes: sum((worker) => traffic[worker]!.receivedBytes),
    };
    joules += joulesOf(power.get(members[workers[0]!]!.device) as DevicePower, activity).joules;
  }
  return joules;
}

/** Held whatever is in flight. */
export function residentBytes({ parameterBytes, stateBytes, frozenBytes = 0 }: SegmentCost): number {
  return 2 * parameterBytes + (stateBytes ?? 2 * parameterBytes) + frozenBytes;
}

/** A plan with what is predicted of it, whatever it says itself. @param joules of a step. */
export function withPredictions(
  plan: Plan,
  cost: PlanCost,
  prediction: Pick<Prediction, "makespanMs" | "bubbleFraction">,
  joules: number | null,
): Plan {
  let worker = 0;
  const stages = plan.stages.map((stage) => ({
    ...stage,
    members: stage.members.map((member) => {
      const { chunks, parameterBytes, memoryBytes } = cost.workers[worker++]!;
      const forwardMs = chunks.reduce((sum, chunk) => sum + chunk.forwardMs, 0);
      const backwardMs = chunks.reduce((sum, chunk) => sum + chunk.backwardMs, 0);
      return { ...member, forwardMs, backwardMs, parameterBytes, memoryBytes };
    }),
  }));
  return {
    ...{ ...plan, stages, predictedStepMs: prediction.makespanMs + cost.controlMs },
    ...{ bubbleFraction: prediction.bubbleFraction, predictedJoules: joules },
  };
}
