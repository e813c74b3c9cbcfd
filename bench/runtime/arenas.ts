/** Who is measured beside whom, in what, and what is promised: the tables of `bench runtime`. */

import { join } from "node:path";
import { run } from "../child.ts";
import rivals from "../rivals/actors/package.json";
import type { Unit } from "./units.ts";

export interface Case {
  /** The contenders' name of it. */
  readonly key: string;
  readonly title: string;
  readonly unit: Unit;
  readonly promise?: string;
  /**
   * Whether the promise is kept, from Troupe's median (nanoseconds or bytes, lower is better) and from how many times
   * as long a rival takes; undefined where the rival is not here.
   */
  readonly kept?: (ours: number, beside: (rival: string) => number | undefined) => boolean | undefined;
}

export interface Contender {
  readonly name: string;
  readonly command: readonly string[];
  /** Before it is started. @throws ChildError when it cannot be. */
  readonly prepare?: () => Promise<unknown>;
}

export interface Arena {
  readonly name: string;
  readonly title: string;
  readonly text: string;
  /** Troupe first. */
  readonly contenders: readonly Contender[];
  readonly cases: readonly Case[];
  readonly versions?: () => readonly string[];
}

const bun = (file: string, ...args: string[]) => [process.execPath, join(import.meta.dir, file), ...args];
const RIVALS = join(import.meta.dir, "..", "rivals");
const installed = () =>
  run({ command: [process.execPath, "install", "--frozen-lockfile", "--cwd", join(RIVALS, "actors")] });

const local: Arena = {
  name: "local",
  title: "Actors on one thread",
  text:
    "Tells in bursts of 10,000, each ended by an ask whose answer has to be their number; asks one after the other, " +
    "the median of single ones; an actor started and stopped, each awaited where there is something to await; bytes " +
    "of heap per idle actor. XState's actors run in the sender's call and have no mailbox to wait in.",
  contenders: [
    { name: "Troupe", command: bun("local-troupe.ts") },
    { name: "nact", command: bun("local-nact.ts"), prepare: installed },
    { name: "XState", command: bun("local-xstate.ts"), prepare: installed },
    { name: "Erlang/OTP", command: ["escript", join(RIVALS, "erlang", "local.escript")] },
  ],
  cases: [
    {
      ...{
        key: "tell",
        title: "tell",
        unit: "messages/s",
        promise: "10 M/s, ahead of every JavaScript rival",
      },
      kept: (ours, beside) => ours <= 100 && (beside("nact") ?? 2) > 1 && (beside("XState") ?? 2) > 1,
    },
    { key: "ask", title: "ask, p50", unit: "µs", promise: "at most 1 µs", kept: (ours) => ours <= 1000 },
    {
      key: "spawn",
      title: "spawn and stop",
      unit: "per second",
      promise: "500 k/s",
      kept: (ours) => ours <= 2000,
    },
    {
      key: "memory",
      title: "memory of an idle actor",
      unit: "bytes",
      promise: "at most 1 KiB",
      kept: (ours) => ours <= 1024,
    },
  ],
  versions: () => Object.entries(rivals.dependencies).map(([name, version]) => `${name} ${version}`),
};

