/**
 * IDX, the format of MNIST and its kin (LeCun, Cortes, Burges, "The MNIST database"): two zero bytes, the type of an
 * element (8 is a byte), the number of axes, the size of each axis as a big-endian 32-bit number, then the elements.
 * Images and labels are two files; both may be packed with gzip.
 *
 * Names are as they are found in the wild: `train-images-idx3-ubyte`, `t10k-labels.idx1-ubyte.gz`, with or without
 * something before. Of a folder, `train` is learned from and `t10k` (or `test`) is validated on; a folder with one of
 * the two has a share of it held out.
 */

import type { Files } from "../../runtime/platform/files.ts";
import { DataError } from "./error.ts";
import { readUnpacked } from "./gunzip.ts";
import { type ImageData, type LabelledPictures, numbered, packed, parts } from "./picture.ts";

export interface Idx {
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

const UNSIGNED_BYTE = 8;

/**
 * Reads an IDX file of bytes; the elements are a view.
 * @param path for the errors.
 * @throws DataError when it is none, holds other elements than bytes, or is shorter or longer than it says.
 */
export function decodeIdx(file: Uint8Array, path: string): Idx {
  const axes = file[3] ?? 0;
  const header = 4 + 4 * axes;
  if (file[0] !== 0 || file[1] !== 0 || axes === 0 || file.length < header) {
    throw new DataError("corrupt", path, "it does not begin as an IDX file does; is it a whole IDX file?");
  }
  if (file[2] !== UNSIGNED_BYTE) {
    throw new DataError(
      "unsupported",
      path,
      `its elements are of IDX type ${file[2]}; bytes, type 8, are read`,
    );
  }
  const view = new DataView(file.buffer, file.byteOffset, header);
  const shape = Array.from({ length: axes }, (_, axis) => view.getUint32(4 + 4 * axis));
  const bytes = file.subarray(header);
  const expected = shape.reduce((a, b) => a * b, 1);
  if (bytes.length !== expected) {
    const what = `its header says [${shape}], ${expected} bytes, and ${bytes.length} follow`;
    throw new DataError("corrupt", path, `${what}; the file is damaged or incomplete, fetch it again`);
  }
  return { shape, bytes };
}

const IMAGES = /images[-._]idx3/i;
const isValidation = (name: string) => !/train/i.test(name) && /t10k|test|val/i.test(name);

/** Names of files of images in IDX among these. */
export const idxImages = (names: readonly string[]): string[] => names.filter((name) => IMAGES.test(name));

/**
 * Reads the pairs of files in a folder.
 * @param names of the files in it.
 * @throws FileError, or DataError when a pair is incomplete, damaged or does not fit together, or there are several.
 */
export async function readIdx(files: Files, folder: string, names: readonly string[]): Promise<ImageData> {
  const found = idxImages(names);
  const only = (part: string, candidates: readonly string[]): string | undefined => {
    if (candidates.length <= 1) return candidates[0];
    const listed = candidates.join(" and ");
    throw new DataError("ambiguous", folder, `${listed} are both IDX images for ${part}; leave one there`);
  };
  const held = only(
    "validation",
    found.filter((name) => isValidation(name)),
  );
  const main = only(
    "training",
    found.filter((name) => !isValidation(name)),
  );
  const train = await readPair(files, folder, names, main ?? held!);
  const validation = main && held ? await readPair(files, folder, names, held) : null;
  const sizes = [train, ...(validation ? [validation] : [])].map(({ shape }) => shape.slice(1).join("x"));
  if (sizes[1] !== undefined && sizes[0] !== sizes[1]) {
    throw new DataError("corrupt", folder, `${main} has images of ${sizes[0]}, ${held} of ${sizes[1]}`);
  }
  const [, height, width] = train.shape as [number, number, number];
  return {
    kind: "images",
    name: `IDX images in ${folder} (${found.filter((name) => name === main || name === held).join(", ")})`,
    classes: numbered(Math.max(train.classes, validation?.classes ?? 0)),
    channels: 1,
    size: Math.min(height, width),
    ...parts(folder, train.pictures, validation?.pictures ?? null),
  };
}

interface Pair {
  readonly shape: readonly number[];
  readonly classes: number;
  readonly pictures: LabelledPictures;
}

async function readPair(
  files: Files,
  folder: string,
  names: readonly string[],
  imagesName: string,
): Promise<Pair> {
  const plain = (name: string) => name.replace(/\.gz$/i, "");
  const wanted = plain(imagesName).replace(/images([-._])idx3/i, "labels$1idx1");
  const labelsName = names.find((name) => plain(name) === wanted);
  const path = `${folder}/${imagesName}`;
  if (labelsName === undefined) {
    throw new DataError("missing", path, `its labels are not beside it: ${wanted} or ${wanted}.gz is needed`);
  }
  const images = decodeIdx(await readUnpacked(files, path), path);
  const labels = decodeIdx(await readUnpacked(files, `${folder}/${labelsName}`), `${folder}/${labelsName}`);
  const [count, height, width] = images.shape;
  if (images.shape.length !== 3 || height === 0 || width === 0) {
    const what = `it holds [${images.shape}]; images are [count, height, width]`;
    throw new DataError("unsupported", path, what);
  }
  if (labels.shape.length !== 1 || labels.shape[0] !== count) {
    const what = `it holds [${labels.shape}], and ${imagesName} ${count} images`;
    throw new DataError("corrupt", `${folder}/${labelsName}`, `${what}; one label for each is needed`);
  }
  return {
    shape: images.shape,
    classes: labels.bytes.reduce((most, label) => Math.max(most, label + 1), 0),
    pictures: packed({ width: width!, height: height!, channels: 1 }, images.bytes, labels.bytes),
  };
}
