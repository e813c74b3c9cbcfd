/**
 * `bench simulate`: how many primitive events a second the simulator goes through on one core, on pipelines and groups of
 * up to thousands of devices, and the bubbles it finds for each schedule. Lowering programs is apart: it is done once for
 * as many runs as are wanted.
 */

import { FREE_LINK } from "../actors/scheduler/cost.ts";
import type { RunCost } from "../actors/scheduler/run-cost.ts";
import {
  chainShape,
  type PipelineShape,
  SCHEDULES,
  type ScheduleName,
} from "../actors/scheduler/schedule.ts";
import { execute } from "../actors/scheduler/simulate/engine.ts";
import { lower } from "../actors/scheduler/simulate/lower.ts";
import { predict } from "../actors/scheduler/simulate.ts";
import { milliseconds, percent, whole } from "./format.ts";
import { median } from "./statistics.ts";
import type { Suite } from "./suite.ts";

const ROUNDS = 9;

interface Case {
  readonly name: string;
  readonly schedule: ScheduleName;
  readonly shape: PipelineShape;
}

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

/** `stages` stages of `width` members who share in this way. */
function grid(
  stages: number,
  width: number,
  microBatches: number,
  sharing: "data" | "tensor",
  chunks = 1,
): PipelineShape {
  const all = range(microBatches);
  const members = range(width).map((rank) =>
    sharing === "tensor" ? all : all.filter((m) => m % width === rank),
  );
  return {
    ...{ microBatches, forwardOnly: 0 },
    stages: range(stages).map((stage) => ({
      ...{ sharing, members },
      positions: range(chunks).map((chunk) => stage * chunks + chunk),
    })),
  };
}

function cases(scale: number): readonly Case[] {
  const of = (count: number) => Math.max(2, Math.round(count * scale));
  return [
    { name: "pipeline", schedule: "1f1b", shape: chainShape(of(64), of(512)) },
    { name: "pipeline, B and W apart", schedule: "zero-bubble", shape: chainShape(of(64), of(512)) },
    { name: "pipeline, 4 chunks each", schedule: "interleaved", shape: chainShape(of(32), of(256), 0, 4) },
    { name: "long pipeline", schedule: "1f1b", shape: chainShape(of(1000), of(250)) },
    { name: "data", schedule: "1f1b", shape: grid(1, of(4096), of(4096) * 2, "data", 4) },
    { name: "hybrid", schedule: "1f1b", shape: grid(of(64), of(32), of(1024), "data") },
    { name: "hybrid, tensor", schedule: "1f1b", shape: grid(of(16), of(8), of(128), "tensor") },
  ];
}

const COLLECTIVES = range(4).map(() => ({ op: "all-reduce" as const, bytes: 100 }));
const CHUNK = {
  ...{ forwardMs: 1, backwardMs: 2, stepMs: 1, outputBytes: 100, gradientBytes: 1000 },
  ...{ forwardCollectives: COLLECTIVES, backwardCollectives: COLLECTIVES },
};
const LINK = { latencyMs: 0.1, bytesPerMs: 1000 };

/** Time in which this process was on a core, in milliseconds: others may be busy on the machine. */
function clock(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function measure({ name, schedule, shape }: Case, rounds: number) {
  const programs = SCHEDULES[schedule](shape);
  const cost: RunCost = {
    chunks: programs.map(({ positions }) => positions.map(() => CHUNK)),
    link: () => LINK,
  };
  const before = clock();
  const lowered = lower(programs, cost);
  const lowerMs = clock() - before;
  let events = 0;
  const times = range(rounds + 1).map(() => {
    const start = clock();
    events = execute(lowered).events;
    return clock() - start;
  });
  // The first run is also the compiler's.
  const runMs = median(times.slice(1));
  return {
    name,
    schedule,
    devices: programs.length,
    events,
    lowerMs,
    runMs,
    eventsPerSecond: (events / runMs) * 1000,
  };
}

/** Idle share with F = B = W, and messages that take no time. */
function bubbleOf(name: ScheduleName, stages: number): number {
  const chunks = name === "interleaved" ? 2 : 1;
  const programs = SCHEDULES[name](chainShape(stages, 4 * stages, 0, chunks));
  const one = { ...{ forwardMs: 1, backwardMs: 2, stepMs: 0 }, ...{ outputBytes: 0, gradientBytes: 0 } };
  const cost = { chunks: programs.map(({ positions }) => positions.map(() => one)), link: () => FREE_LINK };
  return predict(programs, cost).bubbleFraction;
}

export const simulate: Suite = {
  name: "simulate",
  summary: "events per second of the simulator, and the bubbles of the schedules",
  options: {
    rounds: { value: "N", help: `runs of each case (default: ${ROUNDS})` },
    quick: { help: "few devices: tries the bench, says nothing about speed" },
  },
  run: async (options, { note }) => {
    const quick = options.has("quick");
    const rounds = options.whole("rounds", { from: 1, to: 1000 }) ?? (quick ? 1 : ROUNDS);
    const speeds = cases(quick ? 1 / 32 : 1).map((one) => {
      note(`simulate: ${one.name}`);
      return measure(one, rounds);
    });
    const stages = quick ? [2, 4] : [2, 4, 8, 16];
    const names = Object.keys(SCHEDULES) as ScheduleName[];
    const bubbles = names.map((name) => ({ name, bubbles: stages.map((count) => bubbleOf(name, count)) }));
    return {
      report: {
        title: "Simulator",
        sections: [
          {
            title: "Events per second",
            text: [
              `One core; medians of ${rounds} runs, of the time in which the process was on a core. Lowering is done once for any number of runs.`,
            ],
            table: {
              columns: ["", "schedule", "devices", "events", "lowering", "run", "events/s"],
              rows: speeds.map((each) => [
                ...[each.name, each.schedule, whole(each.devices), whole(each.events)],
                ...[milliseconds(each.lowerMs), milliseconds(each.runMs), whole(each.eventsPerSecond)],
              ]),
            },
          },
          {
            title: "Bubbles",
            text: [
              "Idle share of a step with F = B = W, M = 4S, messages that take no time; interleaved has 2 chunks.",
            ],
            table: {
              columns: ["schedule", ...stages.map((count) => `S = ${count}`)],
              rows: bubbles.map(({ name, bubbles }) => [name, ...bubbles.map((share) => percent(share))]),
            },
          },
        ],
        figures: { speeds, bubbles: { stages, schedules: bubbles } },
      },
      versions: [],
    };
  },
};
