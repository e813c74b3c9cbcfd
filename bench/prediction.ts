/**
 * How well a profile predicts what a stage takes: a model is profiled on this machine's native engine, then stages of it
 * are run, and their times are set beside what their segments were measured as. That is repeated, and medians of the
 * ratios are told, so that a machine whose speed drifts says something about the model of costs all the same.
 *
 *   bun bench/prediction.ts [gpt | small | resnet18]
 */

import { createEngine } from "../nn/engine/create.ts";
import type { Engine } from "../nn/engine/engine.ts";
import type { Trainable } from "../nn/model.ts";
import { gptModel } from "../nn/models/gpt.ts";
import { resnet } from "../nn/models/resnet.ts";
import { DEFAULT_ADAMW } from "../nn/optim/adamw.ts";
import { Piece } from "../nn/profile/piece.ts";
import { type ModelProfile, profileModel } from "../nn/profile.ts";
import { findSegments } from "../nn/segments.ts";
import { median } from "./statistics.ts";
import { markdown } from "./table.ts";
import { GPT_3M, QUICK_WORKLOAD } from "./workload.ts";

export interface StagePrediction {
  readonly from: number;
  readonly to: number;
  /** Both passes over a micro-batch, as the stage runs them, in milliseconds: predicted and measured, by round. */
  readonly passes: readonly Comparison[];
  /** The optimiser's update. */
  readonly steps: readonly Comparison[];
}

export interface Comparison {
  readonly predictedMs: number;
  readonly measuredMs: number;
}

export interface PredictionOptions {
  readonly rounds: number;
  /** Milliseconds for the profile of a round. */
  readonly budgetMs: number;
  /** Runs of every stage in a round, of which the median counts. */
  readonly repeats: number;
}

const OPTIONS = { optimizer: { ...DEFAULT_ADAMW, steps: 1000 }, microBatches: 4, split: false, sharings: [] };
const MEMORY_BYTES = 2 ** 30;
const now = () => performance.now();

/** The whole model, its halves and its thirds as stages. */
export async function predictStages(
  engine: Engine,
  model: Trainable,
  { rounds, budgetMs, repeats }: PredictionOptions,
): Promise<StagePrediction[]> {
  const segments = findSegments(model);
  const n = segments.length;
  const ranges = [1, 2, 3].flatMap((parts) =>
    Array.from({ length: parts }, (_, i) => ({
      from: Math.round((n * i) / parts),
      to: Math.round((n * (i + 1)) / parts),
    })),
  );
  const rows = ranges.map((range) => ({ ...range, passes: [] as Comparison[], steps: [] as Comparison[] }));
  const pieces: Piece[] = [];
  try {
    for (const { from, to } of ranges) {
      pieces.push(await Piece.create(engine, model, segments, from, to, OPTIONS, now));
    }
    for (let round = 0; round < rounds; round++) {
      const options = { ...OPTIONS, budgetMs, memoryBytes: MEMORY_BYTES };
      const profile = await profileModel(engine, model, options, now);
      const { passes } = await measureRuns(pieces, repeats);
      rows.forEach((row, i) => {
        const { passMs, stepMs } = predicted(profile, row.from, row.to);
        const of = (at: number) => median(passes.map((times) => times[2 * i + at]!));
        row.passes.push({ predictedMs: passMs, measuredMs: of(0) });
        row.steps.push({ predictedMs: stepMs, measuredMs: of(1) });
      });
    }
    return rows;
  } finally {
    for (const piece of pieces) piece.release();
  }
}

/** By repeat, then by piece: both passes, and the step. The pieces take turns. */
async function measureRuns(pieces: readonly Piece[], repeats: number): Promise<{ passes: number[][] }> {
  const passes: number[][] = [];
  for (let i = 0; i < repeats; i++) {
    const times: number[] = [];
    for (const { graphs, runs } of pieces) {
      let ms = 0;
      for (const name of graphs.joint ? (["joint"] as const) : (["forward", "backward"] as const)) {
        ms += (await runs.get(name)?.()) ?? 0;
      }
      times.push(ms, await runs.get("step")!());
    }
    passes.push(times);
  }
  return { passes };
}

function predicted({ segments, chunk }: ModelProfile, from: number, to: number) {
  const sum = (of: (segment: ModelProfile["segments"][number]) => number) =>
    segments.slice(from, to).reduce((total, segment) => total + of(segment), 0);
  const joint = to === segments.length;
  return {
    passMs: joint
      ? chunk.jointMs + sum(({ jointMs }) => jointMs)
      : chunk.forwardMs + chunk.backwardMs + sum(({ forwardMs, backwardMs }) => forwardMs + backwardMs),
    stepMs: chunk.stepMs + sum(({ stepMs }) => stepMs),
  };
}

const MODELS: Readonly<Record<string, () => Trainable>> = {
  gpt: () => gptModel(GPT_3M, 4),
  small: () => gptModel({ ...QUICK_WORKLOAD.model, layers: 4 }, 2),
  resnet18: () => resnet({ depth: 18, width: 16, inputSize: 32, channels: 3, classes: 10 }, 4),
};

if (import.meta.main) {
  const name = process.argv[2] ?? "gpt";
  const make = MODELS[name];
  if (!make) throw new RangeError(`no model "${name}", use one of ${Object.keys(MODELS).join(", ")}`);
  const engine = await createEngine({ engine: "native" });
  const began = now();
  const rows = await predictStages(engine, make(), { rounds: 5, budgetMs: 1500, repeats: 5 });
  await engine.close();
  const error = (comparisons: readonly Comparison[]) =>
    100 * (median(comparisons.map(({ predictedMs, measuredMs }) => predictedMs / measuredMs)) - 1);
  const table = rows.map(({ from, to, passes, steps }) => [
    `[${from}, ${to})`,
    median(passes.map(({ measuredMs }) => measuredMs)).toFixed(2),
    `${error(passes).toFixed(1)} %`,
    median(steps.map(({ measuredMs }) => measuredMs)).toFixed(2),
    `${error(steps).toFixed(1)} %`,
  ]);
  console.log(markdown({ columns: ["segments", "passes ms", "error", "step ms", "error"], rows: table }));
  console.log(`${((now() - began) / 1000).toFixed(1)} s`);
}
