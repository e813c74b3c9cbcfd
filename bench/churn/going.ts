/**
 * One step of a plan in which devices are lost, simulated operation by operation from wherever it stands: what
 * `scheduler/simulate.ts` does of a step that nobody disturbs, and with each loss what the runtime does
 * (`scheduler/handover.ts`, `stage/rest.ts`). Lost micro-batches are dealt to the others of their stage, and every worker
 * goes on with what its new program has besides what it has done. What it has sent is kept and sent to whoever has the
 * micro-batch then, and gradients are added up behind.
 *
 * As the runtime does it, each goes on by itself behind the kernel that runs, a stage that has lost nobody adds up once, and
 * whoever is lost when its stage has added up is not missed. As it might do it, all come to rest before anybody goes on,
 * behind the kernels that have been asked for, and whatever had been added up is added up anew.
 *
 * For stages of one chunk whose members share micro-batches. Sums and messages do not hold each other up here.
 */

import { dealLost } from "../../actors/scheduler/dealt.ts";
import { type Plan, type PlanMember, planPrograms, workersOf } from "../../actors/scheduler/plan.ts";
import type { PlanCost } from "../../actors/scheduler/plan-cost.ts";
import { isOfMicroBatch, type MicroBatchOperation, type Operation } from "../../actors/scheduler/program.ts";
import { type ChunkCost, kernelMsOf } from "../../actors/scheduler/run-cost.ts";
import { EventQueue } from "../../actors/scheduler/simulate/queue.ts";
import { unfinished } from "../../actors/scheduler/through.ts";
import { programOfRest } from "../../actors/stage/rest.ts";
import { Messages } from "./messages.ts";
import { isReceive, isSend, type Order, withReadyFirst } from "./order.ts";

/** Whether all wait until all have come to rest. */
export type Resting = "together" | "each";

export interface GoingOptions {
  readonly resting: Resting;
  /** From the rest of all until they go on, and where nobody waits for others, from when it is known. */
  readonly toldMs: number;
  /** To add gradients up, of a stage with so many members. */
  readonly sumMs: (stage: number, members: number) => number;
  /** What is left is in this order, and not in that of new programs. */
  readonly order?: Order;
  /** Whoever waits does something else first, at most so many passes ahead; nothing when left out. */
  readonly ahead?: number;
}

/** Kernels that a stage finishes: the one that runs, one that waits behind it, and one that waits for room (`stage/kernels.ts`). */
const ASKED = 3;

interface Member {
  readonly device: string;
  readonly stage: number;
  readonly cost: ChunkCost;
  done: MicroBatchOperation[];
  operations: readonly Operation[];
  /** The operation that it comes to next, and the one before which it stops. */
  next: number;
  stop: number;
  /** When the kernel that runs ends; NaN where none does. */
  busyMs: number;
  isThrough: boolean;
  isGone: boolean;
}

export class Going {
  /** When all stages had added up; undefined before. */
  gateMs: number | undefined;
  private plan: Plan;
  /** That the step was begun by. */
  private readonly begun: Plan;
  private readonly options: GoingOptions;
  private readonly members: readonly Member[];
  private readonly places: ReadonlyMap<string, number>;
  private readonly messages: Messages;
  private readonly queue: EventQueue;
  /** Those that are known to be gone since the plan was dealt, and when that comes to be known of others. */
  private readonly lost = new Set<string>();
  private readonly unknown = new Map<string, number>();
  /** Those that are gone and were through, with all that they had of the step, and when they left. */
  private readonly through = new Map<string, number>();
  private isBegun = false;
  private isResting = false;
  /** Not before then do they go on. */
  private toldMs = 0;
  /** By stage: members that are through, and when they have added up; NaN before they do. */
  private readonly ready: number[];
  private readonly summedMs: number[];

  constructor(plan: Plan, { programs, run }: Pick<PlanCost, "programs" | "run">, options: GoingOptions) {
    this.plan = plan;
    this.begun = plan;
    this.options = options;
    const workers = workersOf(plan);
    this.members = workers.map(({ member, stage, worker }): Member => {
      const program = programs[worker]!;
      const { operations } = program;
      const cost = run.chunks[worker]![0]!;
      const { device } = member;
      return {
        ...{ device, stage: stage.stage, cost, operations, done: [], next: 0 },
        ...{ stop: operations.length, busyMs: Number.NaN, isThrough: false, isGone: false },
      };
    });
    this.places = new Map(workers.map(({ member, worker }) => [member.device, worker]));
    this.queue = new EventQueue(2 * workers.length);
    this.messages = new Messages(run, plan.stages.length, plan.microBatches);
    for (const { member, stage, worker } of workers) this.own(member, stage.stage, worker, 0);
    this.ready = plan.stages.map(() => 0);
    this.summedMs = plan.stages.map(() => Number.NaN);
  }

