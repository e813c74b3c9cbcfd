/**
 * Running: programs are carried out without time, with unbounded buffers. If all workers reach their end, no timing can
 * make them deadlock, since sends never block and everybody's order is fixed. Workers who share the work inside
 * micro-batches meet within each kernel, so they have to do theirs in one order.
 */

import { describe, isOfMicroBatch, type MicroBatchOperation, type StageProgram } from "../program.ts";
import { fault } from "./micro-batches.ts";
import type { Places } from "./places.ts";

/** @throws ProgramError naming who waits for what forever. */
export function checkDeadlock(programs: readonly StageProgram[], places: Places): void {
  for (const { together, workers } of places.stages) if (together) checkSameOrder(workers);
  const { microBatches, holders } = places;
  const sent = new Uint8Array(2 * holders.length * microBatches);
  const waiting = new Map<number, number[]>();
  const next = new Int32Array(programs.length);
  const free = programs.map((_, worker) => worker);
  for (let worker = free.pop(); worker !== undefined; worker = free.pop()) {
    const { operations, positions } = programs[worker]!;
    for (; next[worker]! < operations.length; next[worker]!++) {
      const operation = operations[next[worker]!]!;
      if (!isOfMicroBatch(operation)) continue;
      const message = messageOf(operation, positions[operation.chunk ?? 0]!, places);
      if (message === undefined) continue;
      if (operation.op.startsWith("send-")) {
        sent[message] = 1;
        free.push(...(waiting.get(message) ?? []));
        waiting.delete(message);
      } else if (!sent[message]) {
        waiting.set(message, [...(waiting.get(message) ?? []), worker]);
        break;
      }
    }
  }
  programs.forEach((program, worker) => {
    const stuck = program.operations[next[worker]!];
    if (stuck) throw fault(program, stuck, "waits forever: what it receives is never sent");
  });
}

/** A number for each value that travels: by direction, the position it comes to, and micro-batch. */
function messageOf(operation: MicroBatchOperation, position: number, places: Places): number | undefined {
  const { microBatches, holders } = places;
  const at = (row: number) => row * microBatches + operation.microBatch;
  switch (operation.op) {
    case "send-activation":
      return at(position + 1);
    case "receive-activation":
      return at(position);
    case "send-gradient":
      return at(holders.length + position - 1);
    case "receive-gradient":
      return at(holders.length + position);
    default:
      return undefined;
  }
}

function checkSameOrder(workers: readonly StageProgram[]): void {
  const kernels = workers.map(({ operations }) =>
    operations.filter((operation) => !/^(send|receive)-/.test(operation.op)),
  );
  const first = kernels[0]!;
  kernels.forEach((own, rank) => {
    own.forEach((operation, index) => {
      const expected = first[index];
      if (expected && describe(expected) === describe(operation)) return;
      const other = expected ? `"${describe(expected)}"` : "nothing";
      throw fault(
        workers[rank]!,
        operation,
        `meets ${other} of worker ${workers[0]!.worker}, who shares its work`,
      );
    });
  });
}
