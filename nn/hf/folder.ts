/**
 * A Hugging Face model folder as this package sees it: names, sizes and ranges of bytes. Whoever has the files (a
 * disk, a browser's storage, another device) hands one of these in.
 */

export interface Folder {
  /** The folder's own name, for errors and for the model's. */
  readonly name: string;
  /** Its files, by name, with their size in bytes; no subfolders. */
  list(): Promise<ReadonlyMap<string, number>>;
  /** A whole file. */
  read(file: string): Promise<Uint8Array>;
  /** The bytes [start, end) of a file; fewer where it ends before. */
  readRange(file: string, start: number, end: number): Promise<Uint8Array>;
}

/** A folder, a file in it or a tensor of it that cannot be used; the message names it, and the remedy. */
export class HuggingFaceError extends Error {
  readonly code = "HUGGING_FACE";
  override readonly name = "HuggingFaceError";
}

/** A folder whose files are in memory. They are borrowed. */
export function memoryFolder(name: string, files: ReadonlyMap<string, Uint8Array>): Folder {
  const file = (path: string): Uint8Array => {
    const bytes = files.get(path);
    if (!bytes) throw new HuggingFaceError(`${name} has no file ${path}`);
    return bytes;
  };
  return {
    name,
    list: async () => new Map([...files].map(([path, bytes]) => [path, bytes.byteLength])),
    read: async (path) => file(path),
    readRange: async (path, start, end) => file(path).subarray(start, end),
  };
}

/**
 * Reads a file of JSON that holds an object.
 * @throws HuggingFaceError when it is something else.
 */
export async function readJson(folder: Folder, file: string): Promise<Readonly<Record<string, unknown>>> {
  const text = new TextDecoder().decode(await folder.read(file));
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return value as Record<string, unknown>;
    }
  } catch {
    // Told in the same words as JSON of another kind.
  }
  throw new HuggingFaceError(`${folder.name}/${file} is not a JSON object: fetch the folder again`);
}
