/**
 * How fast an engine runs each segment of a model: measured, on this device, now.
 *
 * Segments of the same shape (the layers of a transformer) cost the same, so one of each kind is measured. A chunk of
 * several segments runs as one graph, which costs less than the sum of its parts: so a chunk is measured too, beside
 * the parts that it consists of, and what every run costs whatever it holds is told apart from what a segment adds.
 * The time of a chunk is that of `chunk` once, and those of its segments.
 */

import { byteLength } from "../protocols/tensor.ts";
import type { Engine } from "./engine/engine.ts";
import { peakBytes } from "./memory/peak.ts";
import type { Trainable } from "./model.ts";
import type { OptimizerConfig } from "./optim/optimizer.ts";
import { stateNames } from "./optim/optimizer.ts";
import { chunkTimes } from "./profile/chunk.ts";
import { Piece, type ShardedProfile } from "./profile/piece.ts";
import { measureRounds, median } from "./profile/rounds.ts";
import { findSegments, type Segment } from "./segments.ts";
import type { ShardKind } from "./shards/plan.ts";
import { keptBytes } from "./training.ts";

/** What a segment adds to the chunk that holds it. Times in milliseconds of kernels; bytes per micro-batch. */
export interface SegmentProfile {
  readonly forwardMs: number;
  readonly backwardMs: number;
  /** The backward pass in two, where that was asked for. */
  readonly backwardInputMs?: number;
  readonly backwardWeightMs?: number;
  /** Forward and backward in one run, as in the chunk that ends the model. */
  readonly jointMs: number;
  /** The optimiser's update, once per step, the squares of gradients before it included. */
  readonly stepMs: number;
  /** What forward keeps for backward when they are two runs, the segment's input included. */
  readonly stashBytes: number;
  /** The most that a run of it needs besides, for a moment. */
  readonly workingBytes: number;
  /** One rank's part when the segment's work is shared, by kind; left out where it cannot be, or was not asked for. */
  readonly sharded?: Readonly<Partial<Record<ShardKind, ShardedProfile>>>;
}

/** What runs of a chunk cost whatever it holds, in milliseconds. */
export interface ChunkTimes {
  /** Kernels: of a forward run, of any backward run, of a joint one. */
  readonly forwardMs: number;
  readonly backwardMs: number;
  readonly jointMs: number;
  /** Once per step. */
  readonly stepMs: number;
  /** Of a run, outside kernels: asking for it and hearing of its end. */
  readonly otherMs: number;
}

export interface ModelProfile {
  readonly segments: readonly SegmentProfile[];
  readonly chunk: ChunkTimes;
}

export interface ProfileOptions {
  readonly optimizer: OptimizerConfig;
  readonly microBatches: number;
  /** Milliseconds to spend on runs, besides compiling; what takes longer is run a few times all the same. */
  readonly budgetMs: number;
  /** What the measurement may hold at once; a segment that needs more is measured alone. */
  readonly memoryBytes: number;
  /** Whether the backward pass is measured in two as well. */
  readonly split: boolean;
  /** Ways to share work that are measured as well. */
  readonly sharings: readonly ShardKind[];
}

/** The share of the budget that is spent on single segments; the rest goes to chunks of several. */
const SINGLE_SHARE = 0.6;

interface Kind {
  readonly segment: Segment;
  readonly bytes: number;
}

/**
 * Profiles every segment of `model`, in order.
 * @throws GraphError where the model cannot be cut or differentiated, EngineError when the engine refuses a graph.
 */
export async function profileModel(
  engine: Engine,
  model: Trainable,
  options: ProfileOptions,
  now: () => number,
): Promise<ModelProfile> {
  const segments = findSegments(model);
  const kindOf = kindsOf(model, segments, options.optimizer);
  const groups = grouped([...new Set(kindOf)], options.memoryBytes);
  const known = new Map<Kind, SegmentProfile>();
  const other: number[] = [];
  let chunk: Omit<ChunkTimes, "otherMs"> = { forwardMs: 0, backwardMs: 0, jointMs: 0, stepMs: 0 };
  let inner = 1;
  for (const group of groups) {
    const pieces: Piece[] = [];
    try {
      for (const { segment } of group) {
        const { index } = segment;
        pieces.push(await Piece.create(engine, model, segments, index, index + 1, options, now));
      }
      const budgetMs = (options.budgetMs * SINGLE_SHARE) / groups.length;
      const probes = pieces.flatMap(({ runs }) => [...runs.values()].map((run) => ({ run })));
      const { ms } = await measureRounds(probes, budgetMs, now);
      let at = 0;
      for (const [i, piece] of pieces.entries()) {
        const times = piece.timesOf(ms.slice(at, at + piece.runs.size));
        at += piece.runs.size;
        other.push(...piece.otherMs);
        known.set(group[i]!, { ...times, ...sizesOf(piece) });
      }
      if (groups.length === 1 && segments.length > 1) {
        const found = await chunkTimes(
          engine,
          model,
          segments,
          segments.map((_, i) => ({
            piece: pieces[group.indexOf(kindOf[i]!)]!,
            profile: known.get(kindOf[i]!)!,
            bytes: kindOf[i]!.bytes,
          })),
          options,
          options.budgetMs * (1 - SINGLE_SHARE),
          now,
        );
        if (found) ({ chunk, inner } = found);
      }
    } finally {
      for (const piece of pieces) piece.release();
    }
  }
  const otherMs = Math.max(0, median(other));
  return {
    segments: kindOf.map((kind, i) =>
      within(known.get(kind)!, chunk, i === segments.length - 1 ? null : inner),
    ),
    chunk: { ...chunk, otherMs },
  };
}

