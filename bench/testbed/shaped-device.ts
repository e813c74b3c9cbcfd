/**
 * A script: a device that is slow by itself, on a line that is slow by itself; see shaped.ts. It takes what it is to be
 * as JSON, says where it listens as `troupe node --json` does, and ends with its standard input.
 */

import { Device } from "../../actors/device.ts";
import { Stage } from "../../actors/stage.ts";
import { DEVICE_NAME } from "../../cli/node.ts";
import { TOKEN_VARIABLE } from "../../cli/security.ts";
import { createEngine } from "../../nn/engine/create.ts";
import { counted, type Traffic } from "../../runtime/gateway/counted.ts";
import { Actor, NodeRuntime, shaped, systemClock, tcp } from "../../runtime/index.ts";
import { onInputEnd, onSignal } from "../../runtime/platform/process.ts";
import { downlink } from "./downlink.ts";
import { GOODPUT, type Line } from "./link.ts";
import { type Throttled, throttled } from "./throttle.ts";

export interface ShapedDevice {
  readonly name: string;
  readonly share: number;
  readonly memoryBytes: number;
  readonly line: Line;
}

export interface GaugeReading {
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly busyMs: number;
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

async function main({ name, share, memoryBytes, line }: ShapedDevice): Promise<void> {
  const ended = Promise.withResolvers<void>();
  onSignal((signal) => signal === "SIGINT" || ended.resolve());
  onInputEnd(() => ended.resolve());
  const traffic: Traffic = { scheme: "tcp", sentBytes: 0, receivedBytes: 0, pipes: 0, openPipes: 0 };
  const { latencyMs } = line;
  // Headers of packets, which nobody here sees, take their part of a line.
  const bytesPerSecond = ((line.megabits * 1e6) / 8) * GOODPUT;
  const shape = { clock: systemClock, bytesPerSecond, latencyMs };
  const transport = downlink(shaped(counted(tcp(), traffic), { ...shape, line: "transport" }), shape);
  const runtime = new NodeRuntime({
    name,
    transports: [transport],
    token: process.env[TOKEN_VARIABLE]!,
    actors: { Device, Stage },
    log: () => {},
  });
  let engine: Throttled | undefined;
  const open = async () => {
    engine = throttled(await createEngine(), share, systemClock);
    return engine;
  };
  try {
    const address = await runtime.listen("tcp://127.0.0.1:0");
    await runtime.spawn(Device, [name, open, { host: name, memoryBytes }], { name: DEVICE_NAME });
    const read = () => {
      const { sentBytes, receivedBytes } = traffic;
      return { sentBytes, receivedBytes, busyMs: engine?.busyMs ?? 0 };
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
