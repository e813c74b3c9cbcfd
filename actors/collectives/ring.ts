/**
 * Collectives round a ring: every rank gives to the next and takes from the one before, all links at once, so that each
 * carries the least there can be, 2(n-1)/n of a vector that is added up (Patarasu and Yuan, "Bandwidth optimal
 * all-reduce algorithms for clusters of workstations", 2009).
 *
 * A sum goes round: the rank behind its owner begins with its own summand, each adds its own to what has come, the owner
 * comes last. So the bits of a sum are one rank's, and are handed on as they are. What is long goes in pieces, each as
 * soon as it is there: a link is busy while the rank at its end is still adding. Several collectives may be under way
 * at once, under different keys.
 *
 * Two ranks give each other all of a short vector at once, which is as many bytes in one step instead of two, and as the
 * order of two summands does not matter, the same bits.
 *
 * What is added up with a codec travels encoded; whoever encodes keeps what is lost for the next time. Owners of sums
 * have what they have encoded themselves, as everyone else does.
 *
 * Where one rank is gone, nothing of this can end: the first that goes wrong ends all that is under way.
 */

import type { Collectives } from "../../nn/shards/collectives.ts";
import { addInto } from "../../nn/shards/sum.ts";
import { ErrorFeedback, tensorCodec } from "../../protocols/codecs/compressed.ts";
import { floatsOf, type TensorCodec } from "../../protocols/codecs/tensor_codec.ts";
import { elements, Tensor, TensorError } from "../../protocols/tensor.ts";
import type { Exchange } from "./exchange.ts";
import { chunksOf, copyOf, piecesOf, SHORT } from "./pieces.ts";

export interface RingOptions {
  readonly rank: number;
  readonly ranks: number;
  readonly exchange: Exchange;
  /** Name of the codec for what is added up in a place; as it is, when left out. */
  readonly codec?: string | null;
}

export class RingCollectives implements Collectives {
  readonly rank: number;
  readonly ranks: number;
  private readonly exchange: Exchange;
  private readonly codec: TensorCodec | null;
  /** What codecs have left out, by place and piece. */
  private readonly feedback = new Map<string, ErrorFeedback>();
  private readonly waiting = new Set<(error: Error) => void>();
  private failure: Error | undefined;

  /** @throws TensorError for a codec nobody knows. */
  constructor({ rank, ranks, exchange, codec = null }: RingOptions) {
    this.rank = rank;
    this.ranks = ranks;
    this.exchange = exchange;
    this.codec = codec === null ? null : tensorCodec(codec);
  }

