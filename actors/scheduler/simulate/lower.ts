/**
 * Programs and costs as the engine takes them: every operation a few primitive actions, everything by number, in typed
 * arrays. Made once, run as often as needed.
 *
 * A kernel is an action of so many milliseconds. Where it has collectives inside, they cut its time into equal pieces,
 * with a meeting of the stage's workers between two of them. A send to several listeners is as many actions. What a stage
 * has to add up over its members and no `reduce` of the program does is added up before the gate.
 */

import { transferMs } from "../cost.ts";
import {
  describe,
  type MicroBatchOperation,
  type Operation,
  ProgramError,
  type StageProgram,
} from "../program.ts";
import { type ChunkCost, type CollectiveCost, kernelMsOf, type RunCost } from "../run-cost.ts";
import { type Places, placesOf, type StagePlace } from "../validate/places.ts";
import { collectiveMs, hopsMs, sentIn, slowestOf } from "./collective.ts";

/** What a worker can be doing. */
export const ACTION = { kernel: 0, send: 1, receive: 2, meet: 3, reduce: 4, gate: 5 } as const;

export interface Lowered {
  readonly programs: readonly StageProgram[];
  /** By worker, and one more: where its actions begin, and its operations. */
  readonly firstAction: Int32Array;
  readonly firstOperation: Int32Array;
  /** By action: which of `ACTION`, of which operation, about which message or collective, how long a kernel takes. */
  readonly kinds: Uint8Array;
  readonly operations: Int32Array;
  readonly subjects: Int32Array;
  readonly times: Float64Array;
  /** By message: who receives it, over which line, how long it takes there, and how long it is on its way after that. */
  readonly receivers: Int32Array;
  readonly messageLinks: Int32Array;
  readonly messageMs: Float64Array;
  readonly latencies: Float64Array;
  /** By message: the interfaces it goes out by and comes in by, which are lines too, and how long it keeps them; -1 for none. */
  readonly messageUps: Int32Array;
  readonly messageDowns: Int32Array;
  readonly messageUpMs: Float64Array;
  readonly messageDownMs: Float64Array;
  /** Links of pairs, and interfaces. */
  readonly lines: number;
  readonly collectives: readonly SimulatedCollective[];
  /** Kernels at once. */
  readonly cores: number;
}

/** A collective, and over which lines it goes. */
export interface SimulatedCollective {
  readonly members: readonly number[];
  readonly lines: readonly number[];
  /** By line, how long it keeps it busy. */
  readonly busyMs: readonly number[];
  readonly ms: number;
  /** Null for sums of gradients. */
  readonly op: CollectiveCost["op"] | null;
}

/** @throws ProgramError where the programs do not fit together, RangeError where the cost has no such worker or chunk. */
export function lower(programs: readonly StageProgram[], cost: RunCost): Lowered {
  return new Lowering(programs, cost).result();
}

class Lowering {
  private readonly programs: readonly StageProgram[];
  private readonly cost: RunCost;
  private readonly places: Places;
  /** By stage: its first worker. */
  private readonly firstWorkers: readonly number[];
  /** By position: workers that a message to it may be for, of all positions before it. */
  private readonly widths: number[] = [0];
  private readonly receivers: Int32Array;
  private readonly messageLinks: Int32Array;
  private readonly messageMs: Float64Array;
  private readonly latencies: Float64Array;
  private readonly messageUps: Int32Array;
  private readonly messageDowns: Int32Array;
  private readonly messageUpMs: Float64Array;
  private readonly messageDownMs: Float64Array;
  private readonly lineNumbers = new Map<number, number>();
  private readonly collectives: SimulatedCollective[] = [];
  /** By stage: its collectives in the order in which each member comes to them, and sums by chunk. */
  private readonly meetings: readonly number[][];
  private readonly sums: readonly Map<number, number>[];
  private kinds: Uint8Array;
  private operations: Int32Array;
  private subjects: Int32Array;
  private times: Float64Array;
  /** Actions so far. */
  private count = 0;

