/**
 * The journal: what has to be known of a run that is to go on when its coordinator is gone, and nothing else; tensors stay
 * with devices and in checkpoints. It is a list of records that grows at its end, so that anything that can add to a list
 * and read it again may keep it: a database (`sqlite.ts`), memory (`memory.ts`), a stream of messages on other machines.
 * What records come to together is `history.ts`.
 */

import type { Plan } from "../scheduler/plan.ts";

/** Where a device of a plan can be found again. */
export interface DevicePlace {
  /** Its id in the plan. */
  readonly id: string;
  readonly name: string;
  readonly address: string;
}

export type JournalRecord =
  /** A run begins. What is before it is of others. */
  | { readonly kind: "run"; readonly run: string; readonly settings: Readonly<Record<string, unknown>> }
  /** Stages of this generation are about to be started. */
  | {
      readonly kind: "plan";
      readonly generation: number;
      readonly plan: Plan;
      readonly devices: readonly DevicePlace[];
    }
  /** All gradients of a step are there: it is committed next. Steps count from 0. */
  | { readonly kind: "step"; readonly step: number; readonly loss: number }
  /** After so many steps. */
  | { readonly kind: "validation"; readonly step: number; readonly loss: number }
  /** Devices have copies of all that a step has left: which of them, by worker. */
  | {
      readonly kind: "point";
      readonly step: number;
      readonly copies: Readonly<Record<string, readonly string[]>>;
    }
  /** After so many steps, with this SHA-256 of its weights. */
  | { readonly kind: "checkpoint"; readonly step: number; readonly path: string; readonly weights: string }
  /** Everything that was asked for is there. */
  | { readonly kind: "done"; readonly steps: number };

export interface JournalContents {
  /** In the order in which they were added; damaged ones are left out. */
  readonly records: readonly JournalRecord[];
  /** What could not be read, in words; null where everything could. */
  readonly damage: string | null;
}

export interface Journal {
  /**
   * Adds records, all of them or none. They outlive this process once it resolves; `lasting` ones a machine that loses its
   * power as well.
   */
  append(records: readonly JournalRecord[], lasting?: boolean): Promise<void>;
  read(): Promise<JournalContents>;
  /** Resolves when whoever writes it leads the run, and never when another one does; left out where nobody else may. */
  held?(): Promise<void>;
  /** Idempotent. */
  close(): Promise<void>;
}
