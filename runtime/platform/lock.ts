/**
 * A lock on a folder between processes of one machine: a file that holds the owner's process number. A lock whose
 * owner is gone, killed before it could release it, is taken over.
 */

import { open, readFile, rm } from "node:fs/promises";
import { FileError } from "./files.ts";

/**
 * Takes the lock at `path`; resolves with what releases it.
 * @throws FileError "busy" when a living process holds it, naming it.
 */
export async function lock(path: string): Promise<() => Promise<void>> {
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      const file = await open(path, "wx");
      await file.writeFile(`${process.pid}\n`);
      await file.close();
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as { code?: string }).code !== "EEXIST") throw error;
    }
    const owner = Number(await readFile(path, "utf8").catch(() => ""));
    if (isAlive(owner)) {
      throw new FileError(
        "busy",
        path,
        `${path} says that process ${owner} is using this folder: choose another`,
      );
    }
    await rm(path, { force: true });
  }
  throw new FileError("busy", path, `${path} is being taken by another process: choose another folder`);
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === "EPERM";
  }
}
