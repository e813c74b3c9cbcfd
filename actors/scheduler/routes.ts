/**
 * Who talks to whom: which workers of a plan take a micro-batch at a position, which of them speaks for it, and so whom
 * an activation or its gradient goes to. Pure; programs are made by it, and stages go by it.
 *
 * At every position a micro-batch has *listeners*, the workers that take its activation there, and a *speaker* among
 * them, who sends on what comes of it. Members that share micro-batches each take their own and speak for them. Where
 * work inside a micro-batch is shared, all members take every one and come to the same result, so they speak in turn,
 * which spreads what is sent over their links. What one worker makes for itself is handed on, and is no message.
 *
 * Validation has its own number of micro-batches: they go the ways of training's, which are repeated as often as needed.
 */

import { chunksOf, type Plan, type Sharing, type Worker, workersOf } from "./plan.ts";

/** Whether members of a stage have the whole of it and take some of the micro-batches each. */
export function isDealt(sharing: Sharing | null): boolean {
  return sharing === "data" || sharing === "local";
}

export class Routes {
  readonly workers: readonly Worker[];
  /** Chunks of the model. */
  readonly positions: number;
  private readonly microBatches: number;
  /** Members of the stage that holds each position, by rank. */
  private readonly holders: (readonly Worker[])[] = [];
  /** Where micro-batches are dealt: who has each of them, by position and micro-batch. */
  private readonly dealt: (readonly Worker[] | null)[] = [];

  constructor(plan: Pick<Plan, "stages" | "microBatches">) {
    this.workers = workersOf(plan);
    this.positions = chunksOf(plan).length;
    this.microBatches = plan.microBatches;
    for (const stage of plan.stages) {
      const members = this.workers.filter((worker) => worker.stage === stage);
      const taker = isDealt(stage.sharing) ? takers(members) : null;
      for (const position of members[0]?.positions ?? []) {
        this.holders[position] = members;
        this.dealt[position] = taker;
      }
    }
  }

  /** Members of the stage that holds a position. */
  holdersOf(position: number): readonly Worker[] {
    return this.holders[position] ?? [];
  }

  /** Workers that take a micro-batch at a position. */
  listeners(position: number, microBatch: number): readonly Worker[] {
    const taker = this.dealt[position]?.[microBatch % this.microBatches];
    return taker ? [taker] : this.holdersOf(position);
  }

  /** The one among them that sends on what comes of it, in both directions. */
  speaker(position: number, microBatch: number): Worker {
    const listeners = this.listeners(position, microBatch);
    return listeners[(microBatch % this.microBatches) % listeners.length]!;
  }

  /**
   * Whom a worker gives what it has made of a micro-batch at one position for the position next to it: nobody at the ends
   * of the model and where another speaks; itself alone where it takes the micro-batch there too.
   */
  targets(own: Pick<Worker, "worker">, position: number, to: number, microBatch: number): readonly Worker[] {
    if (to < 0 || to >= this.positions) return [];
    const turn = microBatch % this.microBatches;
    const taker = this.dealt[to]?.[turn];
    const speaker = this.dealt[position]?.[turn];
    // Where both are dealt, which a thousand members ask for all of their micro-batches with every loss.
    if (taker && speaker) return taker.worker === own.worker || speaker.worker === own.worker ? [taker] : [];
    const listeners = this.listeners(to, microBatch);
    const self = listeners.find(({ worker }) => worker === own.worker);
    if (self) return [self];
    return this.speaker(position, microBatch).worker === own.worker ? listeners : [];
  }

  /**
   * Where a parameter is held at two positions: the members behind `to` that a worker gives its gradients to, each of
   * which hears of one. Itself where it holds both.
   */
  partners({ worker, rank }: Worker, position: number, to: number): readonly Worker[] {
    const theirs = this.holdersOf(to);
    const self = theirs.find((other) => other.worker === worker);
    const count = this.holdersOf(position).length;
    return self ? [self] : theirs.filter((other) => other.rank % count === rank);
  }
}

/** The member that has each micro-batch. */
function takers(members: readonly Worker[]): Worker[] {
  const result: Worker[] = [];
  for (const worker of members) {
    for (const microBatch of worker.member.microBatches) result[microBatch] = worker;
  }
  return result;
}