  constructor(programs: readonly StageProgram[], cost: RunCost) {
    this.programs = programs;
    this.cost = cost;
    this.places = placesOf(programs);
    const { stages, holders, microBatches } = this.places;
    this.firstWorkers = stages.map(({ workers }) => workers[0]!.worker);
    this.meetings = stages.map(() => []);
    this.sums = stages.map(() => new Map());
    for (const { together, workers } of holders) {
      this.widths.push(this.widths.at(-1)! + (together ? workers.length : 1));
    }
    const messages = 2 * microBatches * this.widths.at(-1)!;
    const actions = programs.reduce((sum, { operations }) => sum + operations.length + 1, 0);
    this.kinds = new Uint8Array(actions);
    this.operations = new Int32Array(actions);
    this.subjects = new Int32Array(actions);
    this.times = new Float64Array(actions);
    this.receivers = new Int32Array(messages).fill(-1);
    this.messageLinks = new Int32Array(messages);
    this.messageMs = new Float64Array(messages);
    this.latencies = new Float64Array(messages);
    const interfaced = cost.interfaces ? messages : 0;
    this.messageUps = new Int32Array(interfaced).fill(-1);
    this.messageDowns = new Int32Array(interfaced).fill(-1);
    this.messageUpMs = new Float64Array(interfaced);
    this.messageDownMs = new Float64Array(interfaced);
  }

  result(): Lowered {
    const { programs, places } = this;
    for (const { worker, stage, positions, operations } of programs) {
      const { together } = places.stages[stage]!;
      const rank = together ? worker - this.firstWorkers[stage]! : 0;
      for (const operation of operations) {
        if (operation.op !== "receive-activation" && operation.op !== "receive-gradient") continue;
        const position = positions[operation.chunk ?? 0]!;
        this.receivers[this.message(operation, position) + rank] = worker;
      }
    }
    const firstAction = new Int32Array(programs.length + 1);
    const firstOperation = new Int32Array(programs.length + 1);
    programs.forEach((program, worker) => {
      this.program(program);
      firstAction[worker + 1] = this.count;
      firstOperation[worker + 1] = firstOperation[worker]! + program.operations.length;
    });
    const { receivers, messageLinks, messageMs, latencies, collectives, cost } = this;
    const { messageUps, messageDowns, messageUpMs, messageDownMs } = this;
    return {
      ...{ programs, firstAction, firstOperation, receivers, messageLinks, messageMs, latencies },
      collectives,
      ...{ messageUps, messageDowns, messageUpMs, messageDownMs },
      kinds: this.kinds.subarray(0, this.count),
      operations: this.operations.subarray(0, this.count),
      subjects: this.subjects.subarray(0, this.count),
      times: this.times.subarray(0, this.count),
      lines: this.lineNumbers.size,
      cores: cost.cores ?? programs.length,
    };
  }

  private program(program: StageProgram): void {
    const stage = this.places.stages[program.stage]!;
    const costs = program.positions.map((_, chunk) => chunkCost(this.cost, program.worker, chunk));
    const updated = program.operations.some(({ op }) => op === "update");
    let met = 0;
    const kernel = (index: number, ms: number, collectives: readonly CollectiveCost[] = []) => {
      const inside = stage.together ? collectives : [];
      const piece = ms / (inside.length + 1);
      for (const collective of inside) {
        this.action(ACTION.kernel, index, 0, piece);
        this.action(ACTION.meet, index, this.meeting(stage, met++, collective));
      }
      this.action(ACTION.kernel, index, 0, piece);
    };
    const summed = new Set<number>();
    for (const [index, operation] of program.operations.entries()) {
      const chunk = operation.op === "step" ? 0 : (operation.chunk ?? 0);
      const own = chunkCost(this.cost, program.worker, chunk);
      const { forwardMs, backwardMs, forwardCollectives, backwardCollectives } = own;
      switch (operation.op) {
        case "forward":
          kernel(index, forwardMs, forwardCollectives);
          break;
        case "backward":
          kernel(index, backwardMs, backwardCollectives);
          break;
        case "forward-backward":
          if (stage.together) kernel(index, forwardMs, forwardCollectives);
          kernel(index, stage.together ? backwardMs : forwardMs + backwardMs, backwardCollectives);
          break;
        case "backward-input":
          kernel(index, kernelMsOf(operation.op, own)!, backwardCollectives);
          break;
        case "backward-weight":
          kernel(index, kernelMsOf(operation.op, own)!);
          break;
        case "update":
          kernel(index, own.stepMs);
          break;
        case "reduce":
          summed.add(chunk);
          this.action(ACTION.reduce, index, this.sum(stage, chunk));
          break;
        case "step":
          for (const other of costs.keys()) {
            if (!summed.has(other) && this.isSummed(stage, other)) {
              this.action(ACTION.reduce, index, this.sum(stage, other));
            }
          }
          this.action(ACTION.gate, index, 0);
          kernel(index, updated ? 0 : costs.reduce((ms, { stepMs }) => ms + stepMs, 0));
          break;
        case "receive-activation":
        case "receive-gradient": {
          const rank = stage.together ? program.worker - this.firstWorkers[program.stage]! : 0;
          this.action(ACTION.receive, index, this.message(operation, program.positions[chunk]!) + rank);
          break;
        }
        default:
          this.send(program, operation, index, own);
      }
    }
  }

