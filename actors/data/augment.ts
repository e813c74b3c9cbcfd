/**
 * Augmentations of pictures that replay: what is done to a sample is a pure function of (seed, step, sample), where
 * the sample's number counts through the whole batch of the step. Each augmentation draws from a random stream of its
 * own, so that turning one on leaves the others' draws as they were.
 *
 * They come in a fixed order: crop and flip (which only move pixels), brightness, contrast, normalisation, cut-out.
 */

import { streamOf, threefry2x32 } from "../../nn/models/threefry.ts";
import { type Picture, SHARES } from "./picture.ts";

export interface Augmentations {
  /** Pixels of black added on every side, of which a random window of the old size is taken; 0 for none. */
  readonly crop: number;
  /** Whether half of the pictures, drawn at random, are mirrored left to right. */
  readonly flip: boolean;
  /** b: pixels are multiplied by a factor uniform in [1 - b, 1 + b]; 0 for none, at most 1. */
  readonly brightness: number;
  /** c: the distance of pixels to the picture's mean is multiplied by a factor in [1 - c, 1 + c]; 0 for none. */
  readonly contrast: number;
  /**
   * Side of the square, centred anywhere, that is replaced by the mean of the training set; 0 for none. DeVries and
   * Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.
   */
  readonly cutout: number;
}

export const NO_AUGMENTATION: Augmentations = { crop: 0, flip: false, brightness: 0, contrast: 0, cutout: 0 };

/** Mean and standard deviation of each channel, of values in [0, 1]. */
export interface Normalisation {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** Which sample of which run and step; all but `seed` count from 0. */
export interface Draw {
  readonly seed: number;
  readonly step: number;
  readonly sample: number;
}

const STREAMS = {
  crop: streamOf("augment crop"),
  flip: streamOf("augment flip"),
  brightness: streamOf("augment brightness"),
  contrast: streamOf("augment contrast"),
  cutout: streamOf("augment cutout"),
} as const;

const WORDS = 2 ** 32;

/** Two numbers in [0, 1), for one augmentation of one sample: words of Threefry-2x32-20 over 2^32. */
function drawn(stream: keyof typeof STREAMS, { seed, step, sample }: Draw): [number, number] {
  const words = new Uint32Array(2);
  threefry2x32(seed, STREAMS[stream], step, sample, words);
  return [words[0]! / WORDS, words[1]! / WORDS];
}

/** Factor in [1 - range, 1 + range). */
const factor = (unit: number, range: number) => 1 + range * (2 * unit - 1);

/**
 * Writes a picture as a sample to `out`, [channels, height, width]: values in [0, 1], augmented where `draw` is
 * given, less the mean and over the standard deviation of their channel. Every element is written.
 */
export function writeSample(
  picture: Picture,
  out: Float32Array,
  normalisation: Normalisation,
  augment: Augmentations,
  draw: Draw | null,
): void {
  move(picture, out, draw && augment.crop > 0 ? offset(augment.crop, draw) : [0, 0], mirrored(augment, draw));
  if (draw && augment.brightness > 0) {
    const by = factor(drawn("brightness", draw)[0], augment.brightness);
    for (let i = 0; i < out.length; i++) out[i] = Math.min(1, out[i]! * by);
  }
  if (draw && augment.contrast > 0) {
    const by = factor(drawn("contrast", draw)[0], augment.contrast);
    const rest = (1 - by) * luminance(picture, out);
    for (let i = 0; i < out.length; i++) out[i] = Math.min(1, Math.max(0, out[i]! * by + rest));
  }
  normalise(picture, out, normalisation);
  if (draw && augment.cutout > 0) cut(picture, out, augment.cutout, drawn("cutout", draw));
}

/** By how much a crop moves the picture, across and down: whole numbers in [-padding, padding]. */
function offset(padding: number, draw: Draw): [number, number] {
  const [x, y] = drawn("crop", draw);
  const places = 2 * padding + 1;
  return [Math.floor(x * places) - padding, Math.floor(y * places) - padding];
}

const mirrored = ({ flip }: Augmentations, draw: Draw | null): boolean =>
  draw !== null && flip && drawn("flip", draw)[0] < 0.5;

/** Bytes to [0, 1], taken from `dx` further right and `dy` further down; black from beyond the picture. */
function move(
  { width, height, channels, pixels }: Picture,
  out: Float32Array,
  [dx, dy]: readonly [number, number],
  mirror: boolean,
): void {
  for (let c = 0, to = 0; c < channels; c++) {
    for (let y = 0; y < height; y++) {
      const row = (c * height + y + dy) * width;
      const inside = y + dy >= 0 && y + dy < height;
      for (let x = 0; x < width; x++, to++) {
        const from = dx + (mirror ? width - 1 - x : x);
        out[to] = inside && from >= 0 && from < width ? pixels[row + from]! / 255 : 0;
      }
    }
  }
}

/** Mean brightness of what is in `values`. */
function luminance({ width, height, channels }: Picture, values: Float32Array): number {
  const plane = width * height;
  let sum = 0;
  for (let c = 0; c < channels; c++) {
    const share = channels === 3 ? SHARES[c]! : 1 / channels;
    let channel = 0;
    for (let i = c * plane; i < (c + 1) * plane; i++) channel += values[i]!;
    sum += share * channel;
  }
  return sum / plane;
}

function normalise(
  { width, height, channels }: Picture,
  out: Float32Array,
  { mean, std }: Normalisation,
): void {
  const plane = width * height;
  for (let c = 0; c < channels; c++) {
    const [m, s] = [mean[c]!, std[c]!];
    for (let i = c * plane; i < (c + 1) * plane; i++) out[i] = (out[i]! - m) / s;
  }
}

/** Sets the square around a place to 0, the mean, as far as it lies in the picture. */
function cut(
  { width, height, channels }: Picture,
  out: Float32Array,
  side: number,
  [x, y]: readonly [number, number],
): void {
  const left = Math.floor(x * width) - Math.floor(side / 2);
  const top = Math.floor(y * height) - Math.floor(side / 2);
  for (let c = 0; c < channels; c++) {
    for (let row = Math.max(0, top); row < Math.min(height, top + side); row++) {
      const from = (c * height + row) * width;
      out.fill(0, from + Math.max(0, left), from + Math.min(width, left + side));
    }
  }
}
