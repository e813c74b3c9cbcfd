/**
 * `bench pipeline`: what the runtime costs in a pipeline. Kernels sleep for a time that is known, so a step's own bound
 * is known exactly, and what a step takes beyond it was lost to messages, threads and the commit gate. Beside PyTorch's
 * pipelines with the same sleeps, in turns.
 */

import { SCHEDULES, type ScheduleName } from "../actors/scheduler/schedule.ts";
import { UsageError } from "../cli/command.ts";
import { TRANSPORTS, type TransportChoice } from "../cli/transports.ts";
import { ChildError } from "./child.ts";
import { milliseconds, percent } from "./format.ts";
import { PipelineCluster } from "./pipeline/cluster.ts";
import { boundOf, dealtPlan } from "./pipeline/plan.ts";
import { boundOfOrder, TorchPipeline } from "./pipeline/rival.ts";
import type { KernelTimes } from "./pipeline/times.ts";
import { findPyTorch, type PyTorch } from "./pytorch.ts";
import { inTurns } from "./rounds.ts";
import { median } from "./statistics.ts";
import type { Suite } from "./suite.ts";
import { Opened } from "./train/parts.ts";

const KERNEL_MS = 10;
const DEFAULTS = { stages: "2,4,8", rounds: 3, steps: 5, warmUp: 10 };
const OURS = "Troupe";
const RIVAL = "PyTorch";
/** Micro-batches for every stage. */
const MICRO_BATCHES = 4;

/** What is measured of a schedule: its chunks on every device, and whether a backward pass is in two halves, F = B = W. */
interface Kind {
  readonly chunks: number;
  readonly split: boolean;
}

const KINDS: Readonly<Record<string, Kind>> = {
  gpipe: { chunks: 1, split: false },
  "1f1b": { chunks: 1, split: false },
  "eager-1f1b": { chunks: 1, split: false },
  interleaved: { chunks: 2, split: false },
  "zero-bubble": { chunks: 1, split: true },
};

interface Row {
  readonly stages: number;
  readonly schedule: ScheduleName;
  readonly boundMs: number;
  readonly bubble: number;
  readonly stepMs: number;
  readonly efficiency: number;
  /** The same of the rival, against the bound of its own order; null where it could not run. */
  readonly rival: { readonly boundMs: number; readonly stepMs: number; readonly efficiency: number } | null;
}

export const pipeline: Suite = {
  name: "pipeline",
  summary: "what the runtime costs in a pipeline: stages that sleep, beside torch.distributed.pipelining",
  options: {
    stages: { value: "N,N", help: `devices in a pipeline (default: ${DEFAULTS.stages})` },
    schedule: { value: "name", help: `one alone: ${Object.keys(KINDS).join(", ")}`, repeated: true },
    rounds: { value: "N", help: `rounds in which both take turns (default: ${DEFAULTS.rounds})` },
    steps: { value: "N", help: `steps in a round (default: ${DEFAULTS.steps})` },
    "warm-up": { value: "N", help: `steps before the first round (default: ${DEFAULTS.warmUp})` },
    transport: { value: "name", help: "auto, shared memory on this machine, or tcp (default: auto)" },
  },
  run: async (options, { folder, note }) => {
    const numbers = {
      rounds: options.whole("rounds", { from: 1, to: 1000 }) ?? DEFAULTS.rounds,
      steps: options.whole("steps", { from: 1, to: 1000 }) ?? DEFAULTS.steps,
      warmUp: options.whole("warm-up", { from: 0, to: 1000 }) ?? DEFAULTS.warmUp,
    };
    const stages = (options.text("stages") ?? DEFAULTS.stages).split(",").map(Number);
    if (stages.some((count) => !Number.isInteger(count) || count < 2 || count > 64)) {
      throw new UsageError("--stages takes whole numbers from 2 to 64, such as 2,4,8");
    }
    const transport = options.choice("transport", TRANSPORTS) ?? "auto";
    const named = options.all("schedule");
    const unknown = named.find((name) => !Object.hasOwn(KINDS, name));
    if (unknown !== undefined) {
      throw new UsageError(`--schedule ${unknown} is not one of ${Object.keys(KINDS).join(", ")}`);
    }
    const schedules = (Object.keys(SCHEDULES) as ScheduleName[]).filter(
      (name) => Object.hasOwn(KINDS, name) && (named.length === 0 || named.includes(name)),
    );
    const found = await findPyTorch(folder);
    const torch = "absent" in found ? null : found;
    const missing = "absent" in found ? [`${RIVAL}: skipped, ${found.absent}`] : [];
    const rows: Row[] = [];
    for (const count of stages) {
      for (const schedule of schedules) {
        note(`${schedule}, ${count} stages`);
        rows.push(await measure({ stages: count, schedule, transport, torch, folder, note, ...numbers }));
      }
    }
    return {
      report: {
        title: "Pipelines of stages that sleep",
        sections: [
          {
            title: "Efficiency",
            text: [
              `Every kernel takes ${KERNEL_MS} ms: forward F and backward B (5 ms each for the gradients of input and ` +
                `parameters), with zero-bubble F = B = W; ${MICRO_BATCHES} micro-batches for every stage, one process ` +
                "for every stage, 4 KiB messages. Medians over " +
                `${numbers.rounds} rounds of ${numbers.steps} steps after ${numbers.warmUp} to warm up, both taking turns.`,
              "The bound is that of the schedule's own order with messages that take no time. A step of Troupe goes from " +
                "its scheduler's word to the last stage's update behind the commit gate; one of PyTorch's has no optimiser " +
                "and goes from a barrier to the last rank's end.",
              ...missing.map((line) => `- ${line}`),
            ],
            table: {
              columns: [
                "stages",
                "schedule",
                "bubble",
                "bound",
                OURS,
                "of bound",
                "its bound",
                RIVAL,
                "of its bound",
              ],
              rows: rows.map(({ stages: count, schedule, bubble, boundMs, stepMs, efficiency, rival }) => [
                count,
                schedule,
                percent(bubble),
                milliseconds(boundMs),
                milliseconds(stepMs),
                efficiency.toFixed(3),
                rival ? milliseconds(rival.boundMs) : "–",
                rival ? milliseconds(rival.stepMs) : "–",
                rival ? rival.efficiency.toFixed(3) : "–",
              ]),
            },
          },
        ],
        figures: { kernelMs: KERNEL_MS, transport, rows, skipped: missing },
      },
      versions: torch ? [`PyTorch ${torch.version}`] : [],
    };
  },
};

