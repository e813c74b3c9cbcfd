/**
 * Which samples are learned from, when, and which are held out: pure functions of numbers, for sets of samples that
 * are told apart by their index (images, rows of a table).
 *
 * Training goes through the samples in epochs: each is a permutation without replacement, drawn anew, and the batches
 * of the run are cut from one epoch after another as from one long list. Sample r of step s is draw s · batch + r,
 * however the batch is cut into micro-batches; a batch may straddle two epochs.
 *
 * A set that comes without a validation part has a tenth of its samples held out, the same in every run.
 */

import { streamOf, threefry2x32 } from "../../nn/models/threefry.ts";

/** The share of the samples that is held out where the data brings no validation part. */
export const HELD_OUT_SAMPLES = 0.1;

/** Most samples that a validation loss is the mean of; of more, as many are taken at even distances. */
export const VALIDATION_SAMPLES = 1024;

const ORDER = streamOf("sample order");
const SPLIT = streamOf("held-out samples");

/** Bits of a number that is a whole number exactly. */
const EXACT_BITS = 53;

/**
 * The numbers below `count`, at most 2^32, in an order that is a pure function of the rest: sorted by word, where
 * numbers 2i and 2i + 1 have the two words of Threefry-2x32-20 under the key (seed, stream) and the counter
 * (i, epoch), and equal words go by number. Of a word only as many leading bits count as fit into 53 together with
 * the number: all 32 up to two million samples.
 */
export function permutation(seed: number, stream: number, epoch: number, count: number): Uint32Array {
  const bits = Math.max(1, Math.ceil(Math.log2(count)));
  const dropped = Math.max(0, 32 + bits - EXACT_BITS);
  const keys = new Float64Array(count);
  const words = new Uint32Array(2);
  const scale = 2 ** bits;
  for (let i = 0; i < count; i += 2) {
    threefry2x32(seed, stream, i / 2, epoch, words);
    keys[i] = (words[0]! >>> dropped) * scale + i;
    // Beyond the end of an odd count this is a write to nowhere, which typed arrays ignore.
    keys[i + 1] = (words[1]! >>> dropped) * scale + i + 1;
  }
  return Uint32Array.from(keys.sort(), (key) => key % scale);
}

/** The order of `count` samples through a run. The permutations of the latest epochs are kept, not a position. */
export class SampleOrder {
  private readonly seed: number;
  private readonly count: number;
  private readonly epochs = new Map<number, Uint32Array>();

  /** @param count at least 1. */
  constructor(seed: number, count: number) {
    this.seed = seed;
    this.count = count;
  }

  /** The sample that draw `draw` of the run takes; draws count from 0. */
  at(draw: number): number {
    const epoch = Math.floor(draw / this.count);
    return this.epoch(epoch)[draw % this.count]!;
  }

  private epoch(epoch: number): Uint32Array {
    let order = this.epochs.get(epoch);
    if (!order) {
      // A batch straddles two epochs; with small sets more, which is cheap.
      if (this.epochs.size >= 2) this.epochs.delete(this.epochs.keys().next().value!);
      order = permutation(this.seed, ORDER, epoch, this.count);
      this.epochs.set(epoch, order);
    }
    return order;
  }
}

/** Which of `count` samples are learned from and which are held out, both ascending; the same in every run. */
export function splitSamples(count: number): { train: Uint32Array; validation: Uint32Array } {
  const held = Math.max(1, Math.floor(count * HELD_OUT_SAMPLES));
  const order = permutation(0, SPLIT, 0, count);
  return { train: order.slice(held).sort(), validation: order.slice(0, held).sort() };
}

/**
 * Samples of a validation pass over `count` samples, `rows` to each micro-batch: as many full micro-batches as
 * `VALIDATION_SAMPLES` of them make, taken at even distances. A set that has not enough for one repeats them.
 */
export function validationBatches(count: number, rows: number): number[][] {
  const most = Math.min(count, Math.max(VALIDATION_SAMPLES, rows));
  const full = Math.floor(most / rows);
  if (full === 0) return [Array.from({ length: rows }, (_, i) => i % count)];
  const taken = full * rows;
  return Array.from({ length: full }, (_, batch) =>
    Array.from({ length: rows }, (_, row) => Math.floor(((batch * rows + row) * count) / taken)),
  );
}
