/**
 * Event-by-event simulation of programs on a cost model: when every operation of a step starts and ends.
 *
 * The rules are the stage's own. Kernels of a stage run one at a time, in the order of its program, each as soon
 * as its input is there. A send takes its stage no time: the message occupies the directed link between the two
 * stages for bytes / bandwidth, first in first out, and arrives `latencyMs` after its last byte has left. The
 * optimiser's step is behind the commit gate: nobody takes it before all stages have all their gradients.
 *
 * With `cores`, at most that many kernels run at once over all stages, for predicting several devices on one
 * machine. Waiting kernels are taken by list scheduling: the one that became ready first goes first, the lower
 * stage at a tie. That is what fair operating systems come close to, not an optimum.
 */

import { transferMs } from "./cost.ts";
import {
  isOfMicroBatch,
  type MicroBatchOperation,
  type Operation,
  positionOf,
  type StageProgram,
} from "./program.ts";
import type { ChunkCost, RunCost } from "./run-cost.ts";
import type { Span } from "./timeline.ts";
import { validatePrograms } from "./validate.ts";

export interface Simulation {
  /** In order of each worker's program, worker after worker. */
  readonly spans: readonly Span[];
  readonly makespanMs: number;
  /** By worker: time in which no kernel of it runs. */
  readonly idleMs: readonly number[];
  /** Idle share of all workers' time, 0 … 1. */
  readonly bubbleFraction: number;
}

interface StageState {
  readonly program: StageProgram;
  readonly spans: Span[];
  next: number;
  /** When the stage is done with what it has started. */
  freeMs: number;
  busyMs: number;
}

/** Runs one step. @throws ProgramError when the programs are not valid. */
export function simulate(programs: readonly StageProgram[], cost: RunCost): Simulation {
  validatePrograms(programs);
  const stages = programs.map(
    (program): StageState => ({ program, spans: [], next: 0, freeMs: 0, busyMs: 0 }),
  );
  const wires = new Wires(programs, cost);
  const cores = new Array<number>(Math.min(cost.cores ?? programs.length, programs.length)).fill(0);

  for (;;) {
    const ready = pickReady(stages, wires);
    if (!ready) break;
    const operation = ready.program.operations[ready.next]!;
    const core = cores.indexOf(Math.min(...cores));
    const startMs = Math.max(readyMs(ready, stages), cores[core]!);
    const endMs = startMs + kernelMs(ready.program, operation, cost);
    cores[core] = endMs;
    record(ready, operation, startMs, endMs);
    ready.freeMs = endMs;
    ready.busyMs += endMs - startMs;
  }

  const makespanMs = Math.max(...stages.map((stage) => stage.freeMs));
  const idleMs = stages.map((stage) => makespanMs - stage.busyMs);
  const idle = idleMs.reduce((a, b) => a + b, 0);
  return {
    spans: stages.flatMap((stage) => stage.spans),
    makespanMs,
    idleMs,
    bubbleFraction: makespanMs === 0 ? 0 : idle / (makespanMs * stages.length),
  };
}

/**
 * The stage whose next kernel became ready first, after every stage has done the sends and receives it can.
 * Whatever is not known to be ready waits for a kernel that has not run, so it cannot become ready earlier.
 */
function pickReady(stages: readonly StageState[], wires: Wires): StageState | undefined {
  // A message may let another stage go on to its own sends, so until nobody moves.
  while (stages.map((stage) => advance(stage, wires)).includes(true));
  let picked: StageState | undefined;
  for (const stage of stages) {
    const operation = stage.program.operations[stage.next];
    if (!operation || isReceive(operation)) continue;
    if (operation.op === "step" && !stages.every(atStep)) continue;
    if (!picked || readyMs(stage, stages) < readyMs(picked, stages)) picked = stage;
  }
  return picked;
}

/** Does sends and fulfilled receives up to the next kernel; whether there were any. */
function advance(stage: StageState, wires: Wires): boolean {
  const before = stage.next;
  for (;;) {
    const moved = stage.next > before;
    const operation = stage.program.operations[stage.next];
    if (!operation || !isOfMicroBatch(operation)) return moved;
    if (operation.op === "send-activation" || operation.op === "send-gradient") {
      const { startMs, endMs } = wires.send(stage.program, operation, stage.freeMs);
      record(stage, operation, startMs, endMs);
    } else if (isReceive(operation)) {
      const arrivalMs = wires.arrival(stage.program, operation);
      if (arrivalMs === undefined) return moved;
      const startMs = stage.freeMs;
      stage.freeMs = Math.max(startMs, arrivalMs);
      record(stage, operation, startMs, stage.freeMs);
    } else return moved;
  }
}

