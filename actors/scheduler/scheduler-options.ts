/** What a scheduler is asked for, and what it says: no more than types. */

import type { Model } from "../../nn/model.ts";
import type { OptimizerConfig } from "../../nn/optim/optimizer.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Continuity } from "../journal/run-journal.ts";
import type { ProfileCache } from "../profile-cache.ts";
import type { Cause } from "../recovery/decision.ts";
import type { KeepingCost } from "../recovery/keeper.ts";
import type { Restart } from "../recovery/migration.ts";
import type { Called } from "../recovery/roster.ts";
import type { StepReport } from "../stage.ts";
import type { Plan } from "./plan.ts";
import type { PlanOptions } from "./planner.ts";

export interface SchedulerOptions extends PlanOptions {
  readonly optimizer: OptimizerConfig;
  readonly model: Model;
  /** What randomness inside the model is drawn from. */
  readonly seed: number;
  /** Carried out as it is, with nothing measured; its devices' ids are their places in the order they are given in. */
  readonly plan?: Plan;
  /** Milliseconds of runs on each machine to measure its devices; two seconds when left out. */
  readonly profileMs?: number;
  /** Where profiles of earlier runs are; devices are measured every time when left out. */
  readonly profiles?: ProfileCache;
  /** What devices are called that are lost before they have said so: by their numbers when left out. */
  readonly called?: Called;
  /**
   * How a run survives the loss of devices; it ends with the first one when left out.
   */
  readonly recovery?: RecoveryOptions;
}

export interface RecoveryOptions {
  /** Copies of what each stage holds that others keep: so many devices may be lost at once. */
  readonly copies: number;
  /** What the run can begin with when no copies are left. */
  restart(): Promise<Restart>;
  /** Values that training does not change. */
  fixed(names: readonly string[]): Promise<Readonly<Record<string, Tensor>>>;
  /** Hears of every recovery once the run goes on: behind the first step that is committed after it. */
  tell(recovery: RunRecovery): void;
  /** Hears whenever the outcome of more or of fewer steps is copied from here on, by what copies were measured to cost. */
  copying?(cost: KeepingCost): void;
  /** Hears of every other plan that was looked for, whether the run goes over to it or not. */
  considered?(replanning: Replanning): void;
  /**
   * Hears in a line what the run waits for: there are fewer devices than the model needs, and it goes on when one joins. It
   * fails there when left out.
   */
  paused?(reason: string): void;
  /** Hears that a run that was paused goes on. */
  resumed?(behind: Behind): void;
  /** Hears of a device that the run goes on without, although it lives, and why. */
  leftOut?(name: string, why: string): void;
  /** Where a run is written down, so that another coordinator can go on with it; it ends with this one when left out. */
  readonly continuity?: Continuity;
}

/** Another plan that was looked for, and what became of it. */
export interface Replanning {
  readonly cause: Cause;
  /** Whether the run goes on with it. */
  readonly moved: boolean;
  /** For people. */
  readonly why: string;
  /** Predicted, of a step by the plan before and by this one; null where nobody knows. */
  readonly oldStepMs: number | null;
  readonly newStepMs: number | null;
  /** Milliseconds that it took to look for it, while a step was under way. */
  readonly planMs: number;
  /** Milliseconds for which stages were made ready while steps went on. */
  readonly preparedMs: number;
  /** Bytes that stages were given, and milliseconds that the run stood still for it. */
  readonly movedBytes: number;
  readonly moveMs: number;
  /** The plan that the run goes on with. */
  readonly plan: Plan;
}

/** What a run goes on behind. */
export interface Behind {
  /** The step. */
  readonly step: number;
  /** Steps that had been committed and are repeated. */
  readonly stepsLost: number;
  /** Bytes that stages were given. */
  readonly movedBytes: number;
  readonly fromCheckpoint: boolean;
}

/** A run that another coordinator led. */
export interface TakenOver extends Omit<Behind, "stepsLost"> {
  readonly plan: Plan;
}

/** What the loss of devices has cost. */
export interface RunRecovery {
  /** Names of the devices that were lost. */
  readonly lost: readonly string[];
  /** Where nobody was, what was, in a line: links between devices that live, or a step that was begun again. */
  readonly why?: string;
  /** Milliseconds from the last sign of life of the first of them until it was known to be gone. */
  readonly detectMs: number;
  /** From there until stages held all that they go on with. */
  readonly readyMs: number;
  /** From when it was known to the next step that was committed; behind the last, until all was in place again. */
  readonly resumeMs: number;
  /** Steps that had been committed and were repeated. */
  readonly stepsLost: number;
  /** Steps from one whose outcome was copied to the next. */
  readonly keptEvery: number;
  /** Operations of programs that were carried out again, of those steps and of the one that was under way. */
  readonly operationsReplayed: number;
  /** Bytes that stages were given. */
  readonly movedBytes: number;
  readonly fromCheckpoint: boolean;
  /** The plan that the run goes on with. */
  readonly plan: Plan;
}

export interface StepResult {
  readonly step: number;
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  /** Scaled gradients overflowed: nothing was updated, and the loss's scale was halved. */
  readonly skipped: boolean;
  readonly reports: readonly StepReport[];
  /** Ids of those that they are of: behind the step there may be another plan. */
  readonly devices: readonly string[];
  /** Devices of which it is known since this step that they are not as fast as they were measured to be. */
  readonly drifted: readonly DriftedDevice[];
}

/** A device that takes so many times as long as predicted. */
export interface DriftedDevice {
  readonly device: string;
  readonly factor: number;
}
