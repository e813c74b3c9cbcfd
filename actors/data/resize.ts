/**
 * Pictures brought to another size: bilinear, with the filter widened where the picture shrinks so that no pixel is
 * passed over (as torch.nn.functional.interpolate with antialias=True and align_corners=False, and PIL). Along each
 * axis a pixel is a weighted mean of its neighbours; the weights are triangles around its place.
 */

import type { Picture } from "./picture.ts";

/** For each pixel of an axis, the first pixel it is made of, and the weights of that and those after it. */
interface Taps {
  readonly first: Int32Array;
  readonly weights: readonly Float64Array[];
}

function taps(from: number, to: number): Taps {
  const scale = from / to;
  const support = Math.max(1, scale);
  const first = new Int32Array(to);
  const weights = Array.from({ length: to }, (_, i) => {
    const centre = scale * (i + 0.5);
    const low = Math.max(Math.trunc(centre - support + 0.5), 0);
    const high = Math.min(Math.trunc(centre + support + 0.5), from);
    const own = new Float64Array(high - low);
    let sum = 0;
    for (let j = 0; j < own.length; j++) {
      own[j] = Math.max(0, 1 - Math.abs((j + low - centre + 0.5) / support));
      sum += own[j]!;
    }
    first[i] = low;
    return own.map((weight) => weight / sum);
  });
  return { first, weights };
}

/** The picture with `width` x `height` pixels, at least 1 each; the same object where it has them. */
export function resized(picture: Picture, width: number, height: number): Picture {
  const { width: w, height: h, channels, pixels } = picture;
  if (w === width && h === height) return picture;
  const [across, down] = [taps(w, width), taps(h, height)];
  const rows = new Float32Array(h * width);
  const result = new Uint8Array(channels * width * height);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < h; y++) {
      const row = (c * h + y) * w;
      for (let x = 0; x < width; x++) {
        const own = across.weights[x]!;
        const at = row + across.first[x]!;
        let sum = 0;
        for (let j = 0; j < own.length; j++) sum += own[j]! * pixels[at + j]!;
        rows[y * width + x] = sum;
      }
    }
    for (let y = 0; y < height; y++) {
      const own = down.weights[y]!;
      const first = down.first[y]!;
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let j = 0; j < own.length; j++) sum += own[j]! * rows[(first + j) * width + x]!;
        result[(c * height + y) * width + x] = Math.round(sum);
      }
    }
  }
  return { width, height, channels, pixels: result };
}

/** The picture with its shorter side brought to `side`, and the middle square of that. */
export function squared(picture: Picture, side: number): Picture {
  const shorter = Math.min(picture.width, picture.height);
  const long = (length: number) => Math.max(side, Math.trunc((length * side) / shorter));
  const whole = resized(picture, long(picture.width), long(picture.height));
  const { width, height, channels, pixels } = whole;
  if (width === side && height === side) return whole;
  const [left, top] = [Math.round((width - side) / 2), Math.round((height - side) / 2)];
  const middle = new Uint8Array(channels * side * side);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < side; y++) {
      const from = (c * height + top + y) * width + left;
      middle.set(pixels.subarray(from, from + side), (c * side + y) * side);
    }
  }
  return { width: side, height: side, channels, pixels: middle };
}
