/**
 * What a path holds, recognised and read: pictures with labels (IDX, CIFAR, folders of classes), a table (CSV), or
 * text. Whoever asks says which of these a model can learn from, so that a folder with several is no riddle.
 */

import type { Files } from "../../runtime/platform/files.ts";
import { isCifar, readCifar } from "./cifar.ts";
import { type Corpus, readText } from "./corpus.ts";
import { DataError } from "./error.ts";
import { findClasses, readFolder } from "./folder.ts";
import { idxImages, readIdx } from "./idx.ts";
import type { ImageData, PictureFormat } from "./picture.ts";
import { readTable, type TableData } from "./table.ts";

export interface TextData {
  readonly kind: "text";
  readonly name: string;
  readonly corpus: Corpus;
}

export type Data = ImageData | TableData | TextData;
export type DataKind = Data["kind"];

export interface ReadOptions {
  /** Kinds that the model can learn from, the preferred first. */
  readonly wanted: readonly DataKind[];
  /** What pictures are read with. */
  readonly formats: readonly PictureFormat[];
  /** Side that the model takes pictures at; larger ones in folders of classes are brought down to it. */
  readonly size: number;
  /** Name of a table's label column; null for the last. */
  readonly label: string | null;
}

/** What would be right, by kind. */
const REMEDIES: Readonly<Record<DataKind, string>> = {
  images:
    "images are IDX files (train-images-idx3-ubyte and -labels-idx1-ubyte, packed or not), CIFAR's binary files, or a folder of pictures for each class",
  table: "a table is a .csv file of numbers with a label column",
  text: "text is a UTF-8 file",
};

const TABLE = /\.(csv|tsv)$/i;
const TEXT = /\.(txt|md|text)$/i;
/** Folders that CIFAR's archives unpack to. */
const CIFAR_FOLDERS = ["cifar-10-batches-bin", "cifar-100-binary"];

interface Found {
  readonly kind: DataKind;
  /** For people. */
  readonly what: string;
  readonly read: () => Promise<Data>;
}

/**
 * @throws FileError when something cannot be read; DataError, in one line that says what was found and what would be
 *   right, when nothing of the wanted kinds is there, when it is damaged, or when several are there.
 */
export async function readData(files: Files, path: string, options: ReadOptions): Promise<Data> {
  if (!(await files.exists(path))) throw new DataError("missing", path, "there is no such file or folder");
  const found = (await files.isFolder(path))
    ? await inFolder(files, path, options)
    : await inFile(files, path, options);
  for (const kind of options.wanted) {
    const [only, other] = found.filter((candidate) => candidate.kind === kind);
    if (only && other) {
      throw new DataError("ambiguous", path, `it holds ${only.what} and ${other.what}; name one of them`);
    }
    if (only) return only.read();
  }
  const what = found.length > 0 ? found.map((one) => one.what).join(" and ") : "nothing to learn from";
  const remedy = options.wanted.map((kind) => REMEDIES[kind]).join("; ");
  throw new DataError("missing", path, `it holds ${what}; what is wanted: ${remedy}`);
}

async function inFile(files: Files, path: string, options: ReadOptions): Promise<Found[]> {
  const [folder, name] = [parentOf(path), path.slice(path.lastIndexOf("/") + 1)];
  if (TABLE.test(name)) return [table(files, path, options)];
  if (idxImages([name]).length > 0) {
    const names = await files.list(folder);
    // The images that are named, whatever other images lie beside them.
    const own = names.filter((other) => other === name || idxImages([other]).length === 0);
    return [{ kind: "images", what: `IDX images (${name})`, read: () => readIdx(files, folder, own) }];
  }
  if (isCifar([name])) {
    return [{ kind: "images", what: `a CIFAR file (${name})`, read: () => readCifar(files, folder, [name]) }];
  }
  return [text(files, path)];
}

async function inFolder(files: Files, folder: string, options: ReadOptions): Promise<Found[]> {
  const names = (await files.list(folder)).sort();
  const found: Found[] = [];
  const images = (what: string, read: () => Promise<Data>) => found.push({ kind: "images", what, read });
  const idx = idxImages(names);
  if (idx.length > 0) images(`IDX images (${idx.join(", ")})`, () => readIdx(files, folder, names));
  if (isCifar(names)) images("CIFAR's binary files", () => readCifar(files, folder, names));
  for (const name of CIFAR_FOLDERS.filter((candidate) => names.includes(candidate))) {
    const [inner, innerPath] = [await files.list(`${folder}/${name}`), `${folder}/${name}`];
    if (isCifar(inner)) images(`CIFAR's binary files (${name})`, () => readCifar(files, innerPath, inner));
  }
  if (found.length === 0) {
    const classes = await findClasses(files, folder, options.formats);
    if (classes) {
      images(`folders of pictures (${listed(classes.train.map(({ name }) => name))})`, () =>
        readFolder(files, folder, classes, options),
      );
    }
  }
  for (const name of names.filter((one) => TABLE.test(one)))
    found.push(table(files, `${folder}/${name}`, options));
  for (const name of names.filter((one) => TEXT.test(one))) found.push(text(files, `${folder}/${name}`));
  return found;
}

const table = (files: Files, path: string, { label }: ReadOptions): Found => ({
  kind: "table",
  what: `a table (${path})`,
  read: () => readTable(files, path, label),
});

const text = (files: Files, path: string): Found => ({
  kind: "text",
  what: `text (${path})`,
  read: async () => {
    const corpus = await readText(files, path);
    return { kind: "text", name: corpus.name, corpus };
  },
});

const parentOf = (path: string): string => {
  const slash = path.lastIndexOf("/");
  if (slash < 0) return ".";
  return slash === 0 ? "/" : path.slice(0, slash);
};

const listed = (names: readonly string[]): string =>
  names.length <= 5 ? names.join(", ") : `${names.slice(0, 5).join(", ")} and ${names.length - 5} more`;