  /** Goes on until then, or until all has been added up. */
  runTo(untilMs: number): void {
    const { queue } = this;
    if (!this.isBegun) this.begin();
    while (this.gateMs === undefined && queue.size > 0 && queue.firstMs <= untilMs) {
      const now = queue.firstMs;
      const code = queue.firstCode;
      queue.pop();
      this.happen(code, now);
    }
    if (this.gateMs === undefined && queue.size === 0) throw new Error("a step comes to no end");
  }

  private begin(): void {
    this.isBegun = true;
    if (this.lost.size > 0) this.goOn(0);
    else for (const place of this.members.keys()) this.advance(place, 0);
  }

  /**
   * A device is gone that the others of its stage can do without, at the time up to which this has gone on. Of one that is
   * missing in the beginning that is known then.
   * @param knownMs when the others know.
   */
  lose(device: string, leftMs: number, knownMs: number): void {
    const place = this.places.get(device)!;
    const member = this.members[place]!;
    member.isGone = true;
    if (!this.isBegun) {
      this.lost.add(device);
      return;
    }
    if (this.options.resting === "each" && this.summedMs[member.stage]! <= leftMs) {
      this.through.set(device, leftMs);
      return;
    }
    this.gateMs = undefined;
    this.messages.lose(place, leftMs);
    // A sum that lacks one does not come to its end, and the step is not committed without it.
    this.summedMs[member.stage] = Number.NaN;
    this.unknown.set(device, knownMs);
    this.queue.push(knownMs, this.members.length + this.plan.stages.length);
  }

  /** Codes are members, then stages, then that something is known or all may go on. */
  private happen(code: number, now: number): void {
    const count = this.members.length;
    if (code < count) this.wake(code, now);
    else if (code < count + this.plan.stages.length) this.added(code - count, now);
    else this.know(now);
  }

  private wake(place: number, now: number): void {
    const member = this.members[place]!;
    if (member.isGone || member.busyMs > now) return;
    member.busyMs = Number.NaN;
    this.advance(place, now);
  }

  /** Goes on through a member's operations until it has to wait. */
  private advance(place: number, now: number): void {
    const member = this.members[place]!;
    const { stage } = member;
    while (member.next < member.stop) {
      const operation = this.nextOf(member, now);
      if (!isOfMicroBatch(operation)) {
        this.passThrough(member, now);
        return;
      }
      if (isReceive(operation)) {
        if (this.messages.arrivalMs(operation, stage) > now) return;
        member.next++;
      } else if (isSend(operation)) {
        member.next++;
        const { receiver, arrivalMs } = this.messages.send(operation, stage, place, member.cost, now);
        this.queue.push(arrivalMs, receiver);
      } else {
        member.next++;
        member.busyMs = now + kernelMsOf(operation.op, member.cost)!;
        this.queue.push(member.busyMs, place);
        return;
      }
    }
    if (this.isResting) this.goOn(now);
  }

  /** What a member comes to next. */
  private nextOf(member: Member, now: number): Operation {
    const { next, stage } = member;
    const isThere = (receive: MicroBatchOperation) => this.messages.arrivalMs(receive, stage) <= now;
    const { ahead = 0 } = this.options;
    const first = member.operations[next]!;
    if (ahead > 0 && isOfMicroBatch(first) && isReceive(first) && !isThere(first)) {
      member.operations = withReadyFirst(member.operations, next, ahead, isThere) ?? member.operations;
    }
    return member.operations[next]!;
  }

  /** A member has all its gradients. */
  private passThrough(member: Member, now: number): void {
    if (member.isThrough) return;
    member.isThrough = true;
    const { stage } = member;
    const { length } = this.plan.stages[stage]!.members;
    if (++this.ready[stage]! < length) return;
    this.summedMs[stage] = now + this.options.sumMs(stage, length);
    this.queue.push(this.summedMs[stage]!, this.members.length + stage);
  }

  private added(stage: number, now: number): void {
    if (this.summedMs[stage] !== now) return;
    if (this.summedMs.every((ms) => ms <= now)) this.gateMs = now;
  }

