/**
 * Counting: whether a worker does everything that its micro-batches need at each of its chunks exactly once, in an order
 * that makes sense and keeps sums of gradients bit-identical, with the messages that its place calls for and no others.
 */

import {
  describe,
  isOfMicroBatch,
  type MicroBatchOperation,
  type Operation,
  ProgramError,
  positionOf,
  type StageProgram,
} from "../program.ts";
import type { Places, StagePlace } from "./places.ts";

type Op = MicroBatchOperation["op"];

const KERNELS = ["forward", "backward", "forward-backward", "backward-input", "backward-weight"] as const;

/** Where each operation is, by what it is and its micro-batch. */
type Found = ReadonlyMap<string, number>;

/** @throws ProgramError naming worker and operation. */
export function checkMicroBatches(program: StageProgram, stage: StagePlace, places: Places): void {
  const chunks = program.positions.map(() => new Map<string, number>());
  const own = new Set<number>();
  program.operations.forEach((operation, index) => {
    if (operation.op === "step") return;
    positionOf(program, operation);
    if (operation.op !== "reduce") {
      const { microBatch } = operation;
      if (!Number.isInteger(microBatch) || microBatch < 0) {
        throw fault(program, operation, `names no micro-batch of 0 … ${places.microBatches - 1}`);
      }
      own.add(microBatch);
    }
    const found = chunks[operation.chunk ?? 0]!;
    const name = keyOf(operation);
    if (found.has(name)) throw fault(program, operation, "occurs twice");
    found.set(name, index);
  });
  const microBatches = [...own].sort((a, b) => a - b);
  for (const chunk of chunks.keys()) {
    const place = new ChunkPlace(program, stage, places, chunk, chunks);
    place.checkMessages();
    place.checkOrder(microBatches);
    for (const microBatch of microBatches) place.checkMicroBatch(microBatch);
  }
}

/** `forward 3`, `reduce`. */
function keyOf(operation: Exclude<Operation, { op: "step" }>): string {
  return operation.op === "reduce" ? "reduce" : `${operation.op} ${operation.microBatch}`;
}

class ChunkPlace {
  private readonly program: StageProgram;
  private readonly stage: StagePlace;
  private readonly places: Places;
  private readonly chunk: number;
  private readonly position: number;
  private readonly chunks: readonly Found[];

  constructor(
    program: StageProgram,
    stage: StagePlace,
    places: Places,
    ...[chunk, chunks]: readonly [number, readonly Found[]]
  ) {
    this.program = program;
    this.stage = stage;
    this.places = places;
    this.chunk = chunk;
    this.chunks = chunks;
    this.position = program.positions[chunk]!;
  }

  /** No operation without somebody on the other side. */
  checkMessages(): void {
    const { position, places } = this;
    const count = places.holders.length;
    for (const operation of this.program.operations) {
      if (!isOfMicroBatch(operation) || (operation.chunk ?? 0) !== this.chunk) continue;
      const { op } = operation;
      if (op === "forward-backward" && position !== count - 1) {
        throw this.fault(
          op,
          operation.microBatch,
          `is possible at the last position only, this is ${position} of ${count}`,
        );
      }
      const step = {
        "receive-activation": -1,
        "send-gradient": -1,
        "send-activation": 1,
        "receive-gradient": 1,
      }[op as string];
      if (step === undefined) continue;
      const other = places.holders[position + step];
      if (!other) {
        throw this.fault(
          op,
          operation.microBatch,
          `has nobody on the other side of position ${position} of ${count}`,
        );
      }
      if (other === this.stage) {
        throw this.fault(
          op,
          operation.microBatch,
          `is to itself: position ${position + step} is on the same worker`,
        );
      }
      const unwanted =
        op === "send-gradient"
          ? position <= places.bottom
          : op === "receive-gradient" && position < places.bottom;
      if (unwanted) {
        const what = `is of a gradient nobody wants: below position ${places.bottom} nothing is trained`;
        throw this.fault(op, operation.microBatch, what);
      }
      if (op.startsWith("send-") && !this.speaks(operation.microBatch)) {
        throw this.fault(
          op,
          operation.microBatch,
          "is another worker's to send: those of a stage take turns",
        );
      }
    }
  }