  private send(program: StageProgram, operation: MicroBatchOperation, index: number, own: ChunkCost): void {
    const position = program.positions[operation.chunk ?? 0]!;
    const down = operation.op === "send-activation";
    const target = down ? position + 1 : position - 1;
    const holder = this.places.holders[target];
    const first = this.message(operation, target);
    for (let rank = 0; rank < (holder?.together ? holder.workers.length : 1); rank++) {
      const message = first + rank;
      const receiver = holder ? this.receivers[message]! : -1;
      if (receiver < 0)
        throw fault(program, operation, "is for nobody: who takes the micro-batch there does not receive it");
      const link = this.cost.link(program.worker, receiver);
      const { outputBytes } = down ? own : chunkCost(this.cost, receiver, holder!.positions.indexOf(target));
      this.messageLinks[message] = this.linkNumber(program.worker, receiver);
      const ends = this.between(program.worker, receiver);
      if (ends) {
        this.messageUps[message] = ends.up;
        this.messageDowns[message] = ends.down;
        this.messageUpMs[message] = outputBytes / ends.upBytesPerMs;
        this.messageDownMs[message] = outputBytes / ends.downBytesPerMs;
      }
      this.messageMs[message] = transferMs(outputBytes, link);
      this.latencies[message] = link.latencyMs;
      this.action(ACTION.send, index, message);
    }
  }

  /** The number of what comes to a position, and the first of them where several listen. */
  private message({ op, microBatch }: MicroBatchOperation, position: number): number {
    const { microBatches } = this.places;
    const width = this.widths[position + 1]! - this.widths[position]!;
    const direction = op.endsWith("gradient") ? microBatches * this.widths.at(-1)! : 0;
    return direction + microBatches * this.widths[position]! + microBatch * width;
  }

  /** The collective that a member comes to as its `at`th. */
  private meeting(stage: StagePlace, at: number, { op, bytes }: CollectiveCost): number {
    const own = this.meetings[stage.stage]!;
    own[at] ??= this.collective(stage, op, op, bytes);
    return own[at];
  }

  /** Whether there is anything to add up over the members, whoever does it. */
  private isSummed(stage: StagePlace, chunk: number): boolean {
    const trained = stage.positions[chunk]! >= this.places.bottom;
    return trained && stage.workers.length > 1 && this.gradientBytes(stage, chunk) > 0;
  }

  private gradientBytes({ workers }: StagePlace, chunk: number): number {
    return Math.max(...workers.map(({ worker }) => chunkCost(this.cost, worker, chunk).gradientBytes));
  }

  private sum(stage: StagePlace, chunk: number): number {
    const own = this.sums[stage.stage]!;
    const known = own.get(chunk);
    if (known !== undefined) return known;
    const { sumEvery = 1 } = chunkCost(this.cost, stage.workers[0]!.worker, chunk);
    const bytes = this.gradientBytes(stage, chunk);
    const sum = this.collective(stage, null, "all-reduce", bytes, 1 / sumEvery);
    own.set(chunk, sum);
    return sum;
  }

