/**
 * Labelled pictures as a feed: `images`, f32 [rows, channels, size, size], and `targets`, i64 [rows].
 *
 * Pictures are brought to the model's size (the shorter side, then the middle square), scaled to [0, 1], augmented in
 * training, and normalised by the mean and standard deviation of each channel over the training pictures.
 */

import type { ValueInfo } from "../../nn/onnx/graph.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { type Augmentations, type Draw, type Normalisation, writeSample } from "./augment.ts";
import type { Feed } from "./feed.ts";
import type { ImageData, LabelledPictures } from "./picture.ts";
import { squared } from "./resize.ts";
import { SampleOrder, validationBatches } from "./samples.ts";

export interface ImageFeedOptions {
  readonly seed: number;
  /** Samples in a micro-batch. */
  readonly rows: number;
  /** Micro-batches in a step. */
  readonly microBatches: number;
  /** Side of the square images that the model takes. */
  readonly size: number;
  readonly augment: Augmentations;
}

export class ImageFeed implements Feed {
  readonly values: readonly ValueInfo[];
  readonly validationCount: number;
  readonly normalisation: Normalisation;
  private readonly data: ImageData;
  private readonly options: ImageFeedOptions;
  private readonly order: SampleOrder;
  private readonly held: readonly number[][];

  constructor(data: ImageData, options: ImageFeedOptions) {
    const { rows, size, seed } = options;
    this.data = data;
    this.options = options;
    this.normalisation = normalisationOf(data);
    this.order = new SampleOrder(seed, data.train.count);
    this.held = validationBatches(data.validation.count, rows);
    this.validationCount = this.held.length;
    this.values = [
      { name: "images", dtype: "f32", shape: [rows, data.channels, size, size] },
      { name: "targets", dtype: "i64", shape: [rows] },
    ];
  }

  training(step: number, microBatch: number): Record<string, Tensor> {
    const { seed, rows, microBatches } = this.options;
    const samples = Array.from({ length: rows }, (_, row) => microBatch * rows + row);
    const draws = samples.map((sample): Draw => ({ seed, step, sample }));
    const indices = samples.map((sample) => this.order.at(step * rows * microBatches + sample));
    return this.batch(this.data.train, indices, draws);
  }

  validation(microBatch: number): Record<string, Tensor> {
    return this.batch(this.data.validation, this.held[microBatch]!, null);
  }

  private batch(
    pictures: LabelledPictures,
    indices: readonly number[],
    draws: readonly Draw[] | null,
  ): Record<string, Tensor> {
    const { rows, size, augment } = this.options;
    const images = Tensor.zeros("f32", [rows, this.data.channels, size, size]);
    const values = images.f32();
    const each = values.length / rows;
    indices.forEach((index, row) => {
      const out = values.subarray(row * each, (row + 1) * each);
      const picture = squared(pictures.picture(index), size);
      writeSample(picture, out, this.normalisation, augment, draws && draws[row]!);
    });
    return {
      images,
      targets: Tensor.i64(
        [rows],
        indices.map((index) => pictures.label(index)),
      ),
    };
  }
}

/**
 * Mean and standard deviation of each channel over all training pictures, as they came. Sums are of whole numbers, so
 * they are exact and the same on every device. A channel that never varies is only centred.
 */
export function normalisationOf({ train, channels }: ImageData): Normalisation {
  const histograms = Array.from({ length: channels }, () => new Float64Array(256));
  for (let index = 0; index < train.count; index++) {
    const { width, height, pixels } = train.picture(index);
    const plane = width * height;
    for (let c = 0; c < channels; c++) {
      const histogram = histograms[c]!;
      for (let i = c * plane; i < (c + 1) * plane; i++) histogram[pixels[i]!]!++;
    }
  }
  const statistics = histograms.map((histogram) => {
    const count = histogram.reduce((sum, n) => sum + n, 0);
    const mean = histogram.reduce((sum, n, value) => sum + n * value, 0) / count;
    const square = histogram.reduce((sum, n, value) => sum + n * (value - mean) * (value - mean), 0) / count;
    return { mean: mean / 255, std: Math.sqrt(square) / 255 || 1 };
  });
  return { mean: statistics.map(({ mean }) => mean), std: statistics.map(({ std }) => std) };
}
