/**
 * Event-by-event simulation of programs on a cost model: when every operation of a step starts and ends.
 *
 * The rules are those that workers go by. Kernels of a worker run one at a time, in the order of its program, each as soon
 * as its input is there. A send takes its worker no time: the message occupies the directed link between the two for bytes
 * / bandwidth, first in first out, and arrives `latencyMs` after its last byte has left. With `interfaces` all that leaves
 * a machine shares its way out, and all that comes its way in. Collectives inside kernels are meetings of a stage's workers,
 * sums of gradients go on in the background, and both (`simulate/collective.ts`) go over links that they share with
 * messages, which a sum does not hold up but lets between its pieces. The optimiser's step is behind the commit gate:
 * nobody takes it before all workers have all their gradients.
 *
 * With `cores`, at most that many kernels run at once over all workers, for predicting several devices on one machine.
 * Waiting kernels are taken by list scheduling: the one that became ready first goes first, the lower worker at a tie. That
 * is what fair operating systems come close to, not an optimum.
 *
 * Programs are taken as they come: `validatePrograms` proves them, and what `planPrograms` makes needs no proof.
 */

import type { Operation, StageProgram } from "./program.ts";
import type { RunCost } from "./run-cost.ts";
import { execute, type Outcome } from "./simulate/engine.ts";
import { ACTION, type Lowered, lower } from "./simulate/lower.ts";
import type { CollectiveOperation, Span } from "./timeline.ts";

/** A step in a few numbers. */
export interface Prediction {
  readonly makespanMs: number;
  /** When all gradients were there, and the optimiser had its turn. */
  readonly gateMs: number;
  /** By worker: time in which no kernel of it runs. */
  readonly idleMs: readonly number[];
  /** Idle share of all workers' time, 0 … 1. */
  readonly bubbleFraction: number;
  /** Primitive events it took to find out. */
  readonly events: number;
}

export interface Simulation extends Prediction {
  /** Of operations in the order of each worker's program, worker after worker. */
  readonly spans: readonly Span[];
  /** Of collectives inside of them, in that order. */
  readonly collectives: readonly Span<CollectiveOperation>[];
}

/**
 * Runs one step.
 * @throws ProgramError when somebody waits forever, RangeError when the cost has no such worker or chunk.
 */
export function simulate(programs: readonly StageProgram[], cost: RunCost): Simulation {
  const lowered = lower(programs, cost);
  const outcome = execute(lowered);
  return {
    ...summary(outcome),
    spans: spansOf(lowered, outcome),
    collectives: collectivesOf(lowered, outcome),
  };
}

/** The same without its timeline: for whoever compares many. */
export function predict(programs: readonly StageProgram[], cost: RunCost): Prediction {
  return summary(execute(lower(programs, cost)));
}

function summary({ makespanMs, gateMs, busyMs, events }: Outcome): Prediction {
  const idleMs = Array.from(busyMs, (busy) => makespanMs - busy);
  const idle = idleMs.reduce((a, b) => a + b, 0);
  return {
    ...{ makespanMs, gateMs, idleMs, events },
    bubbleFraction: makespanMs === 0 ? 0 : idle / (makespanMs * busyMs.length),
  };
}

function spansOf(lowered: Lowered, outcome: Outcome): readonly Span[] {
  const { programs, firstOperation } = lowered;
  const sums = sumsOf(lowered);
  return programs.flatMap(({ operations }, worker) =>
    operations.map((operation, index): Span => {
      const place = firstOperation[worker]! + index;
      const sum = operation.op === "reduce" ? sums.get(place) : undefined;
      return sum === undefined
        ? { worker, operation, startMs: outcome.startMs[place]!, endMs: outcome.endMs[place]! }
        : {
            ...{ worker, operation },
            startMs: outcome.collectiveStartMs[sum]!,
            endMs: outcome.collectiveEndMs[sum]!,
          };
    }),
  );
}

/** The sum of each `reduce`, by operation. */
function sumsOf(lowered: Lowered): ReadonlyMap<number, number> {
  const sums = new Map<number, number>();
  eachAction(lowered, ACTION.reduce, (_worker, place, sum) => sums.set(place, sum));
  return sums;
}

function collectivesOf(
  lowered: Lowered,
  { collectiveStartMs, collectiveEndMs }: Outcome,
): readonly Span<CollectiveOperation>[] {
  const spans: Span<CollectiveOperation>[] = [];
  eachAction(lowered, ACTION.meet, (worker, _place, collective, operation) => {
    if (!("microBatch" in operation)) return;
    const { microBatch, chunk } = operation;
    const named = { microBatch, ...(chunk === undefined ? {} : { chunk }) };
    spans.push({
      worker,
      operation: { op: lowered.collectives[collective]!.op!, ...named },
      startMs: collectiveStartMs[collective]!,
      endMs: collectiveEndMs[collective]!,
    });
  });
  return spans;
}

function eachAction(
  { programs, firstAction, firstOperation, kinds, operations, subjects }: Lowered,
  kind: number,
  visit: (worker: number, place: number, subject: number, operation: Operation) => void,
): void {
  for (let worker = 0; worker < programs.length; worker++) {
    for (let action = firstAction[worker]!; action < firstAction[worker + 1]!; action++) {
      if (kinds[action] !== kind) continue;
      const index = operations[action]!;
      visit(worker, firstOperation[worker]! + index, subjects[action]!, programs[worker]!.operations[index]!);
    }
  }
}
