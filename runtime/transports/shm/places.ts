/**
 * Where shared memory lives in the file system: one folder per user (0700), with the sockets that are listened on
 * and, for as long as it takes two processes to open one, the files that are to be mapped.
 *
 * Nothing is left behind by a process that is killed, whenever that is. A mapped file is unlinked as soon as both
 * ends have mapped it; one whose maker ended before that, and a socket whose listener was killed, is removed by
 * the next listener in the folder. Only what is dead is removed: a socket that refuses connections, a file whose
 * maker is gone or that is older than any attempt to connect may last.
 */

import * as fs from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { Clock } from "../../clock.ts";
import { type Random, systemRandom } from "../../random.ts";
import { connectTo, type DoorbellListener, listenAt, type Opened } from "./doorbell.ts";

/** Milliseconds after which a file that is still there belongs to nobody; connecting gives up long before. */
const LEFT_OVER_MS = 60_000;
/** A socket is bound a moment before it takes connections: one younger than this gets a second chance. */
const FRESH_MS = 1000;
const SECOND_CHANCE_MS = 50;
/** What every Unix takes as the path of a socket, in bytes. */
const SOCKET_PATH_BYTES = 103;
const ZEROS = new Uint8Array(64 * 1024);
const FILE_NAME = /^map-(\d+)-(\d+)-[0-9a-f]{16}$/;

/** The folder of this user's sockets and files: in memory where the machine has such a place. */
export function userFolder(): string {
  const base = fs.existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
  return join(base, `troupe-${userInfo().uid}`);
}

/** Makes the folder, or sees to it that nobody else could have put anything there. @throws Error saying what is wrong. */
export function ownFolder(folder: string): void {
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const { uid, mode } = fs.lstatSync(folder);
  const mine = uid === userInfo().uid && (mode & 0o170077) === fs.constants.S_IFDIR;
  if (!mine) {
    const found = `owner ${uid}, mode ${(mode & 0o7777).toString(8)}`;
    throw new Error(`expected ${folder} to be a folder of this user with mode 700, found ${found}`);
  }
}

// --- files to be mapped ----------------------------------------------------------------------------------------

/**
 * Makes a file of zeros whose space is really taken, so that a full disk is an error here and not a SIGBUS later.
 * Returns its name in the folder. @throws the system's error (ENOSPC), leaving nothing.
 */
export function createFile(folder: string, byteLength: number, random: Random = systemRandom): string {
  const name = `map-${processNamespace()}-${process.pid}-${hex(random.bytes(8))}`;
  const path = join(folder, name);
  const file = fs.openSync(path, "wx+", 0o600);
  try {
    for (let at = 0; at < byteLength; ) {
      at += fs.writeSync(file, ZEROS, 0, Math.min(ZEROS.byteLength, byteLength - at));
    }
  } catch (error) {
    fs.rmSync(path, { force: true });
    throw error;
  } finally {
    fs.closeSync(file);
  }
  return name;
}

/** The path of a file that another process says it has made here. @throws Error when it is anything else. */
export function checkedFile(folder: string, name: string, byteLength: number): string {
  if (!FILE_NAME.test(name)) throw new Error(`"${name}" is not the name of a file to be mapped`);
  const path = join(folder, name);
  const stat = fs.lstatSync(path);
  if (!stat.isFile() || stat.size !== byteLength || (stat.mode & 0o077) !== 0) {
    const found = `${stat.isFile() ? "" : "no file, "}${stat.size} bytes, mode ${(stat.mode & 0o777).toString(8)}`;
    throw new Error(`expected a file of ${byteLength} bytes with mode 600, found ${found}`);
  }
  return path;
}

/** Unlinks a file of the folder; fine if it is gone. */
export function removeFile(folder: string, name: string): void {
  fs.rmSync(join(folder, name), { force: true });
}

// --- sockets ---------------------------------------------------------------------------------------------------

/**
 * Listens at a path, which only this user may connect to; takes over from a listener that was killed.
 * @throws Error "in use", or what the system says.
 */
export async function listenOn(path: string, clock: Clock, opened: Opened): Promise<DoorbellListener> {
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES) {
    throw new Error(`the path of a socket has at most ${SOCKET_PATH_BYTES} bytes, ${path} is longer`);
  }
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const listener = await listenAt(path, opened);
      fs.chmodSync(path, 0o600);
      return listener;
    } catch (error) {
      if ((error as { code?: string }).code !== "EADDRINUSE") throw error;
    }
    if (!(await removeDeadSocket(path, clock))) break;
  }
  throw new Error("it is in use");
}

/** Removes what killed processes left in the folder. */
export async function sweep(folder: string, clock: Clock): Promise<void> {
  for (const name of fs.readdirSync(folder)) {
    const path = join(folder, name);
    if (name.endsWith(".sock")) await removeDeadSocket(path, clock);
    const [, namespace, maker] = FILE_NAME.exec(name) ?? [];
    if (maker === undefined) continue;
    const gone = namespace === processNamespace() && !isAlive(Number(maker));
    if (gone || ageMs(path, clock) > LEFT_OVER_MS) fs.rmSync(path, { force: true });
  }
}

/** Whether the path is free now. Anything that is not a socket, or is listened on, stays. */
async function removeDeadSocket(path: string, clock: Clock): Promise<boolean> {
  const found = fs.lstatSync(path, { throwIfNoEntry: false });
  if (!found) return true;
  if (!found.isSocket() || !(await refuses(path))) return false;
  if (ageMs(path, clock) < FRESH_MS) {
    await clock.sleep(SECOND_CHANCE_MS);
    if (!(await refuses(path))) return false;
  }
  // Another process may do the same at this moment and listen already. Renaming takes exactly one file away;
  // if that was not the dead one, it is put back.
  const aside = `${path}.${hex(systemRandom.bytes(4))}`;
  try {
    fs.renameSync(path, aside);
    if (fs.lstatSync(aside).ino !== found.ino) fs.linkSync(aside, path);
    fs.unlinkSync(aside);
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOENT") throw error;
  }
  return true;
}

/** Whether nobody listens on this socket. */
async function refuses(path: string): Promise<boolean> {
  try {
    await connectTo(path, (bell) => {
      bell.close();
      return { received: () => undefined, closed: () => undefined };
    });
    return false;
  } catch (error) {
    return (error as { code?: string }).code === "ECONNREFUSED";
  }
}

function ageMs(path: string, clock: Clock): number {
  const stat = fs.lstatSync(path, { throwIfNoEntry: false });
  return stat ? clock.now() - stat.mtimeMs : 0;
}

/** Process numbers mean something within one namespace; containers may share the folder. */
function processNamespace(): string {
  try {
    return /\d+/.exec(fs.readlinkSync("/proc/self/ns/pid"))?.[0] ?? "0";
  } catch {
    return "0";
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code !== "ESRCH";
  }
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
