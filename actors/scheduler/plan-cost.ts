/**
 * What a plan costs, from measured profiles: the numbers that the simulator wants (`RunCost`), and what each worker is to
 * hold in memory. Arithmetic over a profile; nothing is measured here, and nothing is chosen.
 *
 * Memory is what Asteroid counts (Ye et al., MobiCom 2024): parameters, gradients and the optimiser's state; the stashes
 * of the most micro-batches in flight; and what a pass needs while it runs. With room for copies there is what is kept for
 * the case that somebody is lost: of what was sent, two steps, as where copies are made of every step.
 */

import type { ShardKind } from "../../nn/shards/plan.ts";
import { tensorCodec } from "../../protocols/codecs/compressed.ts";
import { OWN_COPIES } from "../recovery/room.ts";
import { mostUpdates } from "../recovery/updates.ts";
import {
  type DeviceInfo,
  type DeviceProfile,
  heldBytes,
  jointBytes,
  type LinkProfile,
  linkBetween,
  type Profile,
  type SegmentCost,
  type StageCost,
  stageCost,
} from "./cost.ts";
import { mayDeal } from "./dealt.ts";
import { profileOf } from "./partition.ts";
import { chunksOf, isSharded, type Plan, planPrograms, type Worker, workersOf } from "./plan.ts";
import { PlanError } from "./plan-error.ts";
import { isBackward, peakInFlight, type StageProgram } from "./program.ts";
import type { ChunkCost, NetworkInterface, RunCost } from "./run-cost.ts";
import { isAsynchronous } from "./schedule.ts";
import { mostSent } from "./simulate/collective.ts";
import { isRepeatable } from "./specs.ts";
import { weightVersions } from "./weight-versions.ts";

/** What plans are made from. */
export interface CostInputs {
  readonly segments: readonly SegmentCost[];
  readonly devices: readonly DeviceInfo[];
  readonly profile: Profile;
  /** With recomputation, bytes of each micro-batch that a chunk may keep all the same, besides its input; else 0. */
  readonly stashBytes?: number;
  /** Of what each stage holds, with room on other devices: with any, the run goes on when some are lost. As the plan has it when left out. */
  readonly copies?: number;
}

/** What one worker does and holds. */
export interface WorkerCost {
  readonly chunks: readonly ChunkCost[];
  readonly parameterBytes: number;
  readonly memoryBytes: number;
  /** Of each micro-batch in flight. */
  readonly keptBytes: number;
  /** Of one copy of what training changes here. */
  readonly copyBytes: number;
  /** Of a step's gradients, where copies can be made by those and are larger; else null. */
  readonly gradientBytes: number | null;
  /** Of the memory, what it keeps of what it has sent, for whoever takes a lost place. */
  readonly logBytes: number;
}

export interface PlanCost {
  readonly programs: readonly StageProgram[];
  readonly run: RunCost;
  /** By worker. */
  readonly workers: readonly WorkerCost[];
  /** Of a step, beside what the simulator sees: to begin it and to commit it. */
  readonly controlMs: number;
}

/** @throws PlanError for a device without a profile, and for sharing that a segment does not allow. */
export function planCost(plan: Plan, inputs: CostInputs): PlanCost {
  const programs = planPrograms(plan);
  const workers = workersOf(plan);
  const positions = chunksOf(plan).length;
  const { copies = plan.copies?.count ?? 0 } = inputs;
  const kept = {
    summands: copies > 0 && mayDeal(plan),
    sent: copies > 0 && workers.length > 1 && isRepeatable(plan) && !isAsynchronous(plan.schedule),
  };
  const costs = workers.map((worker, i) => workerCost(worker, programs[i]!, plan, inputs, positions, kept));
  const { cores, controlMs = {} } = inputs.profile;
  const roundTrips = workers.map(({ member }) => controlMs[member.device] ?? 0);
  return {
    programs,
    workers: costs,
    controlMs: 2 * Math.max(0, ...roundTrips),
    run: {
      chunks: costs.map(({ chunks }) => chunks),
      link: linksOf(plan, workers, inputs.profile),
      ...(plan.codecs.gradients === null ? {} : { encodesSums: true }),
      ...(cores === undefined ? {} : { cores }),
      ...(inputs.profile.hosts === undefined ? {} : { interfaces: interfacesOf(workers, inputs.profile) }),
    },
  };
}

/** Members who train on their own keep parameters as they were when they last met, and the outer momentum. */
const OUTER_COPIES = 2;

/** Of which what was sent is kept: the one under way, and the one before it, of which copies are on their way. */
const SENT_STEPS = 2;

/** What is kept for the case that somebody is lost, besides copies: gradients as they were, and what was sent. */
interface KeptForLosses {
  readonly summands: boolean;
  readonly sent: boolean;
}

