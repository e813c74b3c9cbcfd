/**
 * What sharing a model's segments inside a micro-batch would come to, from the sharded graphs themselves: how much of the
 * work, of the parameters and of what is kept is divided, and what collectives there are. Counted, not measured; what was
 * measured on a device (`DeviceProfile.sharded`) goes before it.
 */

import { rolesWithin, type Trainable } from "../../nn/model.ts";
import { GraphError } from "../../nn/onnx/graph.ts";
import { cutGraph, type Segment } from "../../nn/segments.ts";
import { SHARD_KINDS, type ShardKind, type ShardPlan } from "../../nn/shards/plan.ts";
import { shard } from "../../nn/shards/shard.ts";
import { phaseGraphs } from "../../nn/shards/train.ts";
import { byteLength } from "../../protocols/tensor.ts";
import type { SegmentCost, ShardedSegment } from "./cost.ts";
import type { CollectiveCost } from "./run-cost.ts";

/** More ranks are not looked for. */
const MOST_RANKS = 16;
/** What divides among that many is given out in so many parts. */
const PARTS = 64;

/** By segment, the kinds that it can be shared by, none for one with running statistics; segments of the same shape are looked at once. */
export function shardedSegments(
  model: Trainable,
  segments: readonly Segment[],
  stashBytes: readonly number[],
  kinds: readonly ShardKind[] = SHARD_KINDS,
): NonNullable<SegmentCost["sharded"]>[] {
  const known = new Map<string, NonNullable<SegmentCost["sharded"]>>();
  const possible = kinds.filter((kind) => attempt((ranks) => shard(model.graph, model, { kind, ranks }), 2));
  return segments.map((segment, i) => {
    const graph = cutGraph(model.graph, segments, i, i + 1);
    const key = JSON.stringify([
      ...[segment.flops, segment.activationBytes, segment.inputTrained, segment.input === null],
      ...[graph.nodes.map(({ op }) => op), graph.inputs.map(({ shape }) => shape)],
    ]);
    let found = known.get(key);
    if (!found) {
      // Statistics move with every micro-batch: their segment is nobody's part.
      const isWhole = Object.keys(rolesWithin(model, graph).statistics).length > 0;
      const cut = (kind: ShardKind, ranks: number) => {
        const { input, inputTrained } = segment;
        return shard(graph, model, { kind, ranks, input, inputGradient: inputTrained });
      };
      found = Object.fromEntries(
        (isWhole ? [] : possible).map((kind) => [
          kind,
          sharing((ranks) => cut(kind, ranks), segment, stashBytes[i]!) ?? EVERYBODYS,
        ]),
      );
      known.set(key, found);
    }
    return found;
  });
}

/** Of a segment in which there is nothing to divide: beside others that are divided, everybody has it. */
const EVERYBODYS: ShardedSegment = {
  ...{ mostRanks: MOST_RANKS, parts: PARTS, dividedWork: 0, dividedStash: 0, dividedParameters: 0 },
  ...{ forward: [], backward: [], forwardAtEnd: [], backwardAtStart: [], gradientBytes: 0 },
};

function sharing(cut: (ranks: number) => ShardPlan, segment: Segment, stash: number): ShardedSegment | null {
  const two = attempt(cut, 2);
  if (!two) return null;
  // What is divided is there once, and the rest twice.
  const divided = (sum: number, whole: number) => Math.min(whole, Math.max(0, 2 * whole - sum));
  const sum = (of: (rank: number) => number) => of(0) + of(1);
  const cost = (rank: number) => two.costs[rank]!;
  const part = (divided: number, whole: number) => (whole === 0 ? 0 : divided / whole);
  const ends = (count: number, collectives: readonly CollectiveCost[]) => ({
    inside: collectives.slice(0, collectives.length - count),
    end: collectives.slice(collectives.length - count),
  });
  const plain = (collectives: ShardPlan["forward"]) => collectives.map(({ op, bytes }) => ({ op, bytes }));
  const forward = ends(two.outputs.filter(({ cut }) => cut).length, plain(two.forward));
  const backward = ends(two.input?.cut && two.input.trained ? 1 : 0, plain(two.backward));
  const most = mostRanks(cut);
  return {
    ...{ mostRanks: most, parts: most === MOST_RANKS ? PARTS : most },
    dividedWork: part(
      divided(
        sum((rank) => cost(rank).flops),
        segment.flops,
      ),
      segment.flops,
    ),
    dividedStash: part(
      divided(
        sum((rank) => keptBytes(two, rank)),
        stash,
      ),
      stash,
    ),
    dividedParameters: divided(
      sum((rank) => cost(rank).parameterBytes),
      segment.parameterBytes,
    ),
    ...{ forward: forward.inside, forwardAtEnd: forward.end },
    ...{ backward: backward.inside, backwardAtStart: backward.end },
    gradientBytes: two.gradientBytes,
  };
}

/** What a rank keeps of a micro-batch: whatever its backward graphs read that is neither held nor a gradient. */
function keptBytes(plan: ShardPlan, rank: number): number {
  const kept = new Map<string, number>();
  for (const phase of plan.phases) {
    const { forward, backward, stash } = phaseGraphs(plan, phase, rank);
    const known = new Set([...stash, ...forward.inputs].map(({ name }) => name));
    for (const { name, dtype, shape } of backward?.inputs ?? []) {
      if (known.has(name) && !(name in plan.holdings)) kept.set(name, byteLength(dtype, shape));
    }
  }
  return [...kept.values()].reduce((a, b) => a + b, 0);
}

/** The largest number of ranks that the segment divides among, by halving. At least 2. */
function mostRanks(cut: (ranks: number) => ShardPlan): number {
  let low = 2;
  let high = MOST_RANKS + 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (attempt(cut, middle)) low = middle;
    else high = middle;
  }
  return low;
}

function attempt(cut: (ranks: number) => ShardPlan, ranks: number): ShardPlan | null {
  try {
    return cut(ranks);
  } catch (error) {
    if (error instanceof GraphError) return null;
    throw error;
  }
}
