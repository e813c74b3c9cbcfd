/**
 * What becomes of gradients: sums over the members of a stage, updates in the midst of a step, and the step at the end.
 */

import { isBackward, type Operation, ProgramError, type StageProgram } from "../program.ts";
import { fault } from "./micro-batches.ts";
import type { Places, StagePlace } from "./places.ts";

/** @throws ProgramError naming worker and operation. */
export function checkGradients(stage: StagePlace, places: Places): void {
  const reduced = stage.workers.map((program) => checkReduces(program, stage, places));
  const most = Math.max(...reduced.map(({ size }) => size));
  const trained = stage.positions.filter((position) => position >= places.bottom).length;
  stage.workers.forEach((program, rank) => {
    if (most > 0 && reduced[rank]!.size < trained) {
      const chunk = [...stage.positions.keys()].find(
        (chunk) => stage.positions[chunk]! >= places.bottom && !reduced[rank]!.has(chunk),
      )!;
      const operation: Operation = stage.positions.length > 1 ? { op: "reduce", chunk } : { op: "reduce" };
      throw fault(
        program,
        operation,
        "is missing: all members add up the gradients of all chunks, or none of any",
      );
    }
    checkStep(program);
  });
}

/** Once for a chunk, behind its last backward pass. The chunks that are reduced. */
function checkReduces(program: StageProgram, stage: StagePlace, { bottom }: Places): ReadonlySet<number> {
  const reduced = new Set<number>();
  for (const operation of program.operations) {
    if (operation.op === "step") continue;
    const chunk = operation.chunk ?? 0;
    if (operation.op === "reduce") {
      if (stage.workers.length === 1)
        throw fault(program, operation, "has nobody to add up with: the stage has one member");
      if (program.positions[chunk]! < bottom)
        throw fault(program, operation, "is of gradients nobody computes");
      reduced.add(chunk);
    } else if (reduced.has(chunk) && isBackward(operation)) {
      throw fault(program, operation, "comes after the reduce of its gradients");
    }
  }
  return reduced;
}

/**
 * Updates within a step: all backward passes are followed by theirs, or none is.
 * @throws ProgramError naming worker and operation.
 */
export function checkUpdates(places: Places): void {
  const workers = places.stages.flatMap((stage) => stage.workers);
  if (!workers.some(({ operations }) => operations.some(({ op }) => op === "update"))) return;
  for (const { workers, together } of places.stages) {
    for (const program of workers) {
      const due = new Map<string, Operation>();
      for (const operation of program.operations) {
        if (operation.op === "step") continue;
        const { chunk = 0 } = operation;
        if (operation.op === "reduce" || (workers.length > 1 && !together)) {
          throw fault(
            program,
            operation,
            "cannot be: members that take different micro-batches do not update after each",
          );
        }
        const key = `${chunk} ${operation.microBatch}`;
        if (operation.op === "update") {
          if (!due.delete(key))
            throw fault(program, operation, "is not behind the backward pass of its micro-batch");
        } else if (isBackward(operation) && operation.op !== "backward-input") due.set(key, operation);
      }
      for (const operation of due.values()) {
        throw fault(program, operation, "has no update behind it, other backward passes do");
      }
    }
  }
}

function checkStep(program: StageProgram): void {
  const { operations, worker, stage } = program;
  const index = operations.findIndex((operation) => operation.op === "step");
  if (index !== operations.length - 1) {
    const found = index < 0 ? "has none" : `has it at ${index} of ${operations.length} operations`;
    throw new ProgramError(`worker ${worker} of stage ${stage} must end with its only "step", it ${found}`);
  }
}
