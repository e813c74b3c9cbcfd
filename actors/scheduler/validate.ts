/**
 * Whether programs can be carried out, decided before anything is deployed.
 *
 * Two kinds of proof. Counting: every chunk is held once, does every micro-batch forward and backward exactly
 * once, in the order that keeps gradients bit-identical, and every message that is received is sent once. Running:
 * the programs are executed without time, with unbounded buffers; if all stages reach their end, no timing can
 * make them deadlock, since sends never block and every stage's order is fixed.
 */

import {
  describe,
  isBackward,
  isOfMicroBatch,
  type MicroBatchOperation,
  type Operation,
  ProgramError,
  positionOf,
  type StageProgram,
} from "./program.ts";

/**
 * Proves programs complete and free of deadlock.
 * @throws ProgramError naming the stage and the operation at fault.
 */
export function validatePrograms(programs: readonly StageProgram[]): void {
  const count = countPositions(programs);
  const microBatches = countMicroBatches(programs);
  const bottom = firstTrained(programs);
  for (const program of programs) {
    for (const operation of program.operations) checkOperation(program, operation, microBatches);
    program.positions.forEach((position, chunk) => {
      checkChunk(program, chunk, { position, count, bottom }, microBatches);
    });
    checkStep(program);
  }
  run(programs);
}

function countPositions(programs: readonly StageProgram[]): number {
  if (programs.length === 0) throw new ProgramError("there are no programs, at least 1 stage is needed");
  const holder = new Map<number, number>();
  programs.forEach((program, index) => {
    if (program.stage !== index) {
      throw new ProgramError(`program ${index} belongs to stage ${program.stage}, expected stage ${index}`);
    }
    for (const position of program.positions) {
      const other = holder.get(position);
      if (other !== undefined) {
        throw new ProgramError(`stage ${program.stage} holds position ${position}, so does stage ${other}`);
      }
      holder.set(position, program.stage);
    }
  });
  for (let position = 0; position < holder.size; position++) {
    if (!holder.has(position)) {
      throw new ProgramError(`no stage holds position ${position} of ${holder.size}`);
    }
  }
  return holder.size;
}

/** A position of the model, of `count`; `bottom` is the first that computes gradients. */
interface Place {
  readonly position: number;
  readonly count: number;
  readonly bottom: number;
}

/** The first position that computes gradients: those before it have nothing to train. 0 when there is none. */
function firstTrained(programs: readonly StageProgram[]): number {
  const trained = programs.flatMap((program) =>
    program.operations.flatMap((operation) =>
      operation.op !== "step" && isBackward(operation) ? [program.positions[operation.chunk ?? 0] ?? 0] : [],
    ),
  );
  return trained.reduce((lowest, position) => Math.min(lowest, position), trained[0] ?? 0);
}

function countMicroBatches(programs: readonly StageProgram[]): number {
  let count = 0;
  for (const { operations } of programs) {
    for (const operation of operations) {
      if (isOfMicroBatch(operation)) count = Math.max(count, operation.microBatch + 1);
    }
  }
  return count;
}

function checkOperation(program: StageProgram, operation: Operation, microBatches: number): void {
  if (!isOfMicroBatch(operation)) return;
  positionOf(program, operation);
  const { microBatch } = operation;
  if (!Number.isInteger(microBatch) || microBatch < 0) {
    throw fault(program, operation, `names no micro-batch of 0 … ${microBatches - 1}`);
  }
}

