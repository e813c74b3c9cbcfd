/**
 * A pipeline as schedules order it: runs, and lanes that take them.
 *
 * A *run* is a row of neighbouring positions that one stage holds: what it does of a micro-batch without asking anybody. A
 * stage of one chunk is a run, and so is one of four chunks that follow each other; a stage of an interleaved pipeline has
 * several runs. A *lane* does one thing at a time in one order: a worker, or all workers of a stage at once where they
 * share the work inside micro-batches.
 */

import { ProgramError } from "../program.ts";
import { isDealt, type PipelineShape, range } from "./shape.ts";

export interface Run {
  /** Its place in the pipeline. */
  readonly index: number;
  readonly stage: number;
  /** Of those of the stage, ascending. */
  readonly chunks: readonly number[];
  /** Whether some of it is trained, so that there is a backward pass. */
  readonly trained: boolean;
  /** Whether the model ends here. */
  readonly last: boolean;
}

export interface Lane {
  readonly stage: number;
  /** Ranks within the stage of the workers who go through it. */
  readonly ranks: readonly number[];
  readonly runs: readonly Run[];
  readonly microBatches: readonly number[];
  /** Of how many. */
  readonly all: number;
  /** Lanes of the stages in front of this one that are trained, and of those behind it. */
  readonly before: number;
  readonly behind: number;
}

export interface Layout {
  readonly runs: readonly Run[];
  readonly lanes: readonly Lane[];
  /** The lane of a run that takes a micro-batch. */
  laneOf(run: Run, microBatch: number): number;
}

/** @throws ProgramError where positions have gaps, or a micro-batch is not taken, or more than once. */
export function layoutOf(shape: PipelineShape): Layout {
  const runs = runsOf(shape);
  const trainedStages = new Set(runs.filter(({ trained }) => trained).map(({ stage }) => stage));
  const order = [...new Set(runs.map(({ stage }) => stage))];
  const width = (stage: number) => (isDealt(shape.stages[stage]!) ? shape.stages[stage]!.members.length : 1);
  const widths = (stages: readonly number[]) => stages.reduce((sum, stage) => sum + width(stage), 0);
  const lanes: Lane[] = [];
  const taking: Int32Array[] = [];
  shape.stages.forEach((given, stage) => {
    const at = order.indexOf(stage);
    const around = {
      runs: runs.filter((run) => run.stage === stage),
      before: widths(order.slice(0, at).filter((other) => trainedStages.has(other))),
      behind: widths(order.slice(at + 1)),
    };
    const took = new Int32Array(shape.microBatches).fill(-1);
    taking.push(took);
    const rows = isDealt(given) ? given.members : [range(shape.microBatches)];
    rows.forEach((microBatches, rank) => {
      for (const microBatch of microBatches) {
        if (took[microBatch] !== -1) throw new ProgramError(wrongDeal(stage, microBatch, shape, "twice"));
        took[microBatch] = lanes.length;
      }
      const ranks = isDealt(given) ? [rank] : range(given.members.length);
      lanes.push({ stage, ranks, microBatches, all: shape.microBatches, ...around });
    });
    const left = took.indexOf(-1);
    if (left >= 0) throw new ProgramError(wrongDeal(stage, left, shape, "by nobody"));
  });
  return { runs, lanes, laneOf: (run, microBatch) => taking[run.stage]![microBatch]! };
}

function wrongDeal(stage: number, microBatch: number, { microBatches }: PipelineShape, how: string): string {
  return microBatch < microBatches && microBatch >= 0
    ? `micro-batch ${microBatch} of ${microBatches} is taken ${how} in stage ${stage}`
    : `stage ${stage} takes micro-batch ${microBatch}, there are ${microBatches}`;
}

function runsOf({ stages, forwardOnly }: PipelineShape): readonly Run[] {
  const holder: { stage: number; chunk: number }[] = [];
  stages.forEach(({ positions }, stage) => {
    positions.forEach((position, chunk) => {
      if (holder[position])
        throw new ProgramError(`stages ${holder[position].stage} and ${stage} hold position ${position}`);
      holder[position] = { stage, chunk };
    });
  });
  const gap = Array.from(holder, (held) => held !== undefined).indexOf(false);
  if (gap >= 0 || holder.length === 0) throw new ProgramError(`no stage holds position ${Math.max(gap, 0)}`);
  const runs: { stage: number; chunks: number[]; trained: boolean }[] = [];
  holder.forEach(({ stage, chunk }, position) => {
    if (runs.at(-1)?.stage !== stage) runs.push({ stage, chunks: [], trained: false });
    const run = runs.at(-1)!;
    run.chunks.push(chunk);
    run.trained ||= position >= forwardOnly;
  });
  return runs.map((run, index) => ({ ...run, index, last: index === runs.length - 1 }));
}
