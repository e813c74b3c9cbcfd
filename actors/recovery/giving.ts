/**
 * How a stage gives a replica what it held after a step: as a copy, or, where the replica has one of a step before, by the
 * gradients of the steps since, of which the replica makes the copy itself. Piece by piece either way, making way for
 * whatever else goes there.
 */

import type { Followed } from "../../nn/executor/follower.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Clock, Ref } from "../../runtime/index.ts";
import { checksumOf } from "./checksum.ts";
import { Courtesy } from "./courtesy.ts";
import type { Holding } from "./ledger.ts";
import { Cutter, type Slice } from "./pieces.ts";
import type { Replica } from "./replica.ts";
import type { Update } from "./updates.ts";

type Values = ReadonlyMap<string, Tensor>;

export interface Giving {
  readonly holding: Holding;
  readonly step: number;
  /** What it held. */
  readonly copy: Values;
  readonly to: Ref<Replica>;
  /** Whether it is not wanted any more. */
  readonly isOver: () => boolean;
  /** Whether lines are left to others for a while where they want them. */
  readonly isPolite: () => boolean;
  readonly clock: Clock;
}

export interface Follow {
  /** The step that the replica has a copy of. */
  readonly from: number;
  readonly updates: readonly Update[];
  /** Null where the replica has been told. */
  readonly recipe: readonly Followed[] | null;
  /** Whether it is to be made sure that both come to the same. */
  readonly checks: boolean;
}

/** As often as a copy is begun at most. */
const MOST_ATTEMPTS = 3;

/** Gives a copy. @returns bytes. @throws RangeError where it is over, or given up there again and again. */
export async function give(giving: Giving): Promise<number> {
  const { holding, step, copy, to } = giving;
  let bytes = 0;
  // What has come of a worker may be given up there by one who has not heard of the worker yet.
  for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
    const put = (piece: readonly Slice[], before: number) => to.ask.put(holding.worker, step, piece, before);
    const given = await givePieces(giving, copy, put);
    bytes += given.bytes;
    if (given.isWhole && (await complete(giving))) return bytes;
  }
  throw new RangeError(
    `the copy of worker ${holding.worker} after step ${step + 1} does not stay where it is given`,
  );
}

/**
 * Gives gradients. @returns bytes; null where the replica cannot make a copy of them, or makes another one.
 * @throws RangeError where it is over.
 */
export async function giveUpdates(giving: Giving, follow: Follow): Promise<number | null> {
  const { step, copy, to } = giving;
  const { from, updates, recipe, checks } = follow;
  const { worker } = giving.holding;
  if (!(await to.ask.follows(worker, from, recipe))) return null;
  let bytes = 0;
  for (const { step: own, gradients, squareSums } of updates) {
    const put = async (piece: readonly Slice[]) => {
      await to.ask.putGradients(worker, piece);
      return true;
    };
    bytes += (await givePieces(giving, gradients, put)).bytes;
    await to.ask.advance(worker, from, step, own, squareSums);
  }
  if (checks && (await to.ask.checksum(worker, step)) !== checksumOf(copy)) return null;
  return (await complete(giving)) ? bytes : null;
}

/** @returns whether all of it is there. */
function complete(giving: Giving): Promise<boolean> {
  requireWanted(giving);
  const { holding, step, copy, to } = giving;
  const bytes = [...copy.values()].reduce((sum, tensor) => sum + tensor.bytes.byteLength, 0);
  return to.ask.complete(holding, step, bytes);
}

/** @param put takes a piece, behind so many bytes; it says whether these are there. */
async function givePieces(
  giving: Giving,
  values: Values,
  put: (piece: readonly Slice[], before: number) => Promise<boolean>,
): Promise<{ readonly bytes: number; readonly isWhole: boolean }> {
  const { clock, isPolite } = giving;
  const cutter = new Cutter(values);
  const courtesy = new Courtesy();
  let given = 0;
  for (;;) {
    requireWanted(giving);
    const piece = cutter.next(courtesy.bytes);
    if (!piece) return { bytes: given, isWhole: true };
    const bytes = piece.reduce((sum, slice) => sum + slice.bytes.byteLength, 0);
    const began = clock.now();
    const isTaken = await put(piece, given);
    given += bytes;
    if (!isTaken) return { bytes: given, isWhole: false };
    const restMs = courtesy.took(bytes, clock.now() - began);
    if (restMs > 0 && isPolite()) await clock.sleep(restMs);
  }
}

function requireWanted({ holding, step, isOver }: Giving): void {
  if (isOver())
    throw new RangeError(`the copy of worker ${holding.worker} after step ${step + 1} is given up`);
}
