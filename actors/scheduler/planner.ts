/**
 * Choosing a plan: from measured profiles, by pure functions, so that the same input gives the same plan. Choosing is done
 * by prediction: every candidate is partitioned, simulated, and compared by its step time.
 */

import {
  type DeviceInfo,
  linkBetween,
  type Profile,
  programMemoryBytes,
  type SegmentCost,
  type StageCost,
  stageCost,
} from "./cost.ts";
import { partition, profileOf } from "./partition.ts";
import type { Plan, PlanMember, PlanStage, Strategy } from "./plan.ts";
import { PlanError } from "./plan-error.ts";
import type { RunCost } from "./run-cost.ts";
import { chainShape, SCHEDULES, type ScheduleName } from "./schedule.ts";
import { type Simulation, simulate } from "./simulate.ts";

export interface PlanOptions {
  /** "single", "pipeline" or "auto"; text, because it comes from people. */
  readonly strategy: string;
  /** A name in `SCHEDULES`. */
  readonly schedule: string;
  readonly microBatches: number;
  /** Keep a stage's input only, and repeat its forward pass when going backward. */
  readonly recompute: boolean;
  /** With `recompute`, bytes of each micro-batch that a stage may keep all the same, besides its input; else 0. */
  readonly stashBytes?: number;
}

export interface PlanRequest {
  readonly segments: readonly SegmentCost[];
  /** In pipeline order. */
  readonly devices: readonly DeviceInfo[];
  readonly profile: Profile;
  readonly options: PlanOptions;
}

const STRATEGIES = ["auto", "single", "pipeline"];

/** @throws PlanError in one line: an unknown or unavailable option, more devices than segments, too little memory. */
export function makePlan(request: PlanRequest): Plan {
  const { devices, options } = request;
  const schedule = checkOptions(request);
  const candidates = new Candidates(request, schedule);
  switch (options.strategy) {
    case "single": {
      const chosen = fastest(devices.map((device) => candidates.attempt([device])));
      return candidates.plan("single", chosen, (device) =>
        candidates.attempt([device]) instanceof PlanError
          ? "left out: the model does not fit its memory"
          : `left out: the strategy is single and ${chosen.devices[0]!.name} is the fastest`,
      );
    }
    case "pipeline": {
      const chosen = fastest([candidates.attempt(devices)]);
      return candidates.plan("pipeline", chosen, () => "left out");
    }
    default:
      return automatic(request, candidates);
  }
}

/** Each device alone, then pipelines of the 2, 3, … fastest in the given order; the first of the quickest wins. */
function automatic(request: PlanRequest, candidates: Candidates): Plan {
  const { devices, segments, profile } = request;
  const bySpeed = [...devices].sort((a, b) => totalMs(profile, a) - totalMs(profile, b));
  const attempts = devices.map((device) => candidates.attempt([device]));
  for (let count = 2; count <= Math.min(devices.length, segments.length); count++) {
    const team = new Set(bySpeed.slice(0, count));
    attempts.push(candidates.attempt(devices.filter((device) => team.has(device))));
  }
  const chosen = fastest(attempts);
  return candidates.plan(chosen.devices.length === 1 ? "single" : "pipeline", chosen, (device) => {
    const withIt = attempts.filter(
      (a): a is Candidate => !(a instanceof PlanError) && a.devices.includes(device),
    );
    if (withIt.length === 0) return "left out: no share that includes it fits";
    const stepMs = Math.min(...withIt.map((a) => a.simulation.makespanMs));
    return `left out: ${ms(stepMs)} a step with it, ${ms(chosen.simulation.makespanMs)} without`;
  });
}

function totalMs(profile: Profile, device: DeviceInfo): number {
  const { forwardMs, backwardMs } = profileOf(profile, device);
  return [...forwardMs, ...backwardMs].reduce((a, b) => a + b, 0);
}

/** @throws the first PlanError when no attempt succeeded. */
function fastest(attempts: readonly (Candidate | PlanError)[]): Candidate {
  let best: Candidate | undefined;
  for (const attempt of attempts) {
    if (attempt instanceof PlanError) continue;
    if (!best || attempt.simulation.makespanMs < best.simulation.makespanMs) best = attempt;
  }
  if (!best) throw attempts[0]!;
  return best;
}

/** A share of the model among some of the devices, and how a step of it would go. */
interface Candidate {
  readonly devices: readonly DeviceInfo[];
  readonly stages: readonly PlanStage[];
  readonly forwardOnly: number;
  readonly simulation: Simulation;
}

class Candidates {
  private readonly request: PlanRequest;
  private readonly schedule: ScheduleName;

  constructor(request: PlanRequest, schedule: ScheduleName) {
    this.request = request;
    this.schedule = schedule;
  }

  /** The best share among these devices, or why there is none. */
  attempt(devices: readonly DeviceInfo[]): Candidate | PlanError {
    try {
      return this.share(devices);
    } catch (error) {
      if (error instanceof PlanError) return error;
      throw error;
    }
  }

