/**
 * Files, for the rooms that must not know which platform they run on: a small interface, and its implementation
 * over the `node:fs` that Bun, Deno and Node.js share. What fails is a `FileError` whose one line says which
 * file, what was wanted and why not; nothing of the platform's own error reaches the user.
 */

import { mkdir, open, readdir, readFile, realpath, rename, rm, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/** What is written, one after another; each is borrowed until the next is asked for. */
export type Chunks = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

export interface Files {
  /** The whole file, in memory of the caller's own. */
  read(path: string): Promise<Uint8Array>;
  /** The bytes [start, end) of a file, in memory of the caller's own; fewer where it ends before. */
  readRange(path: string, start: number, end: number): Promise<Uint8Array>;
  /** Bytes of a file. */
  size(path: string): Promise<number>;
  /** Where a path leads when all links on the way are followed. */
  realPath(path: string): Promise<string>;
  /** Names of the files and folders in a folder, in no particular order. */
  list(folder: string): Promise<string[]>;
  exists(path: string): Promise<boolean>;
  /** Whether a folder is there. */
  isFolder(path: string): Promise<boolean>;
  /** Whether a regular file is there: not a folder, a device or a pipe. */
  isFile(path: string): Promise<boolean>;
  /** Makes a folder and its parents; a folder that is there already is fine. */
  makeFolder(path: string): Promise<void>;
  /**
   * Writes the chunks one after another so that the path holds either what it held before or all of them, even if
   * the process or the machine dies meanwhile: a temporary sibling, flushed, then renamed.
   */
  write(path: string, chunks: Chunks): Promise<void>;
  /** Gives a file or folder another name on the same disk, atomically; an existing file there is replaced. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file, or a folder with all that is in it; what is not there is fine. */
  remove(path: string): Promise<void>;
  /** The folder an installed package lives in, by the module resolution of this file or of package `from`. */
  packageFolder(name: string, from?: string): string;
  /** The platform as npm's binary packages spell it, e.g. `linux-x64`. */
  readonly platform: string;
}

export type FileReason =
  | "missing"
  | "denied"
  | "folder"
  | "not-a-folder"
  | "not-a-file"
  | "full"
  | "busy"
  | "other";

/** A file operation that failed; `message` is one line for people. */
export class FileError extends Error {
  readonly code = "FILE";
  override readonly name = "FileError";
  readonly reason: FileReason;
  readonly path: string;

  constructor(reason: FileReason, path: string, message: string) {
    super(message);
    this.reason = reason;
    this.path = path;
  }
}

const REASONS: Readonly<Record<string, readonly [FileReason, string]>> = {
  ENOENT: ["missing", "it does not exist"],
  EACCES: ["denied", "permission denied"],
  EPERM: ["denied", "permission denied"],
  EROFS: ["denied", "the disk is read-only"],
  EISDIR: ["folder", "it is a folder, not a file"],
  ENOTDIR: ["not-a-folder", "part of its path is a file, not a folder"],
  EEXIST: ["not-a-folder", "a file of that name is in the way"],
  ENOSPC: ["full", "the disk is full"],
  ENAMETOOLONG: ["other", "the name is too long"],
  ENOMEM: ["other", "there is not enough memory"],
};

export const files: Files = {
  read: (path) =>
    attempt("read", path, async () => {
      await requireFile("read", path);
      return readFile(path);
    }),
  readRange: (path, start, end) => attempt("read", path, () => readRange(path, start, end)),
  size: (path) => attempt("read", path, async () => (await stat(path)).size),
  realPath: (path) => attempt("read", path, () => realpath(path)),
  list: (folder) => attempt("list", folder, () => readdir(folder)),
  exists: (path) =>
    stat(path).then(
      () => true,
      () => false,
    ),
  isFolder: (path) =>
    stat(path).then(
      (entry) => entry.isDirectory(),
      () => false,
    ),
  isFile: (path) =>
    stat(path).then(
      (entry) => entry.isFile(),
      () => false,
    ),
  makeFolder: (path) =>
    attempt("make the folder", path, () => mkdir(path, { recursive: true })).then(() => {}),
  write: (path, chunks) =>
    attempt("write", path, async () => {
      await requireFile("write", path).catch((error) => {
        if (error.code !== "ENOENT") throw error;
      });
      await writeAtomically(path, chunks);
    }),
  rename: (from, to) => attempt("rename", from, () => rename(from, to).then(() => syncFolder(dirname(to)))),
  remove: (path) => attempt("remove", path, () => rm(path, { recursive: true, force: true })),
  packageFolder,
  platform: `${process.platform}-${process.arch}`,
};

async function readRange(path: string, start: number, end: number): Promise<Uint8Array> {
  await requireFile("read", path);
  const file = await open(path, "r");
  try {
    const bytes = new Uint8Array(Math.max(0, end - start));
    let filled = 0;
    // One read gives at most 2 GiB.
    while (filled < bytes.length) {
      const length = Math.min(bytes.length - filled, 2 ** 30);
      const { bytesRead } = await file.read(bytes, filled, length, start + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return bytes.subarray(0, filled);
  } finally {
    await file.close();
  }
}

/** Devices and pipes never end, or are not to be replaced; folders are told of by whoever opens them. */
async function requireFile(verb: string, path: string): Promise<void> {
  const entry = await stat(path);
  if (entry.isFile() || entry.isDirectory()) return;
  throw new FileError("not-a-file", path, `cannot ${verb} ${path}: it is not a regular file`);
}

/** Files that this process has written: two at once to one path are of two names. */
let written = 0;

async function writeAtomically(path: string, chunks: Chunks): Promise<void> {
  const temporary = `${path}.tmp-${process.pid}-${written++}`;
  try {
    const file = await open(temporary, "w");
    try {
      for await (const chunk of chunks) await file.writeFile(chunk);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
  await syncFolder(dirname(path));
}

/** A rename is durable once its folder is flushed; some platforms cannot open folders, and do without. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r").catch(() => undefined);
  if (handle === undefined) return;
  await handle.sync().catch(() => {});
  await handle.close();
}

function packageFolder(name: string, from?: string): string {
  const start = from === undefined ? import.meta.url : join(packageFolder(from), "package.json");
  try {
    return dirname(createRequire(start).resolve(`${name}/package.json`));
  } catch {
    throw new FileError(
      "missing",
      name,
      `the package ${name} is not installed; install the dependencies first`,
    );
  }
}

async function attempt<T>(verb: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof FileError) throw error;
    const code = (error as { code?: string }).code ?? "";
    const [reason, words] = REASONS[code] ?? (["other", code || String(error)] as const);
    throw new FileError(reason, path, `cannot ${verb} ${path}: ${words}`);
  }
}