  private know(now: number): void {
    let isNew = false;
    for (const [device, knownMs] of this.unknown) {
      if (knownMs > now) continue;
      this.unknown.delete(device);
      this.lost.add(device);
      isNew = true;
    }
    if (isNew) {
      this.toldMs = Math.max(this.toldMs, now + this.options.toldMs);
      if (this.options.resting === "together") this.rest(now);
      else this.queue.push(this.toldMs, this.members.length + this.plan.stages.length);
    }
    this.goOn(now);
  }

  /** All are asked to come to rest; those that have been already stay so. */
  private rest(now: number): void {
    if (this.isResting) return;
    this.isResting = true;
    for (const member of this.members) {
      if (!member.isGone) member.stop = this.stopOf(member, now);
    }
    // What was being added up is called back.
    this.summedMs.fill(Number.NaN);
  }

  /** The operation that a member does not begin: it has asked for kernels ahead as far as their input is there. */
  private stopOf({ operations, next, busyMs, stage }: Member, now: number): number {
    if (Number.isNaN(busyMs)) return next;
    let asked = 1;
    for (let at = next; at < operations.length; at++) {
      const operation = operations[at]!;
      if (!isOfMicroBatch(operation)) return at;
      if (isReceive(operation) && this.messages.arrivalMs(operation, stage) > now) return at;
      if (!isReceive(operation) && !isSend(operation) && ++asked === ASKED) return at + 1;
    }
    return operations.length;
  }

  /** All go on with the plan for those that are left, once they have been told. */
  private goOn(now: number): void {
    if (this.lost.size === 0) return;
    if (this.isResting) {
      const isAtWork = ({ isGone, next, stop, busyMs }: Member) =>
        !isGone && (next < stop || !Number.isNaN(busyMs));
      if (this.members.some(isAtWork)) return;
      // The last one has come to rest just now, and that has to be told.
      this.toldMs = Math.max(this.toldMs, now + this.options.toldMs);
      this.isResting = false;
      this.queue.push(this.toldMs, this.members.length + this.plan.stages.length);
      return;
    }
    if (now < this.toldMs) return;
    const again = this.unfinished();
    const plan = dealLost(this.plan, again, { begun: this.begun, elapsedMs: now })!;
    const { order } = this.options;
    const programs = order ? null : planPrograms(plan);
    const workers = workersOf(plan);
    const short = new Set(
      this.plan.stages.flatMap(({ stage, members }) =>
        members.some(({ device }) => again.has(device)) ? [stage] : [],
      ),
    );
    this.lost.clear();
    this.plan = plan;
    for (const { worker, member, stage } of workers) {
      const place = this.places.get(member.device)!;
      const own = this.members[place]!;
      if (own.isGone) continue;
      if (programs) this.deal(own, programs[worker]!.operations);
      else if (short.has(stage.stage)) {
        this.deal(own, order!.operations(stage.stage, member.microBatches));
      }
      this.own(member, stage.stage, place, now);
    }
    for (const { stage } of plan.stages) {
      if (this.options.resting === "each" && !short.has(stage)) continue;
      this.ready[stage] = 0;
      this.summedMs[stage] = Number.NaN;
      for (const member of this.members) if (member.stage === stage) member.isThrough = false;
    }
    for (const [place, { isGone, busyMs }] of this.members.entries()) {
      if (!isGone && Number.isNaN(busyMs)) this.advance(place, now);
    }
  }

  /** Of those that are gone, whose part is to be done again. What those have sent that were through is with them no more. */
  private unfinished(): ReadonlySet<string> {
    const { through, lost } = this;
    const again = unfinished(this.plan, new Set([...lost, ...through.keys()]), new Set(through.keys()));
    for (const device of again) {
      const leftMs = through.get(device);
      if (leftMs === undefined) continue;
      through.delete(device);
      this.messages.lose(this.places.get(device)!, leftMs);
    }
    return again;
  }

  private deal(member: Member, operations: readonly Operation[]): void {
    member.done.push(...member.operations.slice(0, member.next).filter(isOfMicroBatch));
    const { stage } = member;
    const rest = programOfRest({ worker: 0, stage, positions: [stage], operations }, member.done);
    if (!rest) throw new Error(`${member.device} has done something that is another's now`);
    member.operations = rest.operations;
    member.next = 0;
    member.stop = rest.operations.length;
  }

  /** What was sent to another is sent to whoever has the micro-batch now. */
  private own({ microBatches }: PlanMember, stage: number, place: number, now: number): void {
    for (const microBatch of microBatches) {
      const sent = this.messages.own(stage, microBatch, place, now, (sender) => this.members[sender]!.cost);
      for (const arrivalMs of sent) this.queue.push(arrivalMs, place);
    }
  }
}
