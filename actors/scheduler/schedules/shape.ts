/**
 * What a schedule has to know of a pipeline: who holds which positions, who takes which micro-batches, and where gradients
 * end. Not what anything costs: a schedule's order comes from the shape alone, under the assumption that planning has
 * given every worker as much to do as every other.
 */

import type { Sharing } from "../plan.ts";
import { ProgramError } from "../program.ts";

export interface StageShape {
  /** Its chunks by their place in the model, ascending. */
  readonly positions: readonly number[];
  /** Null for one member. */
  readonly sharing: Sharing | null;
  /** The micro-batches of each member, ascending; those of `sharing` within micro-batches have them all. */
  readonly members: readonly (readonly number[])[];
}

export interface PipelineShape {
  readonly microBatches: number;
  /** So many positions at the beginning have nothing to train, and get no gradients. */
  readonly forwardOnly: number;
  readonly stages: readonly StageShape[];
}

/**
 * A pipeline of stages of one member and one chunk each, or of several chunks dealt round and round: stage s holds the
 * positions s, s + stages, … (Narayanan et al., 2021).
 * @throws ProgramError for counts under 1.
 */
export function chainShape(stages: number, microBatches: number, forwardOnly = 0, chunks = 1): PipelineShape {
  requireCount("stages", stages);
  requireCount("micro-batches", microBatches);
  requireCount("chunks", chunks);
  const members = [range(microBatches)];
  return {
    ...{ microBatches, forwardOnly },
    stages: range(stages).map((stage) => ({
      positions: range(chunks).map((chunk) => chunk * stages + stage),
      sharing: null,
      members,
    })),
  };
}

/** Whether members of a stage take some of the micro-batches each, and not all of them all. */
export function isDealt({ sharing, members }: StageShape): boolean {
  return members.length > 1 && (sharing === "data" || sharing === "local");
}

/** 0 … count-1. */
export function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

function requireCount(what: string, count: number): void {
  if (!Number.isInteger(count) || count < 1) {
    throw new ProgramError(`a pipeline needs at least 1 of ${what}, ${count} given`);
  }
}
