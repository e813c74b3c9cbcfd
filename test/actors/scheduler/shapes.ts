/** Pipelines of any shape, for what has to hold for all of them. */

import type { Sharing } from "../../../actors/scheduler/plan.ts";
import type { PipelineShape, ScheduleName, StageShape } from "../../../actors/scheduler/schedule.ts";
import { type Random, seededRandom } from "../../../runtime/random.ts";

const SHARINGS: readonly Sharing[] = ["data", "tensor", "sequence", "tensor-sequence", "local"];

/** What a schedule is made for: stages of several chunks only side by side, members that take turns or not. */
export interface Allowed {
  readonly apart: boolean;
  /** Whether several members may share a stage. */
  readonly shared: boolean;
}

export const ALLOWED: Readonly<Record<ScheduleName, Allowed>> = {
  gpipe: { apart: true, shared: true },
  "1f1b": { apart: false, shared: true },
  "eager-1f1b": { apart: false, shared: true },
  interleaved: { apart: true, shared: true },
  "zero-bubble": { apart: false, shared: true },
  pipedream: { apart: false, shared: false },
};

/** A pipeline of up to five stages of up to four members and three chunks, some of it frozen, dealt in any way. */
export function randomShape(seed: number, { apart, shared }: Allowed): PipelineShape {
  const random = seededRandom(seed);
  const count = 1 + random.integer(5);
  const microBatches = 1 + random.integer(12);
  const positions = apart ? scattered(random, count) : sideBySide(random, count);
  const stages = positions.map((own): StageShape => {
    const width = random.integer(3) === 0 && shared ? 2 + random.integer(3) : 1;
    const sharing = width === 1 ? null : SHARINGS[random.integer(5)]!;
    const everybody = sharing !== "data" && sharing !== "local";
    const owner = Array.from({ length: microBatches }, () => random.integer(width));
    const members = Array.from({ length: width }, (_, rank) =>
      owner.flatMap((taker, microBatch) => (everybody || taker === rank ? [microBatch] : [])),
    );
    return { positions: own, sharing, members };
  });
  const chunks = positions.flat().length;
  return { microBatches, forwardOnly: random.integer(2) * random.integer(chunks), stages };
}

function sideBySide(random: Random, count: number): number[][] {
  let next = 0;
  return Array.from({ length: count }, () => Array.from({ length: 1 + random.integer(3) }, () => next++));
}

/** Positions dealt out by chance, at least one to each stage. */
function scattered(random: Random, count: number): number[][] {
  const owners = [
    ...Array(count).keys(),
    ...Array.from({ length: random.integer(2 * count) }, () => random.integer(count)),
  ];
  for (let i = owners.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [owners[i], owners[j]] = [owners[j]!, owners[i]!];
  }
  return Array.from({ length: count }, (_, stage) =>
    owners.flatMap((owner, position) => (owner === stage ? [position] : [])),
  );
}