  /** @param name null for sums of gradients. @param part of it that a step has. */
  private collective(
    { workers }: StagePlace,
    name: SimulatedCollective["op"],
    op: CollectiveCost["op"],
    bytes: number,
    part = 1,
  ): number {
    const members = workers.map(({ worker }) => worker);
    const isEncoded = name === null && this.cost.encodesSums === true;
    const work = { op, bytes, ranks: members.length, isEncoded };
    const link = (from: number, to: number) => this.cost.link(members[from]!, members[to]!);
    const busy = new Map<number, number>();
    const spend = (line: number, ms: number) => busy.set(line, (busy.get(line) ?? 0) + ms);
    const shared = new Set<number>();
    const sent = sentIn(work);
    for (const each of sent) {
      const [from, to] = [members[each.from]!, members[each.to]!];
      spend(this.linkNumber(from, to), transferMs(each.bytes, link(each.from, each.to)));
      const ends = this.between(from, to);
      if (!ends) continue;
      spend(ends.up, each.bytes / ends.upBytesPerMs);
      spend(ends.down, each.bytes / ends.downBytesPerMs);
      shared.add(ends.up).add(ends.down);
    }
    // Members of one machine share its interface.
    const crowdedMs = Math.max(0, ...[...shared].map((line) => busy.get(line)!));
    const slowest = slowestOf(sent.map(({ from, to }) => link(from, to)));
    const ms = Math.max(collectiveMs(work, link), crowdedMs + hopsMs(work, slowest)) * part;
    const [lines, busyMs] = [[...busy.keys()], [...busy.values()].map((each) => each * part)];
    this.collectives.push({ members, lines, busyMs, ms, op: name });
    return this.collectives.length - 1;
  }

  /** The line of a pair of workers. */
  private linkNumber(from: number, to: number): number {
    return this.line(from * this.programs.length + to);
  }

  /** What lies between two workers of different machines besides their link. */
  private between(from: number, to: number) {
    const { interfaces } = this.cost;
    if (!interfaces) return null;
    const [sender, receiver] = [interfaces[from]!, interfaces[to]!];
    if (sender.machine === receiver.machine) return null;
    const { upBytesPerMs } = sender;
    const { downBytesPerMs } = receiver;
    const [up, down] = [this.line(-1 - 2 * sender.machine), this.line(-2 - 2 * receiver.machine)];
    return { up, down, upBytesPerMs, downBytesPerMs };
  }

  private line(key: number): number {
    let number = this.lineNumbers.get(key);
    if (number === undefined) {
      number = this.lineNumbers.size;
      this.lineNumbers.set(key, number);
    }
    return number;
  }

  private action(kind: number, operation: number, subject: number, ms = 0): void {
    const at = this.count++;
    if (at === this.kinds.length) this.grow();
    this.kinds[at] = kind;
    this.operations[at] = operation;
    this.subjects[at] = subject;
    this.times[at] = ms;
  }

  /** Collectives and listeners make more actions than there are operations. */
  private grow(): void {
    const longer = 2 * this.kinds.length;
    const { kinds, operations, subjects, times } = this;
    this.kinds = new Uint8Array(longer);
    this.kinds.set(kinds);
    this.operations = new Int32Array(longer);
    this.operations.set(operations);
    this.subjects = new Int32Array(longer);
    this.subjects.set(subjects);
    this.times = new Float64Array(longer);
    this.times.set(times);
  }
}

function chunkCost(cost: RunCost, worker: number, chunk: number): ChunkCost {
  const found = cost.chunks[worker]?.[chunk];
  if (!found) throw new RangeError(`the cost model has no chunk ${chunk} of worker ${worker}`);
  return found;
}

function fault(program: StageProgram, operation: Operation, what: string): ProgramError {
  return new ProgramError(
    `worker ${program.worker} of stage ${program.stage}: "${describe(operation)}" ${what}`,
  );
}
