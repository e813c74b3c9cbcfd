/**
 * `bench pipeline`: what the runtime costs in a pipeline. Kernels sleep for a time that is known, so a step's own bound
 * is known exactly, and what a step takes beyond it was lost to messages, threads and the commit gate. Beside PyTorch's
 * pipelines with the same sleeps, in turns. The processes of both are started once for a number of stages.
 */

import { SCHEDULES, type ScheduleName } from "../actors/scheduler/schedule.ts";
import { UsageError } from "../cli/command.ts";
import { TRANSPORTS, type TransportChoice } from "../cli/transports.ts";
import { ChildError } from "./child.ts";
import { milliseconds, percent } from "./format.ts";
import { PipelineCluster, type TimedPipeline } from "./pipeline/cluster.ts";
import { boundOf, dealtPlan } from "./pipeline/plan.ts";
import { boundOfOrder, TorchPipelines } from "./pipeline/rival.ts";
import type { KernelTimes } from "./pipeline/times.ts";
import { findPyTorch, type PyTorch } from "./pytorch.ts";
import { inTurns, type RoundTimes } from "./rounds.ts";
import { median } from "./statistics.ts";
import type { Suite } from "./suite.ts";
import { Opened } from "./train/parts.ts";

const KERNEL_MS = 10;
const DEFAULTS = { stages: "2,4,8", rounds: 3, turn: 800, warmUp: 30 };
/**
 * Code is warm after so many calls, not after so long a time: kernels are shorter until then. The rival's is interpreted, or
 * compiled already, and has its connections after a few.
 */
const WARMING = { kernelMs: KERNEL_MS / 20, schedule: "1f1b", rival: 3 } as const;
/** In a turn, however long they take. */
const LEAST_STEPS = 2;
const OURS = "Troupe";
const RIVAL = "PyTorch";
/** Micro-batches for every stage. */
const MICRO_BATCHES = 4;

/** What is measured of a schedule. */
interface Kind {
  /** On every device. */
  readonly chunks: number;
  /** Whether a backward pass is in two halves, F = B = W. */
  readonly split: boolean;
  /** Whether PyTorch has it. */
  readonly rival: boolean;
}

const KINDS: Readonly<Record<string, Kind>> = {
  gpipe: { chunks: 1, split: false, rival: true },
  "1f1b": { chunks: 1, split: false, rival: true },
  "eager-1f1b": { chunks: 1, split: false, rival: false },
  interleaved: { chunks: 2, split: false, rival: true },
  "zero-bubble": { chunks: 1, split: true, rival: true },
};

interface Row {
  readonly stages: number;
  readonly schedule: ScheduleName;
  readonly boundMs: number;
  readonly bubble: number;
  readonly stepMs: number;
  readonly efficiency: number;
  /** The same of the rival, against the bound of its own order; null where it has no such schedule or could not run. */
  readonly rival: { readonly boundMs: number; readonly stepMs: number; readonly efficiency: number } | null;
}