const tcp: Arena = {
  name: "tcp",
  title: "Between two processes, over TCP on loopback",
  text:
    "An ask of 1 KiB that is answered with it, beside an echo; tells to an actor that counts them, beside one write " +
    "for each message of 32 bytes; tensors of 64 MiB, beside as many bytes put together in one buffer; and an ask of " +
    "another actor while a tensor of 256 MiB is on its way to the first.",
  contenders: [
    { name: "Troupe", command: bun("link-troupe.ts", "tcp://127.0.0.1:0") },
    { name: "raw sockets", command: bun("link-raw.ts") },
  ],
  cases: [
    {
      ...{
        key: "ask",
        title: "1 KiB there and back, p50",
        unit: "µs",
        promise: "at most 1.3 times the raw echo",
      },
      kept: (_, beside) => atLeast(beside("raw sockets"), 1 / 1.3),
    },
    {
      key: "small",
      title: "small messages",
      unit: "messages/s",
      promise: "200 k/s",
      kept: (ours) => ours <= 5000,
    },
    {
      ...{ key: "tensor", title: "tensors of 64 MiB", unit: "GB/s", promise: "at least 0.9 of a raw socket" },
      kept: (_, beside) => atLeast(beside("raw sockets"), 0.9),
    },
    {
      ...{ key: "control", title: "an ask behind 256 MiB, p50", unit: "ms", promise: "at most 5 ms" },
      kept: (ours) => ours <= 5e6,
    },
    {
      ...{ key: "control90", title: "an ask behind 256 MiB, p90", unit: "ms", promise: "at most 5 ms" },
      kept: (ours) => ours <= 5e6,
    },
  ],
};

const shm: Arena = {
  name: "shm",
  title: "Between two processes, through shared memory",
  text:
    "Tensors of 64 MiB, beside the copy of as many bytes from one buffer to another in one process (memcpy), beside " +
    "Troupe over TCP and beside a raw socket; and 1 KiB there and back.",
  contenders: [
    { name: "Troupe", command: bun("link-troupe.ts", "shm://") },
    { name: "memcpy", command: bun("link-memcpy.ts") },
    { name: "Troupe over TCP", command: bun("link-troupe.ts", "tcp://127.0.0.1:0") },
    { name: "raw TCP", command: bun("link-raw.ts") },
  ],
  cases: [
    {
      ...{ key: "tensor", title: "tensors of 64 MiB", unit: "GB/s" },
      promise: "at least 0.6 of memcpy and twice TCP",
      kept: (_, beside) => both(atLeast(beside("memcpy"), 0.6), atLeast(beside("Troupe over TCP"), 2)),
    },
    { key: "ask", title: "1 KiB there and back, p50", unit: "µs" },
  ],
};

const worker: Arena = {
  name: "worker",
  title: "Between two threads",
  text:
    "A tensor of 4 MiB that is given away, from thread to thread and back: the time of one way, beside a buffer that " +
    "is transferred by postMessage; and a small ask, beside a number there and back. Medians of single ones: means are " +
    "up to twice as long on both sides, because every few transfers the engine collects garbage.",
  contenders: [
    { name: "Troupe", command: bun("worker-troupe.ts") },
    { name: "raw postMessage", command: bun("worker-raw.ts") },
  ],
  cases: [
    {
      ...{ key: "hop", title: "4 MiB given to the other thread, p50", unit: "µs" },
      promise: "at most 1.3 times a raw transfer",
      kept: (_, beside) => atLeast(beside("raw postMessage"), 1 / 1.3),
    },
    { key: "ask", title: "a small ask, p50", unit: "µs" },
  ],
};

const webrtc: Arena = {
  name: "webrtc",
  title: "Between two processes, over a WebRTC data channel",
  text:
    "Tensors of 16 MiB, beside a raw data channel of the same library with messages of the same size that are put " +
    "together in one buffer.",
  contenders: [
    { name: "Troupe", command: bun("link-troupe.ts", "webrtc://") },
    { name: "raw data channel", command: bun("webrtc-raw.ts") },
  ],
  cases: [
    {
      ...{ key: "tensor", title: "tensors of 16 MiB", unit: "GB/s" },
      promise: "at least 0.95 of the raw library",
      kept: (_, beside) => atLeast(beside("raw data channel"), 0.95),
    },
  ],
};

/** Whether the rival takes at least so many times as long as Troupe. */
function atLeast(beside: number | undefined, share: number): boolean | undefined {
  return beside === undefined ? undefined : beside >= share;
}

function both(a: boolean | undefined, b: boolean | undefined): boolean | undefined {
  return a === undefined || b === undefined ? undefined : a && b;
}

export const ARENAS: readonly Arena[] = [local, tcp, shm, worker, webrtc];
