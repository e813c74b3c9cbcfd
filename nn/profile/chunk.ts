/**
 * What a chunk of several segments costs beside its parts: both are run in the same passes, and the difference is what the
 * runs of the parts cost once each and the chunk's only once.
 *
 * Differences of long times are uncertain where others use the machine, and they are multiplied by the number of
 * segments later: so of each only that much is believed which is beyond its standard error.
 */

import type { Engine } from "../engine/engine.ts";
import type { Trainable } from "../model.ts";
import type { ChunkTimes, SegmentProfile } from "../profile.ts";
import type { Segment } from "../segments.ts";
import { Piece, type PieceOptions } from "./piece.ts";
import { measureRounds, median, spread } from "./rounds.ts";

/** A segment on its own: shared by all of its kind. */
export interface Single {
  readonly piece: Piece;
  readonly profile: SegmentProfile;
  readonly bytes: number;
}

export interface ChunkFound {
  readonly chunk: Omit<ChunkTimes, "otherMs">;
  /** What both passes of a segment come to in one run, as a share of their sum. */
  readonly inner: number;
}

/** Passes that have to fit into the budget: one to warm up, and the least number of rounds. */
const PASSES = 4;
/** What a run costs whatever it holds is at most so much of the smallest part's time: the rest is the machine. */
const LARGEST_SHARE = 0.5;
/** How far one run of both passes may be from two: beyond that it is the machine. */
const INNER = { least: 0.85, most: 1.1 };

type Name = "forward" | "backward" | "joint" | "step";
const NAMES: readonly Name[] = ["forward", "backward", "joint", "step"];

/**
 * @param singles by segment.
 * @returns null where there is no time or no memory for a chunk of two segments.
 */
export async function chunkTimes(
  engine: Engine,
  model: Trainable,
  segments: readonly Segment[],
  singles: readonly Single[],
  options: PieceOptions & { readonly memoryBytes: number },
  budgetMs: number,
  now: () => number,
): Promise<ChunkFound | null> {
  const ranges = chosenRanges(singles, options.memoryBytes, budgetMs);
  if (ranges.length === 0) return null;
  const pieces: Piece[] = [];
  try {
    for (const { from, to } of ranges) {
      const plain = { ...options, split: false, sharings: [] };
      pieces.push(await Piece.create(engine, model, segments, from, to, plain, now));
    }
    const held = new Set(ranges.flatMap(({ from, to }) => singles.slice(from, to).map(({ piece }) => piece)));
    const all = [...held, ...pieces].flatMap((piece) =>
      NAMES.flatMap((name) => {
        const run = piece.runs.get(name);
        return run ? [{ piece, name, run }] : [];
      }),
    );
    const { passes } = await measureRounds(all, budgetMs, now);
    const at = (piece: Piece, name: Name) =>
      all.findIndex((probe) => probe.piece === piece && probe.name === name);
    /** By pass, of one run; zero for one that there is not. */
    const times = (piece: Piece, name: Name) => passes.map((pass) => pass[at(piece, name)] ?? 0);
    /** What each part beyond the first costs more than it does in the chunk. */
    const extra = (which: number, name: Name): number => {
      const { from, to } = ranges[which]!;
      const parts = singles.slice(from, to).map(({ piece }) => times(piece, name));
      const whole = times(pieces[which]!, name);
      const differences = whole.map((ms, i) => parts.reduce((sum, part) => sum + part[i]!, 0) - ms);
      const most = LARGEST_SHARE * Math.min(...parts.map(median).filter((ms) => ms > 0));
      return Math.min(believed(differences) / (to - from - 1), Number.isFinite(most) ? most : 0);
    };
    const apart = ranges.findIndex(({ to }) => to < singles.length);
    const ending = ranges.findIndex(({ to }) => to === singles.length);
    const [forwardMs, backwardMs] = apart < 0 ? [0, 0] : [extra(apart, "forward"), extra(apart, "backward")];
    const jointMs = Math.max(forwardMs, backwardMs);
    const stepMs = extra(0, "step");
    const chunk = { forwardMs, backwardMs, jointMs, stepMs };
    const { from, to } = ranges[ending]!;
    const last = times(singles[to - 1]!.piece, "joint");
    const whole = times(pieces[ending]!, "joint");
    const inside = singles.slice(from, to - 1).map(({ piece }) => {
      const [forward, backward] = [times(piece, "forward"), times(piece, "backward")];
      return forward.map((ms, i) => ms - forwardMs + backward[i]! - backwardMs);
    });
    const saved = whole.map((ms, i) => {
      const sum = inside.reduce((total, part) => total + part[i]!, 0);
      return sum > 0 ? 1 - (ms - last[i]!) / sum : 0;
    });
    const inner =
      1 - Math.sign(median(saved)) * believed(saved.map((share) => share * Math.sign(median(saved))));
    return { chunk, inner: Math.min(INNER.most, Math.max(INNER.least, inner)) };
  } finally {
    for (const piece of pieces) piece.release();
  }
}

/** The part of a difference that is beyond its standard error; nothing of a negative one. */
function believed(values: readonly number[]): number {
  return Math.max(0, median(values) - spread(values));
}

interface Range {
  readonly from: number;
  readonly to: number;
}

/** The longest that time and memory are enough for: one that ends the model, and one that does not. */
function chosenRanges(singles: readonly Single[], memoryBytes: number, budgetMs: number): Range[] {
  const n = singles.length;
  const kinds = new Map(singles.map((single) => [single.piece, single]));
  const taken = [...kinds.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  for (let count = n; count >= 2; count--) {
    const ranges = [n, n - 1].map((to): Range => ({ from: Math.max(0, to - count), to }));
    const longer = ranges.filter(({ from, to }) => to - from >= 2);
    const held = longer.map(({ from, to }) => singles.slice(from, to));
    const bytes = held.flat().reduce((sum, single) => sum + single.bytes, taken);
    const own = [...new Set(held.flat().map(({ piece }) => kinds.get(piece)!))];
    const passMs = [...own, ...held.flat()].reduce((sum, { profile }) => {
      return sum + profile.jointMs + profile.stepMs;
    }, 0);
    if (bytes <= memoryBytes && passMs * PASSES <= budgetMs) return longer;
  }
  return [];
}