  private share(devices: readonly DeviceInfo[]): Candidate {
    const { segments, profile, options } = this.request;
    const { microBatches } = options;
    const { schedule } = this;
    const { ranges } = partition({
      segments,
      devices,
      profile,
      schedule,
      microBatches,
      ...{ recompute: options.recompute, stashBytes: options.stashBytes ?? 0 },
    });
    const untrained = segments.findIndex(({ trained = true }, i) => trained || i === segments.length - 1);
    const forwardOnly = ranges.filter(({ to }) => to <= untrained).length;
    const programs = SCHEDULES[schedule](chainShape(devices.length, microBatches, forwardOnly));
    const costs: StageCost[] = [];
    const stages = ranges.map(({ from, to }, stage): PlanStage => {
      const device = devices[stage]!;
      const recompute = options.recompute && stage < devices.length - 1;
      const cost = stageCost(segments, profileOf(profile, device), from, to, recompute, options.stashBytes);
      costs.push(cost);
      const { forwardMs, backwardMs, parameterBytes } = cost;
      const memoryBytes = programMemoryBytes(cost, programs[stage]!);
      const { id, name } = device;
      const member: PlanMember = {
        ...{ device: id, deviceName: name, share: 1, microBatches: [...Array(microBatches).keys()] },
        ...{ forwardMs, backwardMs, parameterBytes, memoryBytes },
      };
      return { stage, ranges: [{ from, to }], sharing: null, members: [member], recompute };
    });
    const simulation = simulate(programs, pipelineRunCost(devices, costs, profile));
    return { devices, stages, forwardOnly, simulation };
  }

  plan(strategy: Strategy, chosen: Candidate, leftOut: (device: DeviceInfo) => string): Plan {
    const { segments, devices, options } = this.request;
    const { stages, forwardOnly, simulation } = chosen;
    return {
      digest: digest([segments, devices.map(({ id }) => id), options]),
      strategy,
      schedule: this.schedule,
      microBatches: options.microBatches,
      stages,
      forwardOnly,
      localSteps: 1,
      codecs: { activations: null, gradients: null },
      devices: devices.map((device) => {
        const stage = stages.find(({ members }) => members.some((member) => member.device === device.id));
        const reason = stage ? used(stage, stages, segments) : leftOut(device);
        return { id: device.id, name: device.name, used: stage !== undefined, reason };
      }),
      predictedStepMs: simulation.makespanMs,
      bubbleFraction: simulation.bubbleFraction,
      predictedJoules: null,
    };
  }
}

/** Stage costs and links, as the simulator wants them. */
export function pipelineRunCost(
  devices: readonly DeviceInfo[],
  costs: readonly StageCost[],
  profile: Profile,
): RunCost {
  return {
    chunks: costs.map(({ forwardMs, backwardMs, stepMs, outputBytes }) => [
      { forwardMs, backwardMs, stepMs, outputBytes, gradientBytes: 0 },
    ]),
    link: (from, to) => linkBetween(profile, devices[from]!.id, devices[to]!.id),
    ...(profile.cores === undefined ? {} : { cores: profile.cores }),
  };
}

function used(stage: PlanStage, stages: readonly PlanStage[], segments: readonly SegmentCost[]): string {
  const work = ({ members }: PlanStage) => Math.max(...members.map((m) => m.forwardMs + m.backwardMs));
  const held = stage.ranges.reduce((sum, { from, to }) => sum + to - from, 0);
  const slowest = stages.length > 1 && stages.every((other) => work(other) <= work(stage));
  const share = `holds ${held} of ${segments.length} segments`;
  return slowest ? `${share}, the slowest stage` : share;
}

function ms(value: number): string {
  return `${value.toFixed(1)} ms`;
}

function checkOptions({ segments, devices, profile, options }: PlanRequest): ScheduleName {
  const { strategy, schedule, microBatches } = options;
  if (!STRATEGIES.includes(strategy)) {
    throw new PlanError(`strategy "${strategy}" is not available, use one of ${STRATEGIES.join(", ")}`);
  }
  if (!Object.hasOwn(SCHEDULES, schedule)) {
    throw new PlanError(
      `schedule "${schedule}" is not available, use one of ${Object.keys(SCHEDULES).join(", ")}`,
    );
  }
  if (!Number.isInteger(microBatches) || microBatches < 1) {
    throw new PlanError(`${microBatches} micro-batches were asked for, it takes a whole number from 1 up`);
  }
  if (devices.length === 0) throw new PlanError("no devices to plan for, at least 1 is needed");
  const ids = new Set<string>();
  for (const device of devices) {
    if (ids.has(device.id)) throw new PlanError(`two devices have the id ${device.id}`);
    ids.add(device.id);
    const { forwardMs, backwardMs, stepMs } = profileOf(profile, device);
    for (const times of [forwardMs, backwardMs, stepMs]) {
      if (times.length !== segments.length) {
        throw new PlanError(
          `the profile of ${device.name} has times of ${times.length} segments, the model has ${segments.length}`,
        );
      }
    }
  }
  return schedule as ScheduleName;
}

/** FNV-1a, 64 bits, over the JSON text: tells inputs apart, protects against nobody. */
function digest(value: unknown): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(JSON.stringify(value))) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, "0");
}