/** Every micro-batch of one chunk: each operation it needs exactly once, in an order that makes sense. */
function checkChunk(program: StageProgram, chunk: number, place: Place, microBatches: number): void {
  const { position, count: positions, bottom } = place;
  const first = position === 0;
  const last = position === positions - 1;
  const where = new Map<string, number>();
  let accumulated = -1;
  program.operations.forEach((operation, index) => {
    if (!isOfMicroBatch(operation) || (operation.chunk ?? 0) !== chunk) return;
    const { op, microBatch } = operation;
    const key = `${op} ${microBatch}`;
    if (where.has(key)) throw fault(program, operation, "occurs twice");
    where.set(key, index);
    if (op === "forward-backward" && !last) {
      throw fault(
        program,
        operation,
        `is possible at the last position only, this is ${position} of ${positions}`,
      );
    }
    const crossesStart = first && (op === "receive-activation" || op === "send-gradient");
    const crossesEnd = last && (op === "send-activation" || op === "receive-gradient");
    if (crossesStart || crossesEnd) {
      throw fault(program, operation, `has nobody on the other side of position ${position} of ${positions}`);
    }
    const crossesBottom =
      (op === "send-gradient" && position <= bottom) || (op === "receive-gradient" && position < bottom);
    if (crossesBottom) {
      throw fault(
        program,
        operation,
        `is of a gradient nobody wants: below position ${bottom} nothing is trained`,
      );
    }
    if (op === "backward" || op === "backward-weight" || op === "forward-backward") {
      if (microBatch !== accumulated + 1) {
        throw fault(
          program,
          operation,
          `accumulates out of order, gradients of micro-batch ${accumulated + 1} come next`,
        );
      }
      accumulated = microBatch;
    }
  });

  for (let microBatch = 0; microBatch < microBatches; microBatch++) {
    const steps = expected(where, microBatch, place);
    let before = -1;
    let previous = "";
    for (const op of steps) {
      const operation: MicroBatchOperation =
        program.positions.length > 1 ? { op, microBatch, chunk } : { op, microBatch };
      const index = where.get(`${op} ${microBatch}`);
      if (index === undefined) throw fault(program, operation, "is missing");
      if (index < before) throw fault(program, operation, `comes before ${previous} ${microBatch}`);
      // The gradient may leave while the weight gradient is still to come: only what it needs orders W.
      if (op === "send-gradient" && where.has(`backward-weight ${microBatch}`)) continue;
      before = index;
      previous = op;
    }
    const allowed = new Set<string>(steps);
    for (const op of [
      "forward",
      "backward",
      "forward-backward",
      "backward-input",
      "backward-weight",
    ] as const) {
      if (!allowed.has(op) && where.has(`${op} ${microBatch}`)) {
        throw fault(program, { op, microBatch }, "repeats work that another operation of the program does");
      }
    }
  }
}

/** The operations a micro-batch needs at a position, in the order they depend on each other. */
function expected(
  where: ReadonlyMap<string, number>,
  microBatch: number,
  { position, count, bottom }: Place,
): readonly MicroBatchOperation["op"][] {
  const fused = where.has(`forward-backward ${microBatch}`);
  const split = where.has(`backward-input ${microBatch}`) || where.has(`backward-weight ${microBatch}`);
  const receiveActivation = position === 0 ? [] : (["receive-activation"] as const);
  if (position < bottom) return [...receiveActivation, "forward", "send-activation"];
  const sendGradient = position === bottom ? [] : (["send-gradient"] as const);
  if (fused) return [...receiveActivation, "forward-backward", ...sendGradient];
  const turn = position === count - 1 ? [] : (["send-activation", "receive-gradient"] as const);
  const backward = split
    ? (["backward-input", ...sendGradient, "backward-weight"] as const)
    : (["backward", ...sendGradient] as const);
  return [...receiveActivation, "forward", ...turn, ...backward];
}

function checkStep(program: StageProgram): void {
  const index = program.operations.findIndex((operation) => operation.op === "step");
  if (index !== program.operations.length - 1) {
    const found = index < 0 ? "has none" : `has it at ${index} of ${program.operations.length} operations`;
    throw new ProgramError(`stage ${program.stage} must end with its only "step", it ${found}`);
  }
}

/** Executes the programs without time; whoever cannot go on when nobody can is the deadlock. */
function run(programs: readonly StageProgram[]): void {
  const sent = new Set<string>();
  const next = programs.map(() => 0);
  for (let moved = true; moved; ) {
    moved = false;
    programs.forEach((program, stage) => {
      for (let operation = program.operations[next[stage]!]; operation; ) {
        if (isOfMicroBatch(operation)) {
          const position = positionOf(program, operation);
          const { op, microBatch } = operation;
          if (op === "send-activation") sent.add(`activation ${position + 1} ${microBatch}`);
          if (op === "send-gradient") sent.add(`gradient ${position - 1} ${microBatch}`);
          if (op === "receive-activation" && !sent.has(`activation ${position} ${microBatch}`)) break;
          if (op === "receive-gradient" && !sent.has(`gradient ${position} ${microBatch}`)) break;
        }
        moved = true;
        next[stage]!++;
        operation = program.operations[next[stage]!];
      }
    });
  }
  programs.forEach((program, stage) => {
    const stuck = program.operations[next[stage]!];
    if (stuck) throw fault(program, stuck, "waits forever: what it receives is never sent");
  });
}

function fault(program: StageProgram, operation: Operation, what: string): ProgramError {
  return new ProgramError(`stage ${program.stage}: "${describe(operation)}" ${what}`);
}
