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
 */

import { addInto } from "../../nn/shards/sum.ts";
import { ErrorFeedback, tensorCodec } from "../../protocols/codecs/compressed.ts";
import { floatsOf, type TensorCodec } from "../../protocols/codecs/tensor_codec.ts";
import { elements, Tensor } from "../../protocols/tensor.ts";
import type { Lines } from "./lines.ts";
import { chunksOf, copyOf, piecesOf, SHORT } from "./pieces.ts";

export class Ring {
  private readonly lines: Lines;
  private readonly ranks: number;
  private readonly codec: TensorCodec | null;
  /** What codecs have left out, by place and piece. */
  private readonly feedback = new Map<string, ErrorFeedback>();

  /** @param codec name of that for what is added up in a place. @throws TensorError for a codec nobody knows. */
  constructor(lines: Lines, codec: string | null) {
    this.lines = lines;
    this.ranks = lines.ranks;
    this.codec = codec === null ? null : tensorCodec(codec);
  }

  /** The parts of all ranks, by rank. @throws TensorError for a part that is not f32; what `lines` were abandoned with. */
  async gather(key: string, part: Tensor): Promise<readonly Tensor[]> {
    const { lines, ranks } = this;
    const parts = new Array<Tensor>(ranks).fill(part);
    const [values, name] = [floatsOf(part), (rank: number) => `${key}/${rank}`];
    // A short part goes as it is; a long one as its shape, then in pieces.
    const own = piecesOf(name(lines.rank), 0, values.length);
    if (own.length <= 1) this.give(name(lines.rank), Tensor.f32(part.shape, values.slice()));
    else {
      this.give(name(lines.rank), Tensor.i64([part.shape.length], part.shape));
      for (const piece of own) this.give(piece.name, copyOf(values, piece));
    }
    for (let hop = 1; hop < ranks; hop++) {
      const from = this.behind(hop);
      const isLast = hop === ranks - 1;
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
        whole.set(lines.floats(piece.name, tensor, piece.to - piece.from), piece.from);
        if (!isLast) this.give(piece.name, tensor);
      }
      parts[from] = Tensor.f32(shape, whole);
    }
    return parts;
  }

  /** The sum of what all have for this rank. @throws as `gather`, and for other sizes than the other ranks'. */
  async scatter(key: string, parts: readonly Tensor[]): Promise<Tensor> {
    const { lines, ranks } = this;
    const own = parts[lines.rank]!;
    const pieces = (rank: number) => piecesOf(`${key}/${rank}`, 0, parts[rank]!.elements);
    const first = this.behind(1);
    const summands = floatsOf(parts[first]!);
    for (const piece of pieces(first)) this.give(piece.name, copyOf(summands, piece));
    let result: Float32Array = new Float32Array(own.elements);
    for (let hop = 2; hop <= ranks; hop++) {
      const to = this.behind(hop);
      const values = floatsOf(parts[to]!);
      for (const piece of pieces(to)) {
        const sum = await this.takeFloats(piece.name, piece.to - piece.from);
        addInto(sum, values.subarray(piece.from, piece.to));
        if (to === lines.rank && sum.length === result.length) result = sum;
        else if (to === lines.rank) result.set(sum, piece.from);
        else this.give(piece.name, Tensor.f32([sum.length], sum));
      }
    }
    return Tensor.f32(own.shape, result);
  }

  /**
   * Adds a vector up, in place. Every rank owns the sum of its chunk; of a short one each of two adds up all.
   * @param place where it is added up, for the codec; as it is, when left out.
   * @throws TensorError for another size than the other ranks'; what `lines` were abandoned with.
   */
  async addUp(key: string, values: Float32Array, place: string | undefined): Promise<void> {
    const { lines, ranks } = this;
    const chunks = chunksOf(values.length, ranks);
    const codec = place === undefined ? null : this.codec;
    const encoded = (sum: Float32Array, name: string) => this.encoded(sum, `${place}/${name}`, codec);
    const decoded = (key: string, tensor: Tensor, length: number) =>
      codec ? codec.decode(tensor.bytes, length) : lines.floats(key, tensor, length);
    if (ranks === 2 && values.length <= SHORT) {
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
      lines.lend(this.next, `${key}/sum/${name}`, encoded(values.subarray(from, to), name).tensor),
    );
    for (let hop = 2; hop <= ranks; hop++) {
      const owner = this.behind(hop);
      for (const { from, to, name } of chunks[owner]!) {
        const of = `${key}/sum/${name}`;
        const sum = decoded(of, await this.take(of), to - from);
        addInto(sum, values.subarray(from, to));
        const { tensor, carried } = encoded(sum, name);
        if (owner === lines.rank) values.set(carried, from);
        this.give(`${key}/${owner === lines.rank ? "all" : "sum"}/${name}`, tensor);
      }
    }
    for (let hop = 1; hop < ranks; hop++) {
      for (const [i, { from, to, name }] of chunks[this.behind(hop)]!.entries()) {
        const of = `${key}/all/${name}`;
        const tensor = await this.take(of);
        // What is written over has come round, so that it has long been sent.
        if (hop === 1) await lines.unlessAbandoned(lent[i]!);
        values.set(decoded(of, tensor, to - from), from);
        if (hop < ranks - 1) this.give(of, tensor);
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
    return (this.lines.rank - hops + this.ranks) % this.ranks;
  }

  private get next(): number {
    return (this.lines.rank + 1) % this.ranks;
  }

  private give(key: string, tensor: Tensor): void {
    this.lines.give(this.next, key, tensor);
  }

  private take(key: string): Promise<Tensor> {
    return this.lines.take(this.behind(1), key);
  }

  private takeFloats(key: string, length: number): Promise<Float32Array> {
    return this.lines.takeFloats(this.behind(1), key, length);
  }
}
