/**
 * CIFAR-10 and CIFAR-100 in their binary version (Krizhevsky, "Learning Multiple Layers of Features from Tiny
 * Images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html): records of one label byte, or two (coarse, then fine,
 * which is the one learned), and 3072 bytes of pixels, red, green and blue planes of 32x32.
 *
 * CIFAR-10 is `data_batch_1.bin` and on, and `test_batch.bin`; CIFAR-100 is `train.bin` and `test.bin`. Some of the
 * training files, or no test file, will do. Names of the classes are read from the text files that come along.
 */

import type { Files } from "../../runtime/platform/files.ts";
import { DataError } from "./error.ts";
import { type ImageData, type LabelledPictures, numbered, packed, parts } from "./picture.ts";

const SIDE = 32;
const PIXELS = 3 * SIDE * SIDE;

interface Version {
  readonly name: string;
  readonly train: RegExp;
  readonly test: string;
  readonly labelBytes: number;
  readonly classes: number;
  readonly names: string;
}

const VERSIONS: readonly Version[] = [
  {
    name: "CIFAR-10",
    train: /^data_batch_\d+\.bin$/,
    test: "test_batch.bin",
    labelBytes: 1,
    classes: 10,
    names: "batches.meta.txt",
  },
  {
    name: "CIFAR-100",
    train: /^train\.bin$/,
    test: "test.bin",
    labelBytes: 2,
    classes: 100,
    names: "fine_label_names.txt",
  },
];

/** Whether a folder with files of these names holds CIFAR's training files. */
export const isCifar = (names: readonly string[]): boolean =>
  VERSIONS.some(({ train }) => names.some((name) => train.test(name)));

/**
 * Reads a folder for which `isCifar` holds.
 * @throws FileError, or DataError when a file ends in mid-record or has a label that there is not.
 */
export async function readCifar(files: Files, folder: string, names: readonly string[]): Promise<ImageData> {
  const version = VERSIONS.find(({ train }) => names.some((name) => train.test(name)))!;
  const read = (name: string) => files.read(`${folder}/${name}`);
  const records = async (which: readonly string[]): Promise<LabelledPictures> => {
    const contents = await Promise.all(which.map(read));
    contents.forEach((bytes, i) => {
      requireRecords(bytes, `${folder}/${which[i]}`, version);
    });
    return unpack(contents, version);
  };
  const train = await records(names.filter((name) => version.train.test(name)).sort());
  const test = names.includes(version.test) ? await records([version.test]) : null;
  return {
    kind: "images",
    name: `${version.name} in ${folder}`,
    classes: names.includes(version.names)
      ? classNames(await read(version.names), version.classes)
      : numbered(version.classes),
    channels: 3,
    size: SIDE,
    ...parts(folder, train, test),
  };
}

function requireRecords(bytes: Uint8Array, path: string, { labelBytes, classes, name }: Version): void {
  const record = labelBytes + PIXELS;
  if (bytes.length % record !== 0) {
    const what = `${bytes.length} bytes are no whole number of ${name} records of ${record} bytes`;
    throw new DataError("corrupt", path, `${what}; the file is damaged or incomplete, fetch it again`);
  }
  for (let at = labelBytes - 1; at < bytes.length; at += record) {
    if (bytes[at]! < classes) continue;
    const what = `record ${Math.floor(at / record)} has the label ${bytes[at]}`;
    throw new DataError("corrupt", path, `${what}; ${name} has labels below ${classes}`);
  }
}

/** Pixels and labels apart. */
function unpack(contents: readonly Uint8Array[], { labelBytes }: Version): LabelledPictures {
  const record = labelBytes + PIXELS;
  const count = contents.reduce((sum, bytes) => sum + bytes.length / record, 0);
  const pixels = new Uint8Array(count * PIXELS);
  const labels = new Uint8Array(count);
  let sample = 0;
  for (const bytes of contents) {
    for (let at = 0; at < bytes.length; at += record, sample++) {
      labels[sample] = bytes[at + labelBytes - 1]!;
      pixels.set(bytes.subarray(at + labelBytes, at + record), sample * PIXELS);
    }
  }
  return packed({ width: SIDE, height: SIDE, channels: 3 }, pixels, labels);
}

function classNames(bytes: Uint8Array, count: number): string[] {
  const names = new TextDecoder()
    .decode(bytes)
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  return names.length === count ? names : numbered(count);
}