  /** @throws TensorError for tensors that are not f32, or not as large as the other ranks'; what `abandon` was given. */
  allReduce(key: string, tensors: readonly Tensor[], place?: string): Promise<void> {
    return this.guarded(async () => {
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
    return this.guarded(async () => {
      const parts = new Array<Tensor>(this.ranks).fill(part);
      if (this.ranks === 1) return parts;
      const [values, name] = [floatsOf(part), (rank: number) => `${key}/${rank}`];
      // A short part goes as it is; a long one as its shape, then in pieces.
      const own = piecesOf(name(this.rank), 0, values.length);
      if (own.length <= 1) this.give(name(this.rank), Tensor.f32(part.shape, values.slice()));
      else {
        this.give(name(this.rank), Tensor.i64([part.shape.length], part.shape));
        for (const piece of own) this.give(piece.name, copyOf(values, piece));
      }
      for (let hop = 1; hop < this.ranks; hop++) {
        const from = this.behind(hop);
        const isLast = hop === this.ranks - 1;
        const head = await this.take(name(from));
        if (!isLast) this.give(name(from), head);
        if (head.dtype !== "i64") {
          parts[from] = head;
          continue;
        }
        const shape = [...head.i64()].map(Number);
        const whole = new Float32Array(elements(shape));
        for (const piece of piecesOf(name(from), 0, whole.length)) {
          const tensor = await this.take(piece.name);
          whole.set(this.floats(piece.name, tensor, piece.to - piece.from), piece.from);
          if (!isLast) this.give(piece.name, tensor);
        }
        parts[from] = Tensor.f32(shape, whole);
      }
      return parts;
    });
  }

  /** @throws TensorError for parts that are not f32, or not as large as the other ranks'; what `abandon` was given. */
  reduceScatter(key: string, parts: readonly Tensor[]): Promise<Tensor> {
    return this.guarded(async () => {
      const own = parts[this.rank]!;
      if (this.ranks === 1) return own;
      const pieces = (rank: number) => piecesOf(`${key}/${rank}`, 0, parts[rank]!.elements);
      const first = this.behind(1);
      const summands = floatsOf(parts[first]!);
      for (const piece of pieces(first)) this.give(piece.name, copyOf(summands, piece));
      let result: Float32Array = new Float32Array(own.elements);
      for (let hop = 2; hop <= this.ranks; hop++) {
        const to = this.behind(hop);
        const values = floatsOf(parts[to]!);
        for (const piece of pieces(to)) {
          const sum = this.floats(piece.name, await this.take(piece.name), piece.to - piece.from);
          addInto(sum, values.subarray(piece.from, piece.to));
          if (to === this.rank && sum.length === result.length) result = sum;
          else if (to === this.rank) result.set(sum, piece.from);
          else this.give(piece.name, Tensor.f32([sum.length], sum));
        }
      }
      return Tensor.f32(own.shape, result);
    });
  }

  /** Ends what is under way and what will be asked for, with this error: a rank is gone, or the run is over. */
  abandon(error: Error): void {
    this.failure ??= error;
    for (const reject of this.waiting) reject(this.failure);
    this.waiting.clear();
  }

  /** Adds a vector up, in place. Every rank owns the sum of its chunk; of a short one each of two adds up all. */
  private async addUp(key: string, values: Float32Array, place: string | undefined): Promise<void> {
    const chunks = chunksOf(values.length, this.ranks);
    const codec = place === undefined ? null : this.codec;
    const encoded = (sum: Float32Array, name: string) => this.encoded(sum, `${place}/${name}`, codec);
    const decoded = (key: string, tensor: Tensor, length: number) =>
      codec ? codec.decode(tensor.bytes, length) : this.floats(key, tensor, length);
    if (this.ranks === 2 && values.length <= SHORT) {
      const pieces = piecesOf("both", 0, values.length);
      const own = pieces.map(({ from, to, name }) => {
        const { tensor, carried } = encoded(values.slice(from, to), name);
        this.give(`${key}/${name}`, tensor);
        return carried;
      });
      for (const [i, { from, to, name }] of pieces.entries()) {
        const of = `${key}/${name}`;
        const other = decoded(of, await this.take(of), to - from);
        if (codec) values.set(own[i]!, from);
        addInto(values.subarray(from, to), other);
      }
      return;
    }
    const lent = chunks[this.behind(1)]!.map(({ from, to, name }) =>
      this.send("lend", `${key}/sum/${name}`, encoded(values.subarray(from, to), name).tensor),
    );
    for (let hop = 2; hop <= this.ranks; hop++) {
      const owner = this.behind(hop);
      for (const { from, to, name } of chunks[owner]!) {
        const of = `${key}/sum/${name}`;
        const sum = decoded(of, await this.take(of), to - from);
        addInto(sum, values.subarray(from, to));
        const { tensor, carried } = encoded(sum, name);
        if (owner === this.rank) values.set(carried, from);
        this.give(`${key}/${owner === this.rank ? "all" : "sum"}/${name}`, tensor);
      }
    }
    for (let hop = 1; hop < this.ranks; hop++) {
      for (const [i, { from, to, name }] of chunks[this.behind(hop)]!.entries()) {
        const of = `${key}/all/${name}`;
        const tensor = await this.take(of);
        // What is written over has come round, so that it has long been sent.
        if (hop === 1) await lent[i];
        values.set(decoded(of, tensor, to - from), from);
        if (hop < this.ranks - 1) this.give(of, tensor);
      }
    }
  }

  /** What is sent of some numbers, and what arrives of it. */
  private encoded(
    values: Float32Array,
    place: string,
    codec: TensorCodec | null,
  ): { readonly tensor: Tensor; readonly carried: Float32Array } {
    const whole = Tensor.f32([values.length], values);
    if (!codec) return { tensor: whole, carried: values };
    let feedback = this.feedback.get(place);
    if (!feedback) {
      feedback = new ErrorFeedback(codec);
      this.feedback.set(place, feedback);
    }
    const sent = feedback.apply(whole);
    const bytes = sent.encode();
    return { tensor: new Tensor("u8", [bytes.byteLength], bytes), carried: sent.f32() };
  }

  /** The rank so many places before this one. */
  private behind(hops: number): number {
    return (this.rank - hops + this.ranks) % this.ranks;
  }

  private give(key: string, tensor: Tensor): void {
    void this.send("give", key, tensor);
  }

  private send(how: "give" | "lend", key: string, tensor: Tensor): Promise<unknown> {
    const sent = this.exchange[how]((this.rank + 1) % this.ranks, key, tensor);
    sent.catch((error) => this.abandon(error));
    return sent;
  }

  private take(key: string): Promise<Tensor> {
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      this.waiting.add(reject);
      this.exchange
        .take(this.behind(1), key)
        .then(resolve, reject)
        .finally(() => this.waiting.delete(reject));
    });
  }

  private floats(key: string, tensor: Tensor, length: number): Float32Array {
    if (tensor.dtype === "f32" && tensor.elements === length) return floatsOf(tensor);
    const came = `${tensor.dtype}[${tensor.shape}]`;
    throw new TensorError(`collective ${key}: rank ${this.rank} has f32[${length}], ${came} came`);
  }

  /** A rank that cannot go on leaves the others waiting: nothing is to be had of it any more. */
  private async guarded<T>(run: () => Promise<T>): Promise<T> {
    if (this.failure) throw this.failure;
    try {
      return await run();
    } catch (error) {
      this.abandon(error as Error);
      throw error;
    }
  }
}