interface Measurement {
  readonly stages: number;
  readonly schedule: ScheduleName;
  readonly transport: TransportChoice;
  readonly torch: PyTorch | null;
  readonly rounds: number;
  readonly steps: number;
  readonly warmUp: number;
  readonly folder: string;
  note(line: string): void;
}

async function measure({ stages, schedule, transport, torch, ...rest }: Measurement): Promise<Row> {
  const { rounds, steps, warmUp, folder, note } = rest;
  const { chunks, split } = KINDS[schedule]!;
  const microBatches = MICRO_BATCHES * stages;
  const half = split ? KERNEL_MS : KERNEL_MS / 2;
  const times: KernelTimes = { forwardMs: KERNEL_MS, backwardInputMs: half, backwardWeightMs: half };
  const pipelined = { stages, microBatches, schedule, chunks };
  const bound = boundOf(dealtPlan(pipelined), times);
  const opened = new Opened();
  try {
    const ours = opened.add(await PipelineCluster.open(pipelined, times, transport));
    const work = async (count: number) => (await ours.steps(count)).map(({ ms }) => ms);
    const contenders = [{ name: OURS, work }];
    const theirs = torch && (await openRival(torch, pipelined, times, folder, note));
    if (theirs) {
      opened.add(theirs);
      contenders.push({ name: RIVAL, work: (count) => theirs.steps(count) });
    }
    if (warmUp > 0) for (const contender of contenders) await contender.work(warmUp);
    const rounded = await inTurns(contenders, rounds, steps);
    const stepMs = median(rounded.get(OURS)!);
    const rivalMs = theirs ? median(rounded.get(RIVAL)!) : null;
    const rivalBound = theirs?.order ? boundOfOrder(theirs.order, stages * chunks, times) : bound.makespanMs;
    return {
      ...{ stages, schedule, boundMs: bound.makespanMs, bubble: bound.bubbleFraction },
      ...{ stepMs, efficiency: bound.makespanMs / stepMs },
      rival:
        rivalMs === null ? null : { boundMs: rivalBound, stepMs: rivalMs, efficiency: rivalBound / rivalMs },
    };
  } finally {
    await opened.close();
  }
}

/** Null, and a note, where PyTorch cannot run it. */
async function openRival(
  torch: PyTorch,
  pipelined: { stages: number; microBatches: number; schedule: ScheduleName; chunks: number },
  times: KernelTimes,
  folder: string,
  note: (line: string) => void,
): Promise<TorchPipeline | null> {
  try {
    return await TorchPipeline.open(torch, pipelined, times, folder);
  } catch (error) {
    if (!(error instanceof ChildError)) throw error;
    note(`${RIVAL}, ${pipelined.schedule}: ${error.message}`);
    return null;
  }
}
