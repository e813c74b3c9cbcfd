/** What a run has told of itself, by coordinator. */

import type { Plan } from "../../../../actors/scheduler/plan.ts";
import type { TrainEvent } from "../../../../actors/train-events.ts";
import type { Trace } from "../../../sim/trace.ts";

export type Told<K extends TrainEvent["event"]> = Extract<TrainEvent, { event: K }>;

export class Chronicle {
  /** One list for each coordinator. */
  readonly lives: TrainEvent[][] = [];
  /** The last that it has told of. */
  plan: Plan | undefined;
  /** Changes whenever it is further. */
  progress = 0;
  private readonly trace: Trace;

  constructor(trace: Trace) {
    this.trace = trace;
  }

  /** Another coordinator has begun. */
  begins(): void {
    this.lives.push([]);
  }

  tell(event: TrainEvent): void {
    const { stages: _, plan: __, devices: ___, ...rest } = event as { [name: string]: unknown };
    this.trace.note("told", JSON.stringify(rest));
    this.lives.at(-1)!.push(event);
    // What is written of steps that were made is no step.
    if (event.event !== "paused" && event.event !== "checkpoint") this.progress++;
    if ("plan" in event) this.plan = event.plan;
  }

  /** Everything of one kind, in order. */
  of<K extends TrainEvent["event"]>(kind: K): readonly Told<K>[] {
    return this.lives.flat().filter((event): event is Told<K> => event.event === kind);
  }

  get isDone(): boolean {
    return this.of("done").length > 0;
  }
}
