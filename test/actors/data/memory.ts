/** A disk in memory, for loaders: files by path, folders as their paths have it. Only reading is done to it. */

import { FileError, type Files } from "../../../runtime/platform/files.ts";

const forbidden = () => {
  throw new Error("loaders only read");
};

export function memoryFiles(content: Readonly<Record<string, Uint8Array | string>>): Files {
  const paths = Object.keys(content);
  const isFile = (path: string) => content[path] !== undefined;
  const isFolder = (path: string) => paths.some((other) => other.startsWith(`${path}/`));
  const read = async (path: string): Promise<Uint8Array> => {
    const bytes = content[path];
    if (bytes === undefined) throw new FileError("missing", path, `cannot read ${path}: it does not exist`);
    return typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
  };
  return {
    read,
    readRange: async (path, start, end) => (await read(path)).slice(start, end),
    realPath: async (path) => path,
    size: async (path) => (await read(path)).byteLength,
    async list(folder) {
      const inside = paths.filter((path) => path.startsWith(`${folder}/`));
      // In no particular order, as the interface has it.
      return [...new Set(inside.map((path) => path.slice(folder.length + 1).split("/")[0]!))].reverse();
    },
    exists: async (path) => isFile(path) || isFolder(path),
    isFolder: async (path) => isFolder(path),
    isFile: async (path) => isFile(path),
    makeFolder: forbidden,
    write: forbidden,
    rename: forbidden,
    remove: forbidden,
    packageFolder: forbidden,
    platform: "memory",
  };
}

/** Bytes that look random and are not: equal for equal seeds. */
export function noise(length: number, seed: number): Uint8Array {
  let state = seed + 1;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state >>> 24;
  });
}

/** An IDX file of bytes. */
export function idxFile(shape: readonly number[], bytes: Uint8Array): Uint8Array {
  const file = new Uint8Array(4 + 4 * shape.length + bytes.length);
  const view = new DataView(file.buffer);
  file.set([0, 0, 8, shape.length]);
  for (const [axis, size] of shape.entries()) view.setUint32(4 + 4 * axis, size);
  file.set(bytes, 4 + 4 * shape.length);
  return file;
}

/** A binary PPM, or PGM of one channel; samples lie pixel by pixel. */
export function netpbmFile(width: number, height: number, samples: Uint8Array): Uint8Array {
  const kind = samples.length === width * height ? 5 : 6;
  const header = new TextEncoder().encode(`P${kind}\n# a comment\n${width} ${height}\n255\n`);
  return Uint8Array.from([...header, ...samples]);
}

/** The one-line message of the error that a promise rejects with. */
export async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof Error)) throw new Error("it was not refused");
  if (error.message.includes("\n")) throw new Error(`more than one line: ${error.message}`);
  return error.message;
}
