/**
 * `bench planning`: how long the planner takes to choose, for clusters of unequal devices that are imagined and a
 * transformer of 64 segments: the way of `troupe plan --cluster`, without reading and printing.
 */

import { imaginedRequest } from "../actors/plan.ts";
import { readCluster } from "../actors/scheduler/cluster.ts";
import type { DeviceClassName } from "../actors/scheduler/device-classes.ts";
import { makePlan } from "../actors/scheduler/planner.ts";
import { gptModel } from "../nn/models/gpt.ts";
import { DEFAULT_ADAMW } from "../nn/optim/adamw.ts";
import { milliseconds, whole } from "./format.ts";
import { median } from "./statistics.ts";
import type { Suite } from "./suite.ts";

const ROUNDS = 5;
/** 2 for each layer, the embedding and the head. */
const LAYERS = 31;
const MICRO_BATCHES = 32;
const CLASSES: readonly DeviceClassName[] = [
  "raspberry-pi-4",
  "jetson-nano",
  "jetson-tx2",
  "jetson-xavier-nx",
  "laptop",
  "phone",
];

interface Case {
  readonly devices: number;
  /** Whether work inside a micro-batch may be shared too. */
  readonly sharded: boolean;
}

const CASES: readonly Case[] = [
  { devices: 8, sharded: true },
  { devices: 32, sharded: false },
  { devices: 32, sharded: true },
  { devices: 1000, sharded: false },
  { devices: 1000, sharded: true },
];

function requestOf({ devices, sharded }: Case, layers: number) {
  const count = (i: number) => Math.floor(devices / CLASSES.length) + (i < devices % CLASSES.length ? 1 : 0);
  const cluster = readCluster(
    JSON.stringify({
      devices: CLASSES.flatMap((name, i) => (count(i) > 0 ? [{ class: name, count: count(i), name }] : [])),
      links: {
        default: { mbitPerS: 100, latencyMs: 1 },
        classes: [{ from: "laptop", to: "laptop", mbitPerS: 1000, latencyMs: 0.3 }],
      },
    }),
  );
  const model = gptModel({ layers, width: 256, heads: 4, context: 128, vocabulary: 256 }, 1);
  const optimizer = { ...DEFAULT_ADAMW, steps: 100 };
  const strategy = sharded ? "auto" : "hybrid";
  const options = { strategy, schedule: "auto", microBatches: MICRO_BATCHES, recompute: false };
  return imaginedRequest(cluster, { model, optimizer, options });
}

/** Time in which this process was on a core, in milliseconds: others may be busy on the machine. */
function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

export const planning: Suite = {
  name: "planning",
  summary: "how long the planner takes, for up to a thousand devices",
  options: {
    rounds: { value: "N", help: `plans of each case (default: ${ROUNDS})` },
    quick: { help: "few devices and segments: tries the bench, says nothing about speed" },
  },
  run: async (options, { note }) => {
    const quick = options.has("quick");
    const rounds = options.whole("rounds", { from: 1, to: 100 }) ?? (quick ? 1 : ROUNDS);
    const layers = quick ? 1 : LAYERS;
    const rows = CASES.filter(({ devices, sharded }) => !quick || (devices <= 32 && sharded)).map((one) => {
      note(`planning: ${one.devices} devices`);
      const request = requestOf(one, layers);
      const [times, processor]: [number[], number[]] = [[], []];
      let used = 0;
      for (let round = 0; round < rounds; round++) {
        const [start, startProcessor] = [performance.now(), processorMs()];
        const plan = makePlan(request);
        times.push(performance.now() - start);
        processor.push(processorMs() - startProcessor);
        used = plan.devices.filter((device) => device.used).length;
      }
      return {
        ...one,
        segments: request.segments.length,
        used,
        firstMs: times[0]!,
        medianMs: median(times),
        processorMs: median(processor),
      };
    });
    return {
      report: {
        title: "Planner",
        sections: [
          {
            title: "Time to choose a plan",
            text: [
              `Devices of ${CLASSES.length} classes in equal numbers at 100 Mbit/s, ${MICRO_BATCHES} micro-batches; medians of ` +
                `${rounds} plans one after the other, of the clock and of the time in which the process was on a core, whose ` +
                "collector of garbage may use a second one. The first plan is also the compiler's.",
            ],
            table: {
              columns: ["devices", "segments", "shards too", "used", "first", "median", "on a core"],
              rows: rows.map((row) => [
                ...[whole(row.devices), whole(row.segments), row.sharded ? "yes" : "no", whole(row.used)],
                ...[milliseconds(row.firstMs), milliseconds(row.medianMs), milliseconds(row.processorMs)],
              ]),
            },
          },
        ],
        figures: { rows },
      },
      versions: [],
    };
  },
};
