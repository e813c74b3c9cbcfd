/**
 * The rival: torch.distributed.pipelining over gloo, one process per rank, with kernels that sleep as ours do. What its
 * schedules could reach is worked out from the order of actions that they tell of themselves.
 */

import { join } from "node:path";
import type { LineChild } from "../child.ts";
import { type PyTorch, startPipelineRank } from "../pytorch.ts";
import type { KernelTimes } from "./times.ts";

export interface RivalPipeline {
  readonly microBatches: number;
  /** A name in pipeline.py. */
  readonly schedule: string;
  /** Chunks of every rank. */
  readonly chunks: number;
  readonly times: KernelTimes;
}

/** By rank, actions as PyTorch prints them; null for schedules that tell nothing of their order. */
export type RivalOrder = readonly (readonly string[])[] | null;

interface Greeting {
  /** By pipeline. */
  readonly orders: readonly RivalOrder[];
}

let stores = 0;

/** As many processes as there are stages, which take several pipelines through, one at a time. */
export class TorchPipelines {
  /** By pipeline. */
  readonly orders: readonly RivalOrder[];
  private readonly ranks: readonly LineChild[];

  private constructor(ranks: readonly LineChild[]) {
    this.ranks = ranks;
    this.orders = (JSON.parse(ranks[0]!.greeting) as Greeting).orders;
  }

  /** @param folder where the ranks may leave the file they meet at. */
  static async open(
    torch: PyTorch,
    stages: number,
    pipelines: readonly RivalPipeline[],
    folder: string,
  ): Promise<TorchPipelines> {
    const store = join(folder, `ranks-${stores++}`);
    const starting = Array.from({ length: stages }, (_, rank) =>
      startPipelineRank(torch, JSON.stringify({ rank, stages, store, pipelines })),
    );
    const started = await Promise.allSettled(starting);
    const ranks = started.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    const failed = started.find((result) => result.status === "rejected");
    if (failed) {
      for (const rank of ranks) await rank.close();
      throw failed.reason;
    }
    return new TorchPipelines(ranks);
  }

  /** Milliseconds of so many steps of a pipeline: from the first rank's beginning to the last one's end. */
  async steps(pipeline: number, count: number): Promise<number[]> {
    const answers = await Promise.all(this.ranks.map((rank) => rank.ask(`${pipeline} ${count}`)));
    const spans = answers.map((answer) => JSON.parse(answer) as [number, number][]);
    return Array.from({ length: count }, (_, step) => {
      const own = spans.map((steps) => steps[step]!);
      return Math.max(...own.map(([, end]) => end)) - Math.min(...own.map(([begin]) => begin));
    });
  }

  async close(): Promise<void> {
    for (const rank of this.ranks) await rank.close();
  }
}

/** An action as PyTorch prints it: chunk, what, micro-batch. */
const ACTION = /^(\d+)(F|I|W|B)(\d+)$/;

/**
 * What an order of actions takes when messages take nothing: each starts when the one before it on its rank has ended
 * and its input is there. F is a forward pass, I and W the halves of a backward pass, B both.
 * @throws RangeError for orders that wait for each other.
 */
export function boundOfOrder(
  order: readonly (readonly string[])[],
  chunks: number,
  { forwardMs, backwardInputMs, backwardWeightMs }: KernelTimes,
): number {
  const ranks = order.map((actions) => ({ actions, next: 0, free: 0 }));
  const ended = new Map<string, number>();
  const forward = (chunk: number, microBatch: string) =>
    chunk < 0 ? 0 : ended.get(`${chunk} forward ${microBatch}`);
  const backward = (chunk: number, microBatch: string) =>
    chunk === chunks ? forward(chunks - 1, microBatch) : ended.get(`${chunk} backward ${microBatch}`);
  /** When what the action needs is there, and how long it takes. */
  const needs = (chunk: number, what: string, microBatch: string) => {
    const whole = backwardInputMs + backwardWeightMs;
    // See `runMs`.
    const halves = chunk === 0 ? ([0, whole] as const) : ([backwardInputMs, backwardWeightMs] as const);
    if (what === "F") return { at: forward(chunk - 1, microBatch), ms: forwardMs };
    if (what === "W") return { at: 0, ms: halves[1] };
    return { at: backward(chunk + 1, microBatch), ms: what === "I" ? halves[0] : whole };
  };
  for (let moved = true; moved; ) {
    moved = false;
    for (const rank of ranks) {
      for (; rank.next < rank.actions.length; rank.next++) {
        const match = ACTION.exec(rank.actions[rank.next]!);
        if (!match) continue;
        const [chunk, what, microBatch] = [Number(match[1]), match[2]!, match[3]!];
        const { at, ms } = needs(chunk, what, microBatch);
        if (at === undefined) break;
        rank.free = Math.max(rank.free, at) + ms;
        if (what !== "W")
          ended.set(`${chunk} ${what === "F" ? "forward" : "backward"} ${microBatch}`, rank.free);
        moved = true;
      }
    }
  }
  const stuck = ranks.findIndex(({ next, actions }) => next < actions.length);
  if (stuck >= 0)
    throw new RangeError(`rank ${stuck} waits for ever at ${ranks[stuck]!.actions[ranks[stuck]!.next]}`);
  return Math.max(...ranks.map(({ free }) => free));
}