/**
 * What a segment adds to a chunk, from what it took alone.
 * @param inner for one that does not end the model, what its two passes come to in one run, as a share of their sum.
 */
function within(
  alone: SegmentProfile,
  chunk: Omit<ChunkTimes, "otherMs">,
  inner: number | null,
): SegmentProfile {
  const less = (ms: number, ofChunk: number) => Math.max(0, ms - ofChunk);
  const forwardMs = less(alone.forwardMs, chunk.forwardMs);
  const backwardMs = less(alone.backwardMs, chunk.backwardMs);
  const { backwardInputMs, backwardWeightMs, sharded } = alone;
  return {
    ...alone,
    ...{ forwardMs, backwardMs },
    ...(backwardInputMs !== undefined && { backwardInputMs: less(backwardInputMs, chunk.backwardMs) }),
    ...(backwardWeightMs !== undefined && { backwardWeightMs: less(backwardWeightMs, chunk.backwardMs) }),
    jointMs: inner === null ? less(alone.jointMs, chunk.jointMs) : (forwardMs + backwardMs) * inner,
    stepMs: less(alone.stepMs, chunk.stepMs),
    ...(sharded && {
      sharded: Object.fromEntries(
        Object.entries(sharded).map(([kind, rank]) => [
          kind,
          {
            ...rank,
            forwardMs: less(rank.forwardMs, chunk.forwardMs * rank.forwardRuns),
            backwardMs: less(rank.backwardMs, chunk.backwardMs * rank.backwardRuns),
          },
        ]),
      ),
    }),
  };
}

/** By segment, its kind; those that cost the same are of one. */
function kindsOf(model: Trainable, segments: readonly Segment[], optimizer: OptimizerConfig): Kind[] {
  const infos = new Map(model.graph.inputs.map((info) => [info.name, info]));
  const known = new Map<string, Kind>();
  return segments.map((segment) => {
    const graph = Piece.graphOf(model, segments, segment.index, segment.index + 1);
    const trained = new Set(segment.parameters);
    const key = JSON.stringify([
      segment.flops,
      segment.activationBytes,
      graph.nodes.map(({ op }) => op),
      graph.inputs.map(({ name, dtype, shape }) => [dtype, shape, trained.has(name)]),
      segment.inputTrained,
      segment.output === null,
    ]);
    const found = known.get(key);
    if (found) return found;
    const held = segment.parameters.reduce((sum, name) => {
      const info = infos.get(name)!;
      return sum + (2 + stateNames(optimizer, info).length) * byteLength(info.dtype, info.shape);
    }, segment.frozenBytes);
    // Once for what is kept and once for what runs need is enough for a bound of what a piece comes to.
    const kind = { segment, bytes: held + 2 * peakBytes(graph) };
    known.set(key, kind);
    return kind;
  });
}

/** In groups that fit into memory together, or alone where one does not. */
function grouped(kinds: readonly Kind[], memoryBytes: number): Kind[][] {
  const groups: Kind[][] = [];
  let room = 0;
  for (const kind of kinds) {
    if (groups.length === 0 || kind.bytes > room) {
      groups.push([]);
      room = memoryBytes;
    }
    groups.at(-1)!.push(kind);
    room -= kind.bytes;
  }
  return groups;
}

function sizesOf({ apart, graphs }: Piece): Pick<SegmentProfile, "stashBytes" | "workingBytes"> {
  const runs = [graphs.forward, graphs.backward, graphs.joint];
  return {
    stashBytes: keptBytes(apart),
    workingBytes: runs.reduce((most, graph) => Math.max(most, graph ? peakBytes(graph) : 0), 0),
  };
}