export const pipeline: Suite = {
  name: "pipeline",
  summary: "what the runtime costs in a pipeline: stages that sleep, beside torch.distributed.pipelining",
  options: {
    stages: { value: "N,N", help: `devices in a pipeline (default: ${DEFAULTS.stages})` },
    schedule: { value: "name", help: `one alone: ${Object.keys(KINDS).join(", ")}`, repeated: true },
    rounds: { value: "N", help: `rounds in which both take turns (default: ${DEFAULTS.rounds})` },
    turn: {
      value: "ms",
      help: `what a turn takes, at least ${LEAST_STEPS} steps (default: ${DEFAULTS.turn})`,
    },
    "warm-up": {
      value: "N",
      help: `steps with short kernels before all others (default: ${DEFAULTS.warmUp})`,
    },
    transport: { value: "name", help: "auto, shared memory on this machine, or tcp (default: auto)" },
  },
  run: async (options, { folder, note }) => {
    const numbers = {
      rounds: options.whole("rounds", { from: 1, to: 1000 }) ?? DEFAULTS.rounds,
      turn: options.whole("turn", { from: 1, to: 1_000_000 }) ?? DEFAULTS.turn,
      warmUp: options.whole("warm-up", { from: 1, to: 1000 }) ?? DEFAULTS.warmUp,
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
      const pipelines = schedules.map((schedule) => pipelineOf(count, schedule));
      rows.push(...(await measure({ stages: count, pipelines, transport, torch, folder, note, ...numbers })));
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
                `${numbers.rounds} rounds in which both take turns of ${numbers.turn} ms, at least ${LEAST_STEPS} ` +
                `steps, after ${numbers.warmUp} steps of ${WARMING.schedule} with kernels of ${WARMING.kernelMs} ms to warm ` +
                `up (PyTorch ${Math.min(numbers.warmUp, WARMING.rival)}), and one of each schedule.`,
              "The bound is that of the schedule's own order with messages that take no time. Steps of Troupe follow each " +
                "other as in a run, and one goes from the result of the step before to its own: all stages have updated " +
                "behind the commit gate. One of PyTorch's has no optimiser and goes from a barrier to the last rank's end; " +
                "it has no eager 1F1B.",
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
  readonly pipelines: readonly TimedPipeline[];
  readonly transport: TransportChoice;
  readonly torch: PyTorch | null;
  readonly rounds: number;
  readonly turn: number;
  readonly warmUp: number;
  readonly folder: string;
  note(line: string): void;
}

function pipelineOf(stages: number, schedule: ScheduleName, kernelMs = KERNEL_MS): TimedPipeline {
  const { chunks, split } = KINDS[schedule]!;
  const half = split ? kernelMs : kernelMs / 2;
  const times: KernelTimes = { forwardMs: kernelMs, backwardInputMs: half, backwardWeightMs: half };
  return { stages, microBatches: MICRO_BATCHES * stages, schedule, chunks, times };
}

/** All pipelines of so many stages, one after the other. */
async function measure({ stages, pipelines, transport, torch, ...rest }: Measurement): Promise<Row[]> {
  const { rounds, turn, warmUp, folder, note } = rest;
  const opened = new Opened();
  try {
    const warming = pipelineOf(stages, WARMING.schedule, WARMING.kernelMs);
    const all = [warming, ...pipelines];
    const cluster = opened.add(await PipelineCluster.open(stages, all, transport));
    const rivals = all.filter(({ schedule }) => KINDS[schedule]!.rival);
    const theirs = torch && (await openRival(torch, stages, rivals, folder, note));
    if (theirs) opened.add(theirs);
    const rows: Row[] = [];
    for (const pipeline of all) {
      const { schedule, chunks, times } = pipeline;
      const bound = boundOf(dealtPlan(pipeline), times);
      const running = await cluster.start(pipeline);
      const work = async (count: number) => (await running.steps(count)).map(({ ms }) => ms);
      const contenders = [{ name: OURS, work }];
      const place = theirs ? rivals.indexOf(pipeline) : -1;
      if (place >= 0) contenders.push({ name: RIVAL, work: (count) => theirs!.steps(place, count) });
      for (const { name, work } of contenders) {
        await work(pipeline !== warming ? 1 : name === OURS ? warmUp : Math.min(warmUp, WARMING.rival));
      }
      if (pipeline !== warming) {
        note(`${schedule}, ${stages} stages`);
        const steps = Math.max(LEAST_STEPS, Math.round(turn / bound.makespanMs));
        const rounded = await inTurns(contenders, rounds, steps);
        const order = place < 0 ? null : theirs!.orders[place]!;
        const rivalBound = order ? boundOfOrder(order, stages * chunks, times) : bound.makespanMs;
        rows.push(rowOf(pipeline, bound, rounded, rivalBound));
      }
      await running.close();
    }
    return rows;
  } finally {
    await opened.close();
  }
}

function rowOf(
  { stages, schedule }: TimedPipeline,
  { makespanMs: boundMs, bubbleFraction: bubble }: ReturnType<typeof boundOf>,
  rounded: RoundTimes,
  rivalBound: number,
): Row {
  const [ours, theirs] = [OURS, RIVAL].map((name) => rounded.get(name));
  const of = (bound: number, steps: readonly number[]) => {
    const stepMs = median(steps);
    return { boundMs: bound, stepMs, efficiency: bound / stepMs };
  };
  return { stages, schedule, bubble, ...of(boundMs, ours!), rival: theirs ? of(rivalBound, theirs) : null };
}

/** Null, and a note, where PyTorch cannot run them. */
async function openRival(
  torch: PyTorch,
  stages: number,
  pipelines: readonly TimedPipeline[],
  folder: string,
  note: (line: string) => void,
): Promise<TorchPipelines | null> {
  try {
    return await TorchPipelines.open(torch, stages, pipelines, folder);
  } catch (error) {
    if (!(error instanceof ChildError)) throw error;
    note(`${RIVAL}, ${stages} stages: ${error.message}`);
    return null;
  }
}
