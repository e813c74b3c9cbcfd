/**
 * What `bench strategies` finds, as plain data: what is written as JSON, and all that its report is made from. Times are
 * milliseconds and figures are of one training step unless a name says otherwise.
 */

import type { Plan } from "../../actors/scheduler/plan.ts";
import type { Span } from "../../actors/scheduler/timeline.ts";

/** Changes with the meaning of what is below. */
export const RESULT_FORMAT = 2;

export interface StrategiesResult {
  readonly format: typeof RESULT_FORMAT;
  readonly date: string;
  readonly machine: string;
  readonly versions: string;
  readonly command: string;
  readonly scenarios: readonly ScenarioResult[];
  /** Scenarios that gave nothing, and why. */
  readonly failures: readonly ScenarioFailure[];
}

export interface ScenarioFailure {
  readonly scenario: string;
  readonly why: string;
}

export interface ScenarioResult {
  readonly name: string;
  readonly about: string;
  readonly model: { readonly name: string; readonly about: string; readonly kind: string };
  /** How devices are emulated, in a word and in lines. */
  readonly testbed: string;
  readonly aboutTestbed: readonly string[];
  readonly devices: readonly ScenarioDeviceResult[];
  /** Samples in a step, and in how many micro-batches. */
  readonly batch: number;
  readonly microBatches: number;
  readonly warmUp: number;
  readonly steps: number;
  readonly repeats: number;
  /** Of each step of a repeat, warm-up included, on one device that emulates nothing. */
  readonly referenceLosses: readonly number[];
  readonly strategies: readonly StrategyResult[];
  /** What the simulator says of the same devices on other lines, from their measured profiles. */
  readonly energy: readonly EnergyPrediction[];
}

/** The same devices with all lines of one rate, planned anew for the least time. */
export interface EnergyPrediction {
  readonly megabits: number;
  /** By strategy; null where there is no plan. Modelled from predicted times and bytes. */
  readonly joulesPerSample: Readonly<Record<string, number | null>>;
}

export interface ScenarioDeviceResult {
  readonly name: string;
  readonly class: string;
  readonly megabits: number;
  readonly latencyMs: number;
  /** What training may take of it. */
  readonly memoryBytes: number;
  /** Its part of one processor. */
  readonly share: number;
}

/**
 * What a strategy is here for: to be compared, as what the planner chooses, or as what others would do. Those with other
 * semantics than one device's are told, and judge nobody.
 */
export type StrategyRole = "strategy" | "planner" | "rival" | "other semantics";

export interface StrategyResult {
  readonly name: string;
  readonly role: StrategyRole;
  /** Null where there is none. */
  readonly plan: Plan | null;
  /** Why it cannot run here; null where it can. */
  readonly refused: string | null;
  /** Why it was not run though it could be, or why it was stopped; null where it ran. */
  readonly skipped: string | null;
  /** The strategy that has the same plan and was measured in this one's place. */
  readonly sameAs: string | null;
  readonly measured: Measured | null;
}

export interface Measured {
  /** Median over all measured steps of all repeats. */
  readonly stepMs: number;
  /** By repeat. */
  readonly steps: readonly (readonly number[])[];
  readonly samplesPerSecond: number;
  /** By the plan, from the profile that it was made from. */
  readonly predictedStepMs: number;
  /** |predicted - measured| / measured. */
  readonly predictionError: number;
  /** Largest |loss - reference| / |reference| over the steps. */
  readonly lossDifference: number;
  readonly weightsDifference: WeightsDifference;
  /** Idle share of the used devices' time, 0 … 1. */
  readonly bubble: number;
  readonly predictedBubble: number;
  /** Of the devices that are used. */
  readonly devices: readonly MeasuredDevice[];
  /** Of all of them, from their classes' figures. */
  readonly modelledJoulesPerSample: number;
  /** The step whose time is nearest to the median; milliseconds from its beginning. */
  readonly timeline: readonly Span[];
  readonly workerNames: readonly string[];
}

/** Of weights from one device's; each of the tensor in which it is largest. */
export interface WeightsDifference {
  /** After the first step, ‖a - b‖ of a tensor, as a part of ‖b‖. */
  readonly firstByNorm: number;
  /** The same after the last. */
  readonly byNorm: number;
  /** After the last, |a - b| of any weight, as a part of the largest weight of its tensor. */
  readonly byElement: number;
}

export interface MeasuredDevice {
  readonly name: string;
  /** Through its line. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly busyMs: number;
  /** How much of a step this machine had not computed in time what the emulated device had; null where nobody knows. */
  readonly lateMs: number | null;
  /** The most that its process has had resident; null where the system does not tell for one run. */
  readonly peakBytes: number | null;
  /** By the plan, for training. */
  readonly predictedMemoryBytes: number;
  readonly modelledJoules: number;
}

export class ResultError extends Error {
  readonly code = "RESULT";
  override readonly name = "ResultError";
}

/** A result from its JSON. @throws ResultError for anything else. */
export function readResult(text: string): StrategiesResult {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch (error) {
    throw new ResultError(`a result of bench strategies is JSON: ${(error as Error).message}`);
  }
  const { format, scenarios } = (found ?? {}) as Partial<StrategiesResult>;
  if (format !== RESULT_FORMAT || !Array.isArray(scenarios)) {
    throw new ResultError(
      `a result of bench strategies has format ${RESULT_FORMAT} and scenarios, this has format ${format}: record it again`,
    );
  }
  return found as StrategiesResult;
}
