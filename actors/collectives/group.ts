/**
 * What ranks do together over an exchange: round a ring, but for sums of many ranks, which are formed in two trees unless
 * they are very long. With a codec they go round the ring all the same: it is the owner of a sum who keeps what is lost.
 *
 * Several things may be under way at once, under different keys. The first that goes wrong ends all of them.
 */

import type { Collectives } from "../../nn/shards/collectives.ts";
import { floatsOf } from "../../protocols/codecs/tensor_codec.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Exchange } from "./exchange.ts";
import { Lines } from "./lines.ts";
import { Ring } from "./ring.ts";
import { addsUpInTrees } from "./tree-shape.ts";
import { addUpInTrees } from "./trees.ts";

export interface GroupOptions {
  readonly rank: number;
  readonly ranks: number;
  readonly exchange: Exchange;
  /** Name of the codec for what is added up in a place; as it is, when left out. */
  readonly codec?: string | null;
}

export class GroupCollectives implements Collectives {
  readonly rank: number;
  readonly ranks: number;
  private readonly lines: Lines;
  private readonly ring: Ring;
  private readonly isEncoded: boolean;

  /** @throws TensorError for a codec nobody knows. */
  constructor({ rank, ranks, exchange, codec = null }: GroupOptions) {
    this.rank = rank;
    this.ranks = ranks;
    this.lines = new Lines(rank, ranks, exchange);
    this.ring = new Ring(this.lines, codec);
    this.isEncoded = codec !== null;
  }

  /** @throws TensorError for tensors that are not f32, or not as large as the other ranks'; what `abandon` was given. */
  allReduce(key: string, tensors: readonly Tensor[], place?: string): Promise<void> {
    return this.lines.guarded(async () => {
      if (this.ranks === 1) return;
      const [first, ...more] = tensors;
      if (!first) return;
      if (more.length === 0 && first.bytes.byteOffset % 4 === 0) {
        return this.addUp(key, first.f32(), place);
      }
      const values = new Float32Array(tensors.reduce((sum, tensor) => sum + tensor.elements, 0));
      let at = 0;
      for (const tensor of tensors) {
        values.set(floatsOf(tensor), at);
        at += tensor.elements;
      }
      await this.addUp(key, values, place);
      at = 0;
      for (const { bytes } of tensors) {
        bytes.set(new Uint8Array(values.buffer, at, bytes.byteLength));
        at += bytes.byteLength;
      }
    });
  }

  /** @throws TensorError for a part that is not f32; what `abandon` was given. */
  allGather(key: string, part: Tensor): Promise<readonly Tensor[]> {
    return this.lines.guarded(async () => (this.ranks === 1 ? [part] : this.ring.gather(key, part)));
  }

  /** @throws TensorError for parts that are not f32, or not as large as the other ranks'; what `abandon` was given. */
  reduceScatter(key: string, parts: readonly Tensor[]): Promise<Tensor> {
    return this.lines.guarded(async () => (this.ranks === 1 ? parts[0]! : this.ring.scatter(key, parts)));
  }

  /** Ends what is under way and what will be asked for, with this error: a rank is gone, or the run is over. */
  abandon(error: Error): void {
    this.lines.abandon(error);
  }

  private addUp(key: string, values: Float32Array, place: string | undefined): Promise<void> {
    const isEncoded = this.isEncoded && place !== undefined;
    return addsUpInTrees(values.length, this.ranks) && !isEncoded
      ? addUpInTrees(this.lines, key, values)
      : this.ring.addUp(key, values, place);
  }
}
