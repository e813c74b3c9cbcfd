/**
 * A folder of pictures sorted into classes: one sub-folder for each class, named as the class, with the pictures in
 * it. Or such folders for training and validation apart, named `train` and `val` (or `valid`, `validation`, `test`).
 * Classes go by the names of their folders in the order of code units.
 *
 * Pictures come in all sizes and are held in memory unpacked. Those whose shorter side is larger than asked for are
 * brought down to it while they are read.
 */

import type { Files } from "../../runtime/platform/files.ts";
import { DataError } from "./error.ts";
import {
  type ImageData,
  type LabelledPictures,
  type Picture,
  type PictureFormat,
  parts,
  withChannels,
} from "./picture.ts";
import { squared } from "./resize.ts";

export interface FolderOptions {
  /** What pictures are read with. */
  readonly formats: readonly PictureFormat[];
  /** Pictures whose shorter side is larger are brought down to it. */
  readonly size: number;
}

/** Bytes of pixels that are held at most. */
const MOST_BYTES = 4 * 2 ** 30;

const VALIDATION = ["val", "valid", "validation", "test"];

interface Class {
  readonly name: string;
  readonly paths: readonly string[];
}

/** Folders of classes that were found, with the pictures in them. */
export interface ClassFolders {
  readonly train: readonly Class[];
  readonly validation: readonly Class[] | null;
}

/**
 * Looks for pictures in the folders of a folder, by the endings of their names.
 * @returns null when there are none.
 * @throws FileError when a folder cannot be read.
 */
export async function findClasses(
  files: Files,
  folder: string,
  formats: readonly PictureFormat[],
): Promise<ClassFolders | null> {
  const names = await files.list(folder);
  const held = VALIDATION.find((name) => names.includes(name));
  if (names.includes("train")) {
    const train = await classesIn(files, `${folder}/train`, formats);
    const validation = held === undefined ? [] : await classesIn(files, `${folder}/${held}`, formats);
    if (train.length > 0) return { train, validation: validation.length > 0 ? validation : null };
  }
  const all = await classesIn(files, folder, formats);
  return all.length > 0 ? { train: all, validation: null } : null;
}

async function classesIn(files: Files, folder: string, formats: readonly PictureFormat[]): Promise<Class[]> {
  const endings = formats.flatMap(({ extensions }) => extensions);
  const classes: Class[] = [];
  if (!(await files.isFolder(folder))) return classes;
  for (const name of (await files.list(folder)).sort()) {
    const path = `${folder}/${name}`;
    if (name.startsWith(".") || !(await files.isFolder(path))) continue;
    const pictures = (await files.list(path))
      .filter(
        (file) => !file.startsWith(".") && endings.some((ending) => file.toLowerCase().endsWith(ending)),
      )
      .sort();
    if (pictures.length > 0) classes.push({ name, paths: pictures.map((file) => `${path}/${file}`) });
  }
  return classes;
}

/**
 * Reads what `findClasses` found.
 * @throws FileError, or DataError for a single class, a class that is validated on and not learned, a picture that
 *   cannot be decoded, or more pictures than are held in memory.
 */
export async function readFolder(
  files: Files,
  folder: string,
  found: ClassFolders,
  options: FolderOptions,
): Promise<ImageData> {
  const classes = found.train.map(({ name }) => name);
  if (classes.length < 2) {
    const what = `pictures are in the folder "${classes[0]}" only`;
    throw new DataError("too-few", folder, `${what}; a folder for each of at least two classes is needed`);
  }
  const unknown = found.validation?.find(({ name }) => !classes.includes(name));
  if (unknown) {
    const what = `the class "${unknown.name}" is in the validation part only`;
    throw new DataError("missing", folder, `${what}; it needs a folder in train too`);
  }
  const budget = { path: folder, bytes: 0 };
  const train = await readPictures(files, found.train, classes, options, budget);
  const validation =
    found.validation && (await readPictures(files, found.validation, classes, options, budget));
  const all = [...train.pictures, ...(validation?.pictures ?? [])];
  const channels = Math.max(...all.map((picture) => picture.channels));
  const labelled = ({ pictures, labels }: Read): LabelledPictures => ({
    count: pictures.length,
    picture: (index) => withChannels(pictures[index]!, channels),
    label: (index) => labels[index]!,
  });
  return {
    kind: "images",
    name: `${all.length} images of ${classes.length} classes in ${folder}`,
    classes,
    channels,
    size: Math.min(...all.map(({ width, height }) => Math.min(width, height))),
    ...parts(folder, labelled(train), validation && labelled(validation)),
  };
}

interface Read {
  readonly pictures: Picture[];
  readonly labels: number[];
}

async function readPictures(
  files: Files,
  found: readonly Class[],
  classes: readonly string[],
  { formats, size }: FolderOptions,
  budget: { readonly path: string; bytes: number },
): Promise<Read> {
  const read: Read = { pictures: [], labels: [] };
  for (const { name, paths } of found) {
    for (const path of paths) {
      const picture = decodePicture(await files.read(path), path, formats);
      const fitting = Math.min(picture.width, picture.height) > size ? squared(picture, size) : picture;
      budget.bytes += fitting.pixels.length;
      if (budget.bytes > MOST_BYTES) {
        const what = `its pictures take more than ${MOST_BYTES / 2 ** 30} GiB unpacked`;
        throw new DataError("too-large", budget.path, `${what}; take a smaller input size or fewer pictures`);
      }
      read.pictures.push(fitting);
      read.labels.push(classes.indexOf(name));
    }
  }
  return read;
}

/** @throws DataError when no format knows the bytes, or theirs says what is wrong with them. */
export function decodePicture(bytes: Uint8Array, path: string, formats: readonly PictureFormat[]): Picture {
  const format = formats.find((candidate) => candidate.recognises(bytes));
  if (!format) {
    const known = formats.map(({ name }) => name).join(", ");
    throw new DataError("corrupt", path, `its content is none of ${known}; remove it or save it as one`);
  }
  try {
    return format.decode(bytes);
  } catch (error) {
    const why = error instanceof Error ? error.message.split("\n")[0] : String(error);
    throw new DataError("corrupt", path, `it is no ${format.name} picture that can be read: ${why}`);
  }
}
