/** What a training run tells of itself while it goes on: types only. `troupe train --json` says each as a line. */

import type { RunEnergy } from "./energy/run-meter.ts";
import type { Cause } from "./recovery/decision.ts";
import type { Plan } from "./scheduler/plan.ts";
import type { StepReport } from "./stage.ts";

/** Copies of what stages hold, with others. */
export type CopiesTold = {
  /** Steps of which all copies were complete so far; and of every how many one is copied. */
  readonly points: number;
  readonly every: number;
  /** That went to others. */
  readonly bytes: number;
  /** What part of its time copies were measured to make the run longer by; null where there is nothing to compare. */
  readonly cost: number | null;
};

export type TrainEvent =
  | {
      event: "plan";
      plan: Plan;
      /** Those that are trained. */
      parameters: number;
      /** What is held beside them and stays as it is. */
      frozen_bytes: number;
      unit: string;
      data: string;
      data_bytes: number | null;
    }
  | {
      event: "step";
      step: number;
      loss: number;
      grad_norm: number;
      learning_rate: number;
      /** Its gradients overflowed, so that it has changed nothing; left out where they did not. */
      skipped?: true;
      step_ms: number;
      /** Tokens of text, or samples of anything else. */
      tokens_per_s: number;
      /** One per stage. */
      stages: readonly Omit<StepReport, "squareSums" | "losses">[];
    }
  /**
   * The run goes on without devices that are gone: how long it took to know (from the last sign of life), how long until
   * all was in place again and until another step was committed, how many committed steps were repeated, of which every so
   * many had been copied, how many operations were carried out again, of those and of the step under way, and what had to
   * be moved. Where nobody is lost, but devices that live have lost each other, it says so (`why`).
   */
  | {
      event: "recovered";
      lost: readonly string[];
      why?: string;
      detect_ms: number;
      ready_ms: number;
      resume_ms: number;
      steps_lost: number;
      kept_every: number;
      operations_replayed: number;
      moved_bytes: number;
      from_checkpoint: boolean;
      plan: Plan;
    }
  /**
   * The run goes on, behind so many steps, where another coordinator led it before, or it was paused: of the steps that were
   * known to be done so many are done again, and so much had to be moved.
   */
  | {
      event: "resumed";
      step: number;
      steps_lost: number;
      moved_bytes: number;
      from_checkpoint: boolean;
    }
  /**
   * The run has gone over to another plan between two steps, because devices were lost, joined or drifted, and `why` that was
   * worth it; what a step was predicted to take by the plan before and takes by this one; how long it took to find, and to make its
   * stages ready, while steps went on; and for how long the run stood still to move so many bytes.
   */
  | {
      event: "replanned";
      cause: Cause;
      why: string;
      old_step_ms: number | null;
      new_step_ms: number | null;
      plan_ms: number;
      prepared_ms: number;
      moved_bytes: number;
      move_ms: number;
      plan: Plan;
    }
  /**
   * What every so many steps leave is copied to others from here on, by what copies were measured to cost.
   */
  | ({ event: "copies" } & CopiesTold)
  /** Another plan was looked for, and the run stays with the one that it has; because of drifts, where one was told. */
  | {
      event: "plan_kept";
      cause: Cause;
      why: string;
      old_step_ms: number | null;
      new_step_ms: number | null;
      plan_ms: number;
    }
  /** There are fewer devices than the model needs: the run waits for one to join, with all that is left of it. */
  | { event: "paused"; reason: string }
  /** The run goes on without a device that lives, and why; of those that are gone whoever brought them tells. */
  | { event: "device_left"; name: string; reason: string }
  /**
   * A device takes so many times as long as it was measured to, or than before the present plan: told once for a plan, and again
   * when the factor is twice the one that was told, or half of it. What comes of it is said as `replanned` or `plan_kept`.
   */
  | { event: "device_drifted"; device: string; factor: number }
  | { event: "validation"; step: number; loss: number }
  | { event: "checkpoint"; step: number; path: string }
  /** A checkpoint cannot be read, and why; an older one is used in its place, of this step. */
  | { event: "checkpoint_damaged"; path: string; why: string; used: string; step: number }
  | { event: "exported"; path: string }
  | { event: "sample"; text: string }
  | {
      event: "done";
      steps: number;
      final_loss: number;
      validation_loss: number;
      /** What the losses are measured in. */
      loss_unit: string;
      tokens_per_s: number;
      /** Steps of these, since it was begun or resumed, that have changed nothing; left out where there is none. */
      steps_skipped?: number;
      weights_sha256: string;
      checkpoint: string;
      /** Null where no step was made. */
      energy: RunEnergy | null;
      /** Left out where none are kept. */
      copies?: CopiesTold;
      /** Those that are still there. */
      devices: readonly { id: string; name: string; peak_bytes: number; tensor_bytes: number }[];
      /** Names of those that were in the run and are not there at its end. */
      devices_lost: readonly string[];
    };