function workerCost(
  worker: Worker,
  program: StageProgram,
  plan: Plan,
  { segments, profile, stashBytes = 0 }: CostInputs,
  count: number,
  kept: KeptForLosses,
): WorkerCost {
  const { stage, member, positions } = worker;
  const times = profileOf(profile, { id: member.device, name: member.deviceName });
  const part = partOf(worker, segments);
  const costs = stage.ranges.map(({ from, to }, chunk) => {
    const joint = isJoint(program, chunk);
    const recompute = stage.recompute && !joint;
    return { joint, cost: stageCost(segments, times, from, to, recompute, stashBytes, part) };
  });
  const chunks = costs.map(({ joint, cost }, chunk): ChunkCost => {
    const { forwardMs, backwardInputMs, backwardWeightMs, stepMs, outputBytes } = cost;
    const apart = backwardInputMs !== undefined && backwardWeightMs !== undefined;
    const collective = part && {
      forwardCollectives: cost.forwardCollectives,
      backwardCollectives: cost.backwardCollectives,
    };
    return {
      forwardMs,
      backwardMs: joint ? Math.max(0, cost.jointMs - forwardMs) : cost.backwardMs,
      ...(apart ? { backwardInputMs, backwardWeightMs } : {}),
      stepMs,
      outputBytes: positions[chunk] === count - 1 ? 0 : outputBytes * codecRatio(plan.codecs.activations),
      gradientBytes: summedBytes(worker, cost) * codecRatio(plan.codecs.gradients),
      ...(stage.sharing === "local" && plan.localSteps > 1 ? { sumEvery: plan.localSteps } : {}),
      ...collective,
    };
  });
  const sum = (of: (cost: StageCost) => number) => costs.reduce((total, { cost }) => total + of(cost), 0);
  const working = costs.reduce((most, { cost }) => Math.max(most, cost.workingBytes), 0);
  const stashes = peakStash(
    program,
    costs.map(({ cost }) => cost.keptBytes),
  );
  const ends = costs.reduce((all, { joint, cost }) => all + (joint ? jointBytes(cost) : 0), 0);
  const versions = weightVersions(program);
  const more = stage.sharing === "local" ? OUTER_COPIES : 0;
  // Gradients as they were before they were added up.
  const summands = kept.summands && stage.members.length > 1 ? 1 : 0;
  const besides = more + summands;
  const copies = costs.reduce((all, { cost }, i) => all + (versions[i]! + besides) * cost.parameterBytes, 0);
  const copyBytes = sum(({ parameterBytes, stateBytes }) => (1 + more) * parameterBytes + stateBytes);
  const trained = sum(({ parameterBytes }) => parameterBytes);
  const isFollowed = stage.sharing !== "local" && !isAsynchronous(plan.schedule);
  const gradientBytes = isFollowed && mostUpdates(copyBytes, trained) > 0 ? trained : null;
  const sent = kept.sent ? sum((cost) => sentBytes(worker, cost)) : 0;
  // As much of earlier steps as copies may take, and no more: `Stage.train`.
  const logBytes = sent + Math.min((SENT_STEPS - 1) * sent, OWN_COPIES * copyBytes);
  return {
    chunks,
    parameterBytes: trained,
    keptBytes: sum(({ keptBytes }) => keptBytes),
    memoryBytes: sum(heldBytes) + stashes + working + copies + ends + logBytes,
    copyBytes,
    gradientBytes,
    logBytes,
  };
}

/** In a step, of a chunk: activations and their gradients, and what goes to the stage's members as it adds gradients up. */
function sentBytes({ stage, member }: Worker, cost: StageCost): number {
  const passed = member.microBatches.length * (cost.outputBytes + cost.inputBytes);
  const sum = { op: "all-reduce", bytes: cost.parameterBytes, ranks: stage.members.length } as const;
  return passed + Math.ceil(mostSent(sum));
}

function partOf({ stage, member }: Worker, segments: readonly SegmentCost[]) {
  if (!isSharded(stage.sharing)) return undefined;
  const kind = stage.sharing as ShardKind;
  for (const { from, to } of stage.ranges) {
    for (let i = from; i < to; i++) {
      const { name, sharded } = segments[i]!;
      const most = sharded?.[kind]?.mostRanks ?? 1;
      if (most >= stage.members.length) continue;
      throw new PlanError(
        `stage ${stage.stage} shares ${name} by ${kind} among ${stage.members.length} devices, ` +
          (most > 1 ? `it divides among ${most} at most` : "which cannot be divided so"),
      );
    }
    const own = segments.slice(from, to);
    if (own.every(({ sharded }) => (sharded?.[kind]?.dividedWork ?? 0) === 0)) {
      const names = own.map(({ name }) => name).join(", ");
      throw new PlanError(
        `stage ${stage.stage} shares ${names} by ${kind}, in which there is nothing to divide`,
      );
    }
  }
  const total = stage.members.reduce((sum, { share }) => sum + share, 0);
  return { kind, share: member.share / total };
}