function isReceive(operation: Operation): boolean {
  return operation.op === "receive-activation" || operation.op === "receive-gradient";
}

function atStep(stage: StageState): boolean {
  return stage.next >= stage.program.operations.length - 1;
}

/** When the stage's next kernel could start if a core were free. */
function readyMs(stage: StageState, stages: readonly StageState[]): number {
  if (stage.program.operations[stage.next]!.op !== "step") return stage.freeMs;
  return Math.max(...stages.map((other) => beforeStepMs(other)));
}

/** When the stage had all its gradients; meaningful once it is at its step or past it. */
function beforeStepMs(stage: StageState): number {
  const done = stage.spans.at(-1);
  return done?.operation.op === "step" ? done.startMs : stage.freeMs;
}

function record(stage: StageState, operation: Operation, startMs: number, endMs: number): void {
  stage.spans.push({ worker: stage.program.worker, operation, startMs, endMs });
  stage.next++;
}

function kernelMs(program: StageProgram, operation: Operation, cost: RunCost): number {
  if (operation.op === "step") {
    return program.positions.reduce((sum, _, chunk) => sum + chunkCost(cost, program, chunk).stepMs, 0);
  }
  if (!isOfMicroBatch(operation)) throw new RangeError(`${operation.op} is not simulated yet`);
  const chunk = chunkCost(cost, program, operation.chunk ?? 0);
  switch (operation.op) {
    case "forward":
      return chunk.forwardMs;
    case "backward":
      return chunk.backwardMs;
    case "forward-backward":
      return chunk.forwardMs + chunk.backwardMs;
    case "backward-input":
      return chunk.backwardInputMs ?? chunk.backwardMs / 2;
    case "backward-weight":
      return chunk.backwardWeightMs ?? chunk.backwardMs / 2;
    default:
      throw new RangeError(`${operation.op} is not a kernel`);
  }
}

function chunkCost(cost: RunCost, { worker }: StageProgram, chunk: number): ChunkCost {
  const found = cost.chunks[worker]?.[chunk];
  if (!found) throw new RangeError(`the cost model has no chunk ${chunk} of worker ${worker}`);
  return found;
}

/** The messages under way and the links they occupy. */
class Wires {
  /** By position: who holds it, as which of its chunks. */
  private readonly holders: readonly { readonly program: StageProgram; readonly chunk: number }[];
  private readonly cost: RunCost;
  private readonly freeMs = new Map<string, number>();
  private readonly arrivals = new Map<string, number>();

  constructor(programs: readonly StageProgram[], cost: RunCost) {
    const holders: { program: StageProgram; chunk: number }[] = [];
    for (const program of programs) {
      program.positions.forEach((position, chunk) => {
        holders[position] = { program, chunk };
      });
    }
    this.holders = holders;
    this.cost = cost;
  }

  /** Puts a message on its link; when it occupies it. */
  send(program: StageProgram, operation: MicroBatchOperation, nowMs: number) {
    const position = positionOf(program, operation);
    const down = operation.op === "send-activation";
    const target = down ? position + 1 : position - 1;
    const receiver = this.holders[target]!;
    const from = program.worker;
    const to = receiver.program.worker;
    const link = this.cost.link(from, to);
    const bytes = down
      ? chunkCost(this.cost, program, operation.chunk ?? 0).outputBytes
      : chunkCost(this.cost, receiver.program, receiver.chunk).outputBytes;
    const startMs = Math.max(nowMs, this.freeMs.get(`${from} ${to}`) ?? 0);
    const endMs = startMs + transferMs(bytes, link);
    this.freeMs.set(`${from} ${to}`, endMs);
    this.arrivals.set(
      `${down ? "activation" : "gradient"} ${target} ${operation.microBatch}`,
      endMs + link.latencyMs,
    );
    return { startMs, endMs };
  }

  /** When a message arrives; undefined while it has not been sent. */
  arrival(program: StageProgram, operation: MicroBatchOperation): number | undefined {
    const what = operation.op === "receive-activation" ? "activation" : "gradient";
    return this.arrivals.get(`${what} ${positionOf(program, operation)} ${operation.microBatch}`);
  }
}
