/**
 * Files that are nobody's business but their owner's, such as private keys, and the folder where a user's settings
 * are kept. Unlike other files (`files.ts`) they are never replaced.
 */

import { mkdir, open, readFile, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { FileError } from "./files.ts";

const OWNER_ONLY = 0o600;
const OTHERS = 0o077;

/** Writes a new file that only its owner may read, and its folder. @throws FileError when one is there already. */
export async function writePrivate(path: string, text: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(path, "wx", OWNER_ONLY);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw told("write", path, error);
  }
}

/** The text, or null when there is no such file. @throws FileError when others than its owner may read it. */
export async function readPrivate(path: string): Promise<string | null> {
  try {
    const found = await stat(path);
    if (!found.isFile()) throw new FileError("other", path, `cannot read ${path}: it is not a file`);
    const { mode } = found;
    // Windows has no such bits: a profile's files are its owner's.
    if (process.platform !== "win32" && (mode & OTHERS) !== 0) {
      const message = `${path} can be read by others on this machine: say chmod 600 ${path} if nobody has`;
      throw new FileError("other", path, message);
    }
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return null;
    throw told("read", path, error);
  }
}

/** Where this user's settings of Troupe are kept, by the custom of the platform. */
export function configFolder(): string {
  const { XDG_CONFIG_HOME, APPDATA } = process.env;
  if (XDG_CONFIG_HOME) return join(XDG_CONFIG_HOME, "troupe");
  if (process.platform === "win32") return join(APPDATA ?? homedir(), "troupe");
  if (process.platform === "darwin") return join(homedir(), "Library", "Application Support", "troupe");
  return join(homedir(), ".config", "troupe");
}

const WHY: Readonly<Record<string, string>> = {
  ENOENT: "there is no such folder, and it cannot be made",
  EEXIST: "there is one already, or a file is in the way of its folder",
  ENOTDIR: "part of its path is a file, not a folder",
  EISDIR: "it is a folder, not a file",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EROFS: "the disk is read-only",
  ENOSPC: "the disk is full",
};

function told(verb: string, path: string, error: unknown): FileError {
  if (error instanceof FileError) return error;
  const code = (error as { code?: string }).code ?? "";
  return new FileError("other", path, `cannot ${verb} ${path}: ${WHY[code] ?? (code || String(error))}`);
}