/** Of a chunk's gradients, what goes round among the members of the stage each time. */
function summedBytes({ stage }: Worker, cost: StageCost): number {
  if (stage.members.length === 1) return 0;
  return isSharded(stage.sharing) ? cost.sharedGradientBytes : cost.parameterBytes;
}

/** Whether the program runs forward and backward pass of this chunk as one. */
function isJoint(program: StageProgram, chunk: number): boolean {
  return program.operations.some(
    (operation) => operation.op === "forward-backward" && (operation.chunk ?? 0) === chunk,
  );
}

/** The most that stashes take at once, `kept[chunk]` bytes for each micro-batch in flight. */
export function peakStash(program: StageProgram, kept: readonly number[]): number {
  if (!program.operations.some(isBackward)) return peakInFlight(program) * Math.max(0, ...kept);
  let bytes = 0;
  let peak = 0;
  for (const operation of program.operations) {
    if (operation.op === "step") break;
    const own = kept[operation.chunk ?? 0]!;
    switch (operation.op) {
      case "forward":
        bytes += own;
        peak = Math.max(peak, bytes);
        break;
      case "forward-backward":
        peak = Math.max(peak, bytes + own);
        break;
      case "backward":
      case "backward-weight":
        bytes -= own;
        break;
    }
  }
  return peak;
}

/**
 * Links by worker. Encoding and decoding take their time before and after a message; as what they take grows with its
 * bytes, they make the link narrower.
 */
function linksOf({ codecs }: Plan, workers: readonly Worker[], profile: Profile) {
  return (from: number, to: number): LinkProfile => {
    const [sender, receiver] = [workers[from]!, workers[to]!];
    const link = linkBetween(profile, sender.member.device, receiver.member.device);
    const codec = sender.stage === receiver.stage ? codecs.gradients : codecs.activations;
    if (codec === null) return link;
    const msPerByte =
      (codecMs(profile.devices[sender.member.device], codec) +
        codecMs(profile.devices[receiver.member.device], codec)) /
      2;
    return { ...link, bytesPerMs: 1 / (1 / link.bytesPerMs + msPerByte / codecRatio(codec)) };
  };
}

/** By device, as wide as the widest of its links to other machines. */
type Widths = ReadonlyMap<string, { readonly up: number; readonly down: number; readonly machine: number }>;
const known = new WeakMap<Profile, Widths>();

function interfacesOf(workers: readonly Worker[], profile: Profile): NetworkInterface[] {
  let widths = known.get(profile);
  if (!widths) {
    widths = widthsOf(profile);
    known.set(profile, widths);
  }
  return workers.map(({ member }) => {
    const { up, down, machine } = widths.get(member.device)!;
    return { machine, upBytesPerMs: up, downBytesPerMs: down };
  });
}

function widthsOf({ links, hosts = {} }: Profile): Widths {
  const machines = [...new Set(Object.values(hosts))];
  const numbers = new Map(machines.map((host, i) => [host, i]));
  const ids = Object.keys(hosts);
  const up = new Float64Array(machines.length);
  const down = new Float64Array(machines.length);
  const own = ids.map((id) => numbers.get(hosts[id]!)!);
  ids.forEach((from, i) => {
    const row = links[from];
    if (!row) return;
    ids.forEach((to, j) => {
      const [sender, receiver] = [own[i]!, own[j]!];
      const width = sender === receiver ? 0 : (row[to]?.bytesPerMs ?? 0);
      if (width > up[sender]!) up[sender] = width;
      if (width > down[receiver]!) down[receiver] = width;
    });
  });
  return new Map(ids.map((id, i) => [id, { up: up[own[i]!]!, down: down[own[i]!]!, machine: own[i]! }]));
}

/** To encode and decode one byte of f32. */
function codecMs(times: DeviceProfile | undefined, codec: string): number {
  return (times?.codecMsPerMb?.[codec] ?? 0) / 1e6;
}

const RATIO_SAMPLE = 1 << 14;
const ratios = new Map<string, number>();

/** What part of its bytes a tensor takes under a codec; 1 for none. @throws TensorError for an unknown one. */
export function codecRatio(codec: string | null): number {
  if (codec === null) return 1;
  let ratio = ratios.get(codec);
  if (ratio === undefined) {
    const sample = Float32Array.from({ length: RATIO_SAMPLE }, (_, i) => Math.sin(i));
    ratio = tensorCodec(codec).encode(sample).byteLength / sample.byteLength;
    ratios.set(codec, ratio);
  }
  return ratio;
}
