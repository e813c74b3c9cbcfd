/**
 * A script: a device that is slow by itself, on a line that may be slow by itself; see shaped.ts and namespaces.ts. It
 * takes what it is to be as JSON, says where it listens as `troupe node --json` does, and ends with its standard input.
 */

import { readFileSync } from "node:fs";
import process from "node:process";
import { Device } from "../../actors/device.ts";
import { Stage } from "../../actors/stage.ts";
import { DEVICE_NAME } from "../../cli/node.ts";
import { TOKEN_VARIABLE } from "../../cli/security.ts";
import { createEngine } from "../../nn/engine/create.ts";
import { counted, type Traffic } from "../../runtime/gateway/counted.ts";
import { Actor, type Clock, NodeRuntime, shaped, systemClock, tcp } from "../../runtime/index.ts";
import { onInputEnd, onSignal } from "../../runtime/platform/process.ts";
import type { Transport } from "../../runtime/transports/transport.ts";
import { parseSchedstat } from "../processes.ts";
import { downlink } from "./downlink.ts";
import { GOODPUT, type Line } from "./link.ts";
import { type Paced, paced } from "./paced.ts";
import { openReferenceKernel } from "./reference-kernel.ts";
import { kernelThread } from "./threads.ts";

export interface PacedDevice {
  readonly name: string;
  readonly share: number;
  readonly memoryBytes: number;
  /** Where it listens. */
  readonly listen: string;
  /** Null where the network is as slow as it is to be. */
  readonly line: Line | null;
}

export interface GaugeReading {
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly busyMs: number;
  readonly lateMs: number;
}

export const GAUGE_NAME = "gauge";

/** Tells what the device has used. */
export class Gauge extends Actor {
  readonly #read: () => GaugeReading;

  constructor(read: () => GaugeReading) {
    super();
    this.#read = read;
  }

  read(): GaugeReading {
    return this.#read();
  }
}

/** A transport whose pipes take as long as the line would, in both directions. */
function onLine({ megabits, latencyMs }: Line, transport: Transport): Transport {
  // Headers of packets, which nobody here sees, take their part of a line.
  const shape = { clock: systemClock, bytesPerSecond: ((megabits * 1e6) / 8) * GOODPUT, latencyMs };
  return downlink(shaped(transport, { ...shape, line: "transport" }), shape);
}

const MOST_TURNS = 50;
/** What timers may be late by. */
const TIMER_MS = 1.5;

/** Waits for the last moment awake, letting everything else have its turn. */
const exactClock: Clock = {
  ...systemClock,
  async sleep(ms) {
    const until = systemClock.now() + ms;
    if (ms > TIMER_MS) await systemClock.sleep(ms - TIMER_MS);
    while (systemClock.now() < until) await new Promise((resolve) => setImmediate(resolve));
  },
};

/** How long the kernels' thread of this process has had a processor; undefined where the system does not tell. */
async function kernelClock(): Promise<(() => Promise<number>) | undefined> {
  if (process.platform !== "linux") return undefined;
  const folder = `/proc/self/task/${await kernelThread(process.pid)}`;
  const isRunning = () => /\) R /.test(readFileSync(`${folder}/stat`, "utf8"));
  return async () => {
    // What a thread does is counted when it goes to sleep, a moment after its kernel's end.
    for (let turn = 0; turn < MOST_TURNS && isRunning(); turn++) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    return parseSchedstat(readFileSync(`${folder}/schedstat`, "utf8"));
  };
}

async function main({ name, share, memoryBytes, listen, line }: PacedDevice): Promise<void> {
  const ended = Promise.withResolvers<void>();
  onSignal((signal) => signal === "SIGINT" || ended.resolve());
  onInputEnd(() => ended.resolve());
  const traffic: Traffic = { scheme: "tcp", sentBytes: 0, receivedBytes: 0, pipes: 0, openPipes: 0 };
  const transport = line
    ? onLine(line, counted(tcp(), traffic))
    : counted(tcp({ plaintext: "everywhere" }), traffic);
  const runtime = new NodeRuntime({
    name,
    transports: [transport],
    token: process.env[TOKEN_VARIABLE]!,
    actors: { Device, Stage },
    log: () => {},
  });
  let engine: Paced | undefined;
  const open = async () => {
    const own = await createEngine();
    const reference = await openReferenceKernel(own);
    const computedMs = await kernelClock();
    engine = paced(own, { share, clock: exactClock, reference, ...(computedMs && { computedMs }) });
    return engine;
  };
  try {
    const address = await runtime.listen(listen);
    await runtime.spawn(Device, [name, open, { host: name, memoryBytes }], { name: DEVICE_NAME });
    const read = () => {
      const { sentBytes, receivedBytes } = traffic;
      return { sentBytes, receivedBytes, busyMs: engine?.busyMs ?? 0, lateMs: engine?.lateMs ?? 0 };
    };
    await runtime.spawn(Gauge, [read], { name: GAUGE_NAME });
    process.stdout.write(`${JSON.stringify({ event: "listening", address, name })}\n`);
    await ended.promise;
  } finally {
    await runtime.close();
  }
}

if (import.meta.main) {
  await main(JSON.parse(process.argv[2]!));
  process.exit(0);
}
