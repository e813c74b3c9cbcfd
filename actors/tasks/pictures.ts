/** How pictures are read and varied for training, whatever the model. */

import { type Augmentations, NO_AUGMENTATION } from "../data/augment.ts";
import { BITMAPS } from "../data/bitmap.ts";
import { jpeg } from "../data/jpeg.ts";
import type { PictureFormat } from "../data/picture.ts";
import { png } from "../data/png.ts";

export const FORMATS: readonly PictureFormat[] = [png, jpeg, ...BITMAPS];

/** Names on the command line: nothing; a shifted crop; a shifted crop, mirrored half the time. */
export const AUGMENTATIONS = ["none", "crop", "crop-flip"] as const;
export type AugmentationName = (typeof AUGMENTATIONS)[number];

/** An eighth of the side is what is usual on 32 pixels (He et al., 2015: 4 pixels of padding and a mirror image). */
export function augmentationOf(name: AugmentationName, size: number): Augmentations {
  if (name === "none") return NO_AUGMENTATION;
  return { ...NO_AUGMENTATION, crop: Math.max(1, Math.round(size / 8)), flip: name === "crop-flip" };
}
