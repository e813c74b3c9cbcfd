/**
 * Saves a run. Where stages keep copies of what steps leave, a checkpoint is written from what they kept of its step,
 * while the run goes on with the next ones; the step waits no longer than copying takes. Otherwise, and at the end, it is
 * written from what stages hold now, while they wait.
 *
 * One is written at a time. Where somebody is lost meanwhile what was kept may be gone, or the place where it goes may not
 * answer: then another one is owed, of whatever step the run is at when that is found out.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import type { Ref } from "../../runtime/index.ts";
import { NatsError } from "../../runtime/platform/nats.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";
import type { CheckpointWriter, Draft, Shard } from "./writer.ts";

export interface SavedRun {
  readonly scheduler: Ref<Scheduler>;
  readonly writer: CheckpointWriter;
  /** What a checkpoint says besides values. */
  readonly about: (step: number) => Pick<Draft, "step" | "seed" | "model" | "training">;
  /** Names of what is trained and of running statistics, and of what the optimiser may keep of them. */
  readonly parameters: ReadonlySet<string>;
  readonly optimizer: ReadonlySet<string>;
  readonly onnx: Draft["onnx"];
  /** Hears of each checkpoint that is complete, and of the weights' SHA-256; waited for. */
  readonly tell: (step: number, weightsSha256: string) => Promise<unknown>;
}

/** What was kept for a checkpoint is not there any more. */
class NotKept extends Error {
  readonly code = "NOT_KEPT";
  override readonly name = "NotKept";
}

export class Saver {
  /** SHA-256 of the weights in the last checkpoint; empty before the first. */
  weights = "";
  private readonly run: SavedRun;
  private writing: Promise<void> = Promise.resolve();
  private failure: { readonly error: unknown } | undefined;
  private owed = false;

  constructor(run: SavedRun) {
    this.run = run;
  }

  /** Whether one that was begun could not be completed, for what it was to be of is lost, or where it goes was away. */
  get owes(): boolean {
    return this.owed;
  }

  /** Writes what stages hold now, after so many steps. @returns parameters and statistics; borrowed until the next step. */
  async save(step: number): Promise<ReadonlyMap<string, Tensor>> {
    await this.settled();
    const state = await this.run.scheduler.ask.state();
    await this.write(step, Object.keys(state), async () => state);
    this.run.scheduler.tell.release();
    this.owed = false;
    const parameters = Object.entries(state).filter(([name]) => this.run.parameters.has(name));
    return new Map(parameters);
  }

  /** Begins to write what stages have kept of the step that was held, with which so many are done. */
  begin(step: number): void {
    const { scheduler } = this.run;
    const values = async (names: readonly string[]) => {
      try {
        return await scheduler.ask.kept(step - 1, names);
      } catch (cause) {
        throw new NotKept("what was to be saved is lost", { cause });
      }
    };
    this.writing = this.write(step, [], values)
      .catch((error) => {
        const isAway = error instanceof NatsError && error.isAway;
        if (error instanceof NotKept || isAway) this.owed = true;
        else this.failure ??= { error };
      })
      .finally(() => scheduler.tell.release());
  }

  /** When nothing is being written. @throws what went wrong, as `CheckpointWriter.write`. */
  async settled(): Promise<void> {
    await this.writing;
    this.check();
  }

  /** As `settled`, and whatever went wrong is told by others. */
  async idle(): Promise<void> {
    await this.writing;
  }

  /** @throws what has gone wrong with the one that was begun. */
  check(): void {
    if (this.failure) throw this.failure.error;
  }

  /** @param names of all values, where they are known besides by stage. */
  private async write(step: number, names: readonly string[], values: Draft["values"]): Promise<void> {
    const { scheduler, writer, about, onnx, tell } = this.run;
    const shards = this.shards(await scheduler.ask.layout(), names);
    this.weights = await writer.write({ ...about(step), shards, values, onnx });
    await tell(step, this.weights);
  }

  /** A shard for each stage; what none is said to have goes into the last one. */
  private shards(layout: readonly (readonly string[])[], names: readonly string[]): Shard[] {
    const { parameters, optimizer } = this.run;
    const known = new Set<string>();
    const fresh = (name: string) => !known.has(name) && known.add(name);
    const stages = layout.map((each) => each.filter(fresh));
    stages.at(-1)!.push(...names.filter(fresh));
    return stages.map((each) => ({
      model: each.filter((name) => parameters.has(name)),
      optimizer: each.filter((name) => optimizer.has(name)),
    }));
  }
}