  /** Gradients are added up in the order of the micro-batches. */
  checkOrder(microBatches: readonly number[]): void {
    let next = 0;
    for (const operation of this.program.operations) {
      if (!isOfMicroBatch(operation) || (operation.chunk ?? 0) !== this.chunk) continue;
      const { op, microBatch } = operation;
      if (op !== "backward" && op !== "backward-weight" && op !== "forward-backward") continue;
      if (microBatch !== microBatches[next]) {
        throw this.fault(
          op,
          microBatch,
          `accumulates out of order, gradients of micro-batch ${microBatches[next]} come next`,
        );
      }
      next++;
    }
  }

  /** Everything that the micro-batch needs here, after what it depends on. */
  checkMicroBatch(microBatch: number): void {
    const found = this.chunks[this.chunk]!;
    const steps = this.expected(microBatch);
    let before = -1;
    let previous = "";
    for (const op of steps) {
      const index = found.get(`${op} ${microBatch}`);
      if (index === undefined) throw this.fault(op, microBatch, "is missing");
      if (index < before) throw this.fault(op, microBatch, `comes before ${previous} ${microBatch}`);
      // The gradient may leave while the weight gradient is still to come: only what it needs orders W.
      if (op === "send-gradient" && found.has(`backward-weight ${microBatch}`)) continue;
      before = index;
      previous = op;
    }
    const forward = this.indexOf(this.chunk, microBatch, ["forward", "forward-backward"]);
    this.after(forward, -1, microBatch, ["forward", "forward-backward"]);
    const backward = this.indexOf(this.chunk, microBatch, ["backward", "backward-input"]);
    if (backward !== undefined)
      this.after(backward, 1, microBatch, ["backward", "backward-input", "forward-backward"]);
    for (const op of KERNELS) {
      if (!steps.includes(op) && found.has(`${op} ${microBatch}`)) {
        throw this.fault(op, microBatch, "repeats work that another operation of the program does");
      }
    }
  }

  /** What the worker hands on to itself has to be there. */
  private after(index: number | undefined, step: 1 | -1, microBatch: number, ops: readonly Op[]): void {
    const neighbour = this.program.positions.indexOf(this.position + step);
    if (neighbour < 0 || index === undefined) return;
    const given = this.indexOf(neighbour, microBatch, ops);
    if (given === undefined || given < index) return;
    const operation = this.program.operations[index]!;
    throw fault(
      this.program,
      operation,
      `comes before ${describe(this.program.operations[given]!)}, which it needs`,
    );
  }

  private indexOf(chunk: number, microBatch: number, ops: readonly Op[]): number | undefined {
    const found = this.chunks[chunk]!;
    for (const op of ops) {
      const index = found.get(`${op} ${microBatch}`);
      if (index !== undefined) return index;
    }
    return undefined;
  }

  /** The operations a micro-batch needs at the chunk, in the order they depend on each other. */
  private expected(microBatch: number): readonly Op[] {
    const { position, places, stage } = this;
    const found = this.chunks[this.chunk]!;
    const elsewhere = (other: number) =>
      places.holders[other] !== undefined && places.holders[other] !== stage;
    const when = (holds: boolean, ...ops: Op[]): readonly Op[] => (holds ? ops : []);
    const speaks = this.speaks(microBatch);
    const arrival = when(elsewhere(position - 1), "receive-activation");
    const departure = when(elsewhere(position + 1) && speaks, "send-activation");
    if (position < places.bottom) return [...arrival, "forward", ...departure];
    const sending = when(position > places.bottom && elsewhere(position - 1) && speaks, "send-gradient");
    if (found.has(`forward-backward ${microBatch}`)) return [...arrival, "forward-backward", ...sending];
    const split = found.has(`backward-input ${microBatch}`) || found.has(`backward-weight ${microBatch}`);
    const backward: readonly Op[] = split
      ? ["backward-input", ...sending, "backward-weight"]
      : ["backward", ...sending];
    return [
      ...arrival,
      "forward",
      ...departure,
      ...when(elsewhere(position + 1), "receive-gradient"),
      ...backward,
    ];
  }

  /** Whether the worker sends on what comes of a micro-batch. */
  private speaks(microBatch: number): boolean {
    const { workers, together } = this.stage;
    return !together || workers[microBatch % workers.length] === this.program;
  }

  private fault(op: Op, microBatch: number, what: string): ProgramError {
    const several = this.program.positions.length > 1;
    return fault(this.program, several ? { op, microBatch, chunk: this.chunk } : { op, microBatch }, what);
  }
}

/** What is wrong with an operation of a worker. */
export function fault(program: StageProgram, operation: Operation, what: string): ProgramError {
  return new ProgramError(
    `worker ${program.worker} of stage ${program.stage}: "${describe(operation)}" ${what}`,
  );
}
