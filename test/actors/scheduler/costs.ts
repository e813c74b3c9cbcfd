/** Run costs written down by hand. */

import { FREE_LINK, type LinkProfile } from "../../../actors/scheduler/cost.ts";
import type { ChunkCost, RunCost } from "../../../actors/scheduler/run-cost.ts";

/** Links by worker, `links[from]?.[to]`; free where left out. */
export type Links = readonly (readonly (LinkProfile | undefined)[] | undefined)[];

export interface Rest {
  readonly links?: Links;
  readonly cores?: number;
}

/** What a chunk costs; nothing where left out. */
export function chunk(given: Partial<ChunkCost>): ChunkCost {
  return { forwardMs: 0, backwardMs: 0, stepMs: 0, outputBytes: 0, gradientBytes: 0, ...given };
}

/** Costs by worker and chunk. */
export function runCost(chunks: readonly (readonly ChunkCost[])[], rest: Rest = {}): RunCost {
  const { links, ...others } = rest;
  return { chunks, link: (from, to) => links?.[from]?.[to] ?? FREE_LINK, ...others };
}

/** Equal workers of one chunk each. */
export function equalCost(workers: number, forwardMs: number, backwardMs: number, rest: Rest = {}): RunCost {
  const one = chunk({ forwardMs, backwardMs, outputBytes: 1000 });
  return runCost(
    Array.from({ length: workers }, () => [one]),
    rest,
  );
}
