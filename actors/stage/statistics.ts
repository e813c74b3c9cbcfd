/**
 * Running statistics of a stage whose members take some of the micro-batches each, exactly as if one had taken all of them
 * in order. They are exponential means (see `nn/training/decay.ts`): what a micro-batch adds is decayed by every one
 * behind it, whoever has that. So a member lets its own decay for those that others have in between, all but the first
 * member begin from nothing, and in the end their sum is the statistic.
 */

import type { Kept } from "../../nn/executor/updater.ts";
import type { Collectives } from "../../nn/shards/collectives.ts";
import type { Chunk } from "./chunk.ts";

export class DealtStatistics {
  private readonly kept: ReadonlyMap<string, Kept>;
  private readonly decays: ReadonlyMap<string, number>;
  private readonly isFirst: boolean;
  /** Micro-batches that they have been decayed for. */
  private done = 0;

  /**
   * @param kept as the member's own micro-batches move them. @param decays by name. @param isFirst whether it is the
   *   first member.
   */
  constructor(kept: ReadonlyMap<string, Kept>, decays: ReadonlyMap<string, number>, isFirst: boolean) {
    this.kept = kept;
    this.decays = decays;
    this.isFirst = isFirst;
  }

  /** At the beginning of a step, when they are what the last update left. */
  async begin(): Promise<void> {
    this.done = 0;
    if (!this.isFirst) await this.scale(() => 0);
  }

  /** Before the forward pass of a micro-batch of its own. */
  async before(microBatch: number): Promise<void> {
    await this.decayUntil(microBatch);
    this.done = microBatch + 1;
  }

  /** After all of `microBatches`: adds up what members have. @param key as of every collective. */
  async reduce(key: string, collectives: Collectives, microBatches: number): Promise<void> {
    await this.decayUntil(microBatches);
    const all = [...this.kept.values()];
    const tensors = await Promise.all(all.map((kept) => kept.read()));
    await collectives.allReduce(key, tensors);
    await Promise.all(all.map((kept) => kept.write()));
  }

  private async decayUntil(microBatch: number): Promise<void> {
    const others = microBatch - this.done;
    this.done = microBatch;
    if (others > 0) await this.scale((decay) => decay ** others);
  }

  private async scale(by: (decay: number) => number): Promise<void> {
    for (const [name, kept] of this.kept) {
      const factor = by(this.decays.get(name)!);
      const values = (await kept.read()).f32();
      for (let i = 0; i < values.length; i++) values[i] = values[i]! * factor;
      await kept.write();
    }
  }
}

/** By chunk; left out where nothing moves, or nobody else has micro-batches. @param isFirst of the members. */
export function dealtStatistics(chunks: readonly Chunk[], isFirst: boolean): DealtStatistics[] {
  const found: DealtStatistics[] = [];
  for (const { index, decays, whole } of chunks) {
    if (decays.size > 0) found[index] = new DealtStatistics(whole!.movingStatistics(), decays, isFirst);
  }
  return found;
}
