/**
 * Shared memory between processes of one machine and one user. A connection is one file that both map, with a ring
 * of bytes in each direction (ring.ts), and a Unix domain socket as its doorbell and as the sign that the other
 * process lives (doorbell.ts). Tensors travel at memory speed and small messages as fast as over the socket alone.
 *
 * Opening one: the connector connects to the listener's socket, which names its folder; the connector makes a file
 * there, takes its space for real, maps it and names it; the listener maps it, unlinks it and says so. From then
 * on the socket only rings.
 *
 * Whoever can connect is a process of the same user (folder 0700, socket and file 0600). A peer that writes what
 * it likes into the mapping can spoil its own link and nothing else: counts that cannot be true close the pipe
 * (`RingCorrupted`), and bytes are bytes. What it could do as any process of this user can, by other means too, is
 * to shorten the file before it is unlinked, which would kill both.
 */

import { type Clock, systemClock } from "../../clock.ts";
import { asError, RuntimeError, type RuntimeErrorCode } from "../../errors.ts";
import { mappedFiles } from "../../platform/mapped.ts";
import type { Transport } from "../transport.ts";

/** Where shared memory is to be found. */
export interface ShmOptions {
  /** Where sockets of `shm://name` and the files to be mapped are. By default this user's folder in /dev/shm. */
  readonly folder?: string;
  /** Default: the machine's. */
  readonly clock?: Clock;
}

/** Why this platform has no shared memory between processes, or null if it has. Does not throw. */
export function shmUnavailable(): string | null {
  const files = mappedFiles();
  return "unavailable" in files ? files.unavailable : null;
}

/**
 * Addresses are `shm://name`, a socket in this user's folder, or `shm:///path/of/a/socket`; `shm://` asks for a
 * free name. Where files cannot be mapped, `listen` and `connect` are refused with the reason (`shmUnavailable`).
 */
export function shm({ folder, clock = systemClock }: ShmOptions = {}): Transport {
  // Loaded when used: a browser can import this module, only not use it.
  const places = () => import("./open.ts");
  return {
    scheme: "shm",
    async listen(address, accept) {
      return expectMapped("LISTEN_FAILED", `cannot listen on ${address}`, async () =>
        (await places()).listen(address, folder, clock, accept),
      );
    },
    async connect(address, handlers) {
      return expectMapped("CONNECT_FAILED", `cannot connect to ${address}`, async () =>
        (await places()).connect(address, folder, clock, handlers),
      );
    },
  };
}

async function expectMapped<T>(code: RuntimeErrorCode, what: string, work: () => Promise<T>): Promise<T> {
  try {
    const unavailable = shmUnavailable();
    if (unavailable !== null) throw new Error(unavailable);
    return await work();
  } catch (error) {
    throw new RuntimeError(code, `${what}: ${asError(error).message}`, { cause: error });
  }
}
