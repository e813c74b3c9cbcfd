/**
 * What a worker does in one training step, as data: an ordered list of operations.
 *
 * A program says only what is done and in which order; how long it takes is the cost model's business, where it
 * runs is the plan's, and doing it is the stage actor's. Programs are plain JSON: they can be printed, edited,
 * sent, validated, simulated and executed.
 *
 * The model is cut into `n` chunks, numbered 0 … n-1 in the order the data passes them: that number is a chunk's
 * position. In GPipe and 1F1B a stage holds one chunk and its position is the stage's own number; interleaved and
 * V-shaped schedules give a stage several. Between neighbouring positions activations travel down and gradients
 * travel up, one message per micro-batch, and every send and receive is an operation of its own, unless the worker
 * holds both positions: then it hands the value on to itself. Of a stage whose workers share the work inside
 * micro-batches all receive, and they take turns in sending.
 *
 * A worker starts its kernels in the order of its list, each as soon as its input is there. Sends never block: the
 * sender goes on while the bytes travel. The first position takes its input, and the last one its targets, from
 * the data source; neither is a message of the pipeline.
 */

/** What runs on the device, one at a time. */
export type KernelKind =
  | "forward"
  /** Gradients of the chunk's input and of its parameters. With recomputation it includes the forward pass. */
  | "backward"
  /** Forward, loss and backward of the last position in a single graph run. */
  | "forward-backward"
  /** Only the gradient of the chunk's input: B of zero-bubble schedules (Qi et al., 2023). */
  | "backward-input"
  /** Only the gradients of the chunk's parameters: W of zero-bubble schedules. */
  | "backward-weight";

/** What travels between neighbouring positions. */
export type MessageKind = "send-activation" | "receive-activation" | "send-gradient" | "receive-gradient";

export interface MicroBatchOperation {
  readonly op: KernelKind | MessageKind;
  /** 0 … microBatches - 1. */
  readonly microBatch: number;
  /** Index into the program's `positions`; 0 when left out. */
  readonly chunk?: number;
}

/**
 * The chunk's gradients are complete here, and are added up over the members of the stage, in the background: what
 * follows does not wait, the step does. Last of its chunk in a stage whose members share micro-batches.
 */
export interface ReduceOperation {
  readonly op: "reduce";
  /** Index into the program's `positions`; 0 when left out. */
  readonly chunk?: number;
}

/**
 * The optimiser's update from the gradients of this micro-batch alone, at once: asynchronous schedules, in which a
 * backward pass uses the weights its forward pass had (Narayanan et al., "PipeDream", 2019).
 */
export interface UpdateOperation {
  readonly op: "update";
  readonly microBatch: number;
  /** Index into the program's `positions`; 0 when left out. */
  readonly chunk?: number;
}

/**
 * The optimiser's update, behind the commit gate: once per step, last. Where micro-batches have had updates of their own
 * nothing is left to update, and only the gate remains.
 */
export interface StepOperation {
  readonly op: "step";
}

export type Operation = MicroBatchOperation | ReduceOperation | UpdateOperation | StepOperation;

export interface StageProgram {
  /** Index among all programs. */
  readonly worker: number;
  /** The pipeline stage it is a member of. */
  readonly stage: number;
  /** The chunks it holds, by their position in the model. */
  readonly positions: readonly number[];
  readonly operations: readonly Operation[];
}

/** A program that cannot be carried out; the message names the worker and the operation. */
export class ProgramError extends Error {
  readonly code = "PROGRAM";
  override readonly name = "ProgramError";
}

/** The position in the model that an operation of this program works on. @throws ProgramError for an unknown chunk. */
export function positionOf(program: StageProgram, operation: Exclude<Operation, StepOperation>): number {
  const position = program.positions[operation.chunk ?? 0];
  if (position === undefined) {
    throw new ProgramError(
      `worker ${program.worker} of stage ${program.stage} holds ${program.positions.length} chunks, ` +
        `"${describe(operation)}" names another`,
    );
  }
  return position;
}

/** An operation for people: `forward 3`, `send-gradient 0 of chunk 1`, `step`. */
export function describe(operation: Operation): string {
  if (operation.op === "step") return "step";
  const chunk = operation.chunk === undefined ? "" : ` of chunk ${operation.chunk}`;
  return operation.op === "reduce" ? `reduce${chunk}` : `${operation.op} ${operation.microBatch}${chunk}`;
}

/** Whether it is a kernel on a micro-batch, or a message of one. */
export function isOfMicroBatch(operation: Operation): operation is MicroBatchOperation {
  return operation.op !== "step" && operation.op !== "reduce" && operation.op !== "update";
}

/** Micro-batches that a worker takes. */
export function microBatchesOf({ operations }: StageProgram): Set<number> {
  const found = new Set<number>();
  for (const operation of operations) if (isOfMicroBatch(operation)) found.add(operation.microBatch);
  return found;
}

/** Whether gradients are computed in it. */
export function isBackward({ op }: Operation): boolean {
  return (
    op === "backward" || op === "forward-backward" || op === "backward-input" || op === "backward-weight"
  );
}

/** Whether backward passes of one of the program's chunks are in two. */
export function isSplit({ operations }: StageProgram, chunk: number): boolean {
  return operations.some(
    (operation) =>
      (operation.op === "backward-input" || operation.op === "backward-weight") &&
      (operation.chunk ?? 0) === chunk,
  );
}

/**
 * The most micro-batches whose stash the worker holds at once, over all its chunks. A stash lives from the forward pass to
 * the end of the backward pass (with B and W apart: to the end of W). A forward and backward pass in one run counts as one
 * while it runs. Where there is no backward pass there is no stash, and two take turns: one may still be on its way to the
 * next stage.
 */
export function peakInFlight(program: StageProgram): number {
  return peakOf(program, [...program.positions.keys()]);
}

/** The same of each chunk by itself. */
export function peaksInFlight(program: StageProgram): readonly number[] {
  return program.positions.map((_, chunk) => peakOf(program, [chunk]));
}

function peakOf({ operations }: StageProgram, chunks: readonly number[]): number {
  const isOwn = (operation: Operation) => operation.op !== "step" && chunks.includes(operation.chunk ?? 0);
  const isAll = operations.every((operation) => operation.op === "step" || isOwn(operation));
  const own = isAll ? operations : operations.filter(isOwn);
  const trained = new Set<number>();
  for (const operation of own) if (isBackward(operation)) trained.add(chunkOf(operation));
  let passing = 0;
  for (const other of chunks) {
    if (trained.has(other)) continue;
    passing += Math.min(
      2,
      own.filter((operation) => operation.op === "forward" && chunkOf(operation) === other).length,
    );
  }
  let inFlight = 0;
  let peak = 0;
  for (const operation of own) {
    switch (operation.op) {
      case "forward":
        if (trained.has(chunkOf(operation))) inFlight++;
        peak = Math.max(peak, inFlight);
        break;
      case "forward-backward":
        peak = Math.max(peak, inFlight + 1);
        break;
      case "backward":
      case "backward-weight":
        inFlight--;
        break;
    }
  }
  return peak + passing;
}

function chunkOf(operation: Operation): number {
  return operation.op === "step" ? 0 : (operation.chunk ?? 0);
}
