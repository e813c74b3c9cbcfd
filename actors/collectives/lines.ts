/**
 * From one rank to the others, as collectives use an exchange. Where one rank is gone, nothing that all take part in can
 * end: the first that goes wrong ends all that is under way, and all that would come.
 */

import { floatsOf } from "../../protocols/codecs/tensor_codec.ts";
import { type Tensor, TensorError } from "../../protocols/tensor.ts";
import type { Exchange } from "./exchange.ts";

export class Lines {
  readonly rank: number;
  readonly ranks: number;
  private readonly exchange: Exchange;
  private readonly waiting = new Set<(error: Error) => void>();
  private failure: Error | undefined;

  constructor(rank: number, ranks: number, exchange: Exchange) {
    this.rank = rank;
    this.ranks = ranks;
    this.exchange = exchange;
  }

  /** As `Exchange.give`. */
  give(to: number, key: string, tensor: Tensor): void {
    this.exchange.give(to, key, tensor).catch((error) => this.abandon(error));
  }

  /** As `Exchange.lend`. @returns what rejects where all is ended. */
  lend(to: number, key: string, tensor: Tensor): Promise<unknown> {
    const lent = this.exchange.lend(to, key, tensor);
    lent.catch((error) => this.abandon(error));
    return lent;
  }

  /** As `Exchange.take`. @throws what `abandon` was given. */
  take(from: number, key: string): Promise<Tensor> {
    if (this.failure) return Promise.reject(this.failure);
    return this.unlessAbandoned(this.exchange.take(from, key));
  }

  /** Takes numbers, in memory of their own. @throws TensorError for others than so many f32; what `abandon` was given. */
  async takeFloats(from: number, key: string, length: number): Promise<Float32Array> {
    return this.floats(key, await this.take(from, key), length);
  }

  /** @throws TensorError unless a tensor is so many f32. */
  floats(key: string, tensor: Tensor, length: number): Float32Array {
    if (tensor.dtype === "f32" && tensor.elements === length) return floatsOf(tensor);
    const came = `${tensor.dtype}[${tensor.shape}]`;
    throw new TensorError(`collective ${key}: rank ${this.rank} has f32[${length}], ${came} came`);
  }

  /** What comes of something, unless all is ended before. */
  unlessAbandoned<T>(coming: Promise<T>): Promise<T> {
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      this.waiting.add(reject);
      coming.then(resolve, reject).finally(() => this.waiting.delete(reject));
    });
  }

  /** Ends what is under way and what will be asked for, with this error: a rank is gone, or the run is over. */
  abandon(error: Error): void {
    this.failure ??= error;
    for (const reject of this.waiting) reject(this.failure);
    this.waiting.clear();
  }

  /** Runs what all ranks take part in. One that cannot go on leaves the others waiting: nothing is to be had of it any more. */
  async guarded<T>(run: () => Promise<T>): Promise<T> {
    if (this.failure) throw this.failure;
    try {
      return await run();
    } catch (error) {
      this.abandon(error as Error);
      throw error;
    }
  }

  /** Runs several such things at once; when it throws, none of them goes on. */
  async all(runs: readonly (() => Promise<void>)[]): Promise<void> {
    const outcomes = await Promise.allSettled(runs.map((run) => this.guarded(run)));
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  }
}
