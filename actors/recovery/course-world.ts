/** What the course of a run goes by, and what it has others do. */

import type { Segment } from "../../nn/segments.ts";
import type { Clock, Ref } from "../../runtime/index.ts";
import type { RecoveryOptions } from "../scheduler/scheduler-options.ts";
import type { SpecOptions } from "../scheduler/specs.ts";
import type { MoveWorld } from "./migration.ts";
import type { Roster } from "./roster.ts";

export interface CourseWorld {
  readonly roster: Roster;
  readonly segments: readonly Segment[];
  /** For whose life stages run. */
  readonly owner: Ref<any>;
  readonly clock: Clock;
  readonly specs: Omit<SpecOptions, "generation">;
  /** A run without ends with the first loss. */
  readonly recovery: RecoveryOptions | undefined;
  /** Makes a step that has been made before, or that somebody waits for. */
  readonly repeat: (step: number) => Promise<unknown>;
  /** Sends the data of a step. */
  readonly feed: MoveWorld["feed"];
  /** No step is made behind it. */
  readonly lastStep: () => number;
  /** Has a step that all living devices have committed, though one was lost before it said so, be committed. By device id. */
  readonly settle: (isAlive: (device: string) => boolean) => Promise<void>;
}
