/** What is left behind by processes that are all over: nothing, if all is well. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";

export interface Traces {
  /** In the environment of every process that was started. */
  readonly mark: string;
  readonly pids: ReadonlySet<number>;
  /** Everything that was listened on. */
  readonly addresses: ReadonlySet<string>;
  /** The folder for temporary files that they were given. */
  readonly temporary: string;
}

/** In words, one for each thing; Linux tells. */
export async function leftovers({ mark, pids, addresses, temporary }: Traces): Promise<string[]> {
  const found: string[] = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    if (isMarked(pid, mark)) found.push(`process ${pid}`);
  }
  for (const address of addresses) {
    const [scheme, rest = ""] = address.split("://");
    if (scheme === "tcp" && (await answers(rest))) found.push(`listening socket ${address}`);
  }
  const shared = join("/dev/shm", `troupe-${userInfo().uid}`);
  for (const name of existsSync(shared) ? readdirSync(shared) : []) {
    const maker = Number(/^map-\d+-(\d+)-/.exec(name)?.[1]);
    const isOurs = pids.has(maker) || addresses.has(`shm://${name.replace(/\.sock$/, "")}`);
    if (isOurs) found.push(`shared memory ${name}`);
  }
  for (const name of readdirSync(temporary)) found.push(`temporary file ${name}`);
  return found;
}

function isMarked(pid: string, mark: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(mark);
  } catch {
    return false; // Another user's, or it has ended.
  }
}

async function answers(place: string): Promise<boolean> {
  const [hostname, port] = place.split(":") as [string, string];
  try {
    const socket = await Bun.connect({ hostname, port: Number(port), socket: { data() {} } });
    socket.end();
    return true;
  } catch {
    return false;
  }
}
