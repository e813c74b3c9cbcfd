/**
 * A picture in memory, and sets of them with labels: what every loader of images gives and the image feed takes.
 * Pixels are bytes and planar: all of the first channel row by row, then all of the second.
 */

import { DataError } from "./error.ts";
import { splitSamples } from "./samples.ts";

export interface Picture {
  readonly width: number;
  readonly height: number;
  /** 1 is grey, 3 is red, green, blue. */
  readonly channels: number;
  /** [channels, height, width]. */
  readonly pixels: Uint8Array;
}

/** Shares of red, green and blue in how bright a colour is seen (ITU-R BT.601). */
export const SHARES = [0.299, 0.587, 0.114] as const;

/** A file format of pictures. */
export interface PictureFormat {
  /** As people call it. */
  readonly name: string;
  /** Endings of file names, in lower case, with the dot. */
  readonly extensions: readonly string[];
  /** Whether bytes begin as this format does. */
  recognises(bytes: Uint8Array): boolean;
  /** @throws Error saying in a few words what is wrong with the file. */
  decode(bytes: Uint8Array): Picture;
}

/** Pictures with the index of the class of each. */
export interface LabelledPictures {
  readonly count: number;
  /** Borrowed. */
  picture(index: number): Picture;
  label(index: number): number;
}

export interface ImageData {
  readonly kind: "images";
  /** What was found and where, for people. */
  readonly name: string;
  readonly classes: readonly string[];
  readonly channels: number;
  /** The shorter side of the pictures. */
  readonly size: number;
  readonly train: LabelledPictures;
  readonly validation: LabelledPictures;
}

/** Pictures of one size that lie one after another, and their labels; neither is copied. */
export function packed(
  { width, height, channels }: Omit<Picture, "pixels">,
  pixels: Uint8Array,
  labels: ArrayLike<number>,
): LabelledPictures {
  const each = width * height * channels;
  return {
    count: labels.length,
    picture: (index) => ({
      width,
      height,
      channels,
      pixels: pixels.subarray(index * each, (index + 1) * each),
    }),
    label: (index) => labels[index]!,
  };
}

/** Those of the pictures that `indices` names. */
export function subset(whole: LabelledPictures, indices: Uint32Array): LabelledPictures {
  return {
    count: indices.length,
    picture: (index) => whole.picture(indices[index]!),
    label: (index) => whole.label(indices[index]!),
  };
}

/**
 * The training and the validation part: what the data brings, or a tenth of all held out.
 * @param path for the error.
 * @throws DataError when there are fewer than two pictures to share.
 */
export function parts(
  path: string,
  train: LabelledPictures,
  validation: LabelledPictures | null,
): Pick<ImageData, "train" | "validation"> {
  const count = train.count + (validation?.count ?? 0);
  if (count < 2 || train.count === 0) {
    throw new DataError("too-few", path, `it holds ${count} images; two at least are needed`);
  }
  if (validation && validation.count > 0) return { train, validation };
  const split = splitSamples(train.count);
  return { train: subset(train, split.train), validation: subset(train, split.validation) };
}

/**
 * A picture out of samples that lie pixel by pixel, `channels` of 8 bits each: 1 grey, 2 grey and transparency, 3
 * colours, 4 colours and transparency, which is left out.
 */
export function planar(
  samples: Uint8Array | Uint8ClampedArray,
  { width, height }: Pick<Picture, "width" | "height">,
  channels: number,
): Picture {
  const kept = channels < 3 ? 1 : 3;
  const area = width * height;
  const pixels = new Uint8Array(kept * area);
  for (let channel = 0; channel < kept; channel++) {
    for (let i = 0, from = channel; i < area; i++, from += channels)
      pixels[channel * area + i] = samples[from]!;
  }
  return { width, height, channels: kept, pixels };
}

/** A grey picture as three equal channels, a coloured one as its brightness; one that has as many as it is. */
export function withChannels(picture: Picture, channels: number): Picture {
  if (picture.channels === channels) return picture;
  const { pixels } = picture;
  if (channels === 3) {
    const triple = new Uint8Array(3 * pixels.length);
    for (let c = 0; c < 3; c++) triple.set(pixels, c * pixels.length);
    return { ...picture, channels, pixels: triple };
  }
  const area = picture.width * picture.height;
  const grey = Uint8Array.from({ length: area }, (_, i) => {
    return Math.round(
      SHARES[0] * pixels[i]! + SHARES[1] * pixels[area + i]! + SHARES[2] * pixels[2 * area + i]!,
    );
  });
  return { ...picture, channels, pixels: grey };
}

/** The same pictures, all with 1 channel or with 3. */
export function imagesWithChannels(data: ImageData, channels: number): ImageData {
  const of = (part: LabelledPictures): LabelledPictures => ({
    ...part,
    picture: (index) => withChannels(part.picture(index), channels),
  });
  return { ...data, channels, train: of(data.train), validation: of(data.validation) };
}

/** Whole numbers as names of classes: "0", "1", … */
export const numbered = (count: number): string[] => Array.from({ length: count }, (_, i) => String(i));
