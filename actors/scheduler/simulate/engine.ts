/**
 * The event engine: when every action of a step happens. One queue of events by time; whoever an event frees goes on
 * through its actions until it has to wait again.
 *
 * Rules. A worker's actions happen in their order, kernels one at a time. A message takes its lines (the link, and the
 * interfaces at its ends) as soon as they have done with those that were ready before it, and arrives its latency later. A
 * collective starts when all its members have come. Members of a meeting wait for its end; it takes its lines as a message
 * does. Members of a sum go on. Sums on the same lines follow each other, but messages and meetings do not wait for them: what
 * both have to send goes in pieces in turn, each at half the rate for as long, so a sum ends so much later. The gate opens
 * when all workers are there and their sums are done. With fewer cores than workers kernels wait for one: who has been ready longest goes first,
 * the lower worker at a tie. What happens at one time happens before anything is started then, so the result does not
 * depend on the order of things.
 */

import { describe, ProgramError } from "../program.ts";
import { ACTION, type Lowered } from "./lower.ts";
import { EventQueue } from "./queue.ts";

export interface Outcome {
  /** By operation, worker after worker: when it began and ended. */
  readonly startMs: Float64Array;
  readonly endMs: Float64Array;
  /** By collective. */
  readonly collectiveStartMs: Float64Array;
  readonly collectiveEndMs: Float64Array;
  /** By worker: time in kernels. */
  readonly busyMs: Float64Array;
  /** When the commit gate opened. */
  readonly gateMs: number;
  readonly makespanMs: number;
  /** Actions that were carried out. */
  readonly events: number;
}

/** Runs one step. @throws ProgramError naming who waits forever. */
export function execute(lowered: Lowered): Outcome {
  return new Execution(lowered).run();
}

/** A message that has not been sent. */
const NOT_SENT = Number.POSITIVE_INFINITY;

class Execution {
  private readonly lowered: Lowered;
  private readonly workers: number;
  private readonly queue: EventQueue;
  /** Kernels that wait for a core, by when they became ready. */
  private readonly ready: EventQueue;
  private free: number;
  private readonly limited: boolean;
  private readonly next: Int32Array;
  /** By worker: 1 while a kernel of it runs, or waits for a core. */
  private readonly running: Uint8Array;
  private readonly arrivals: Float64Array;
  /** By message: 1 when its receiver waits for it. */
  private readonly awaited: Uint8Array;
  /** By line, when it will have done with what has been sent. */
  private readonly lineFreeMs: Float64Array;
  /** By line, the sum that goes over it; -1 for none. */
  private readonly sumOn: Int32Array;
  /** Sums that are under way, and those that wait for one. */
  private sums = 0;
  private waiting: number[] = [];
  private readonly came: Int32Array;
  /** By worker: sums that are under way. */
  private readonly summing: Int32Array;
  private readonly atGate: Uint8Array;
  private gathered = 0;
  private readonly startMs: Float64Array;
  private readonly endMs: Float64Array;
  private readonly collectiveStartMs: Float64Array;
  private readonly collectiveEndMs: Float64Array;
  private readonly busyMs: Float64Array;
  private gateMs = Number.NaN;
  private makespanMs = 0;
  private events = 0;

  constructor(lowered: Lowered) {
    const { programs, firstOperation, receivers, lines, collectives, cores } = lowered;
    this.lowered = lowered;
    this.workers = programs.length;
    this.limited = cores < programs.length;
    this.free = cores;
    this.queue = new EventQueue(2 * programs.length);
    this.ready = new EventQueue(this.limited ? programs.length : 1);
    this.next = lowered.firstAction.slice(0, programs.length);
    this.running = new Uint8Array(programs.length);
    this.arrivals = new Float64Array(receivers.length).fill(NOT_SENT);
    this.awaited = new Uint8Array(receivers.length);
    this.lineFreeMs = new Float64Array(lines);
    this.sumOn = new Int32Array(lines).fill(-1);
    this.came = new Int32Array(collectives.length);
    this.summing = new Int32Array(programs.length);
    this.atGate = new Uint8Array(programs.length);
    this.startMs = new Float64Array(firstOperation.at(-1)!).fill(Number.NaN);
    this.endMs = new Float64Array(this.startMs.length).fill(Number.NaN);
    this.collectiveStartMs = new Float64Array(collectives.length);
    this.collectiveEndMs = new Float64Array(collectives.length);
    this.busyMs = new Float64Array(programs.length);
  }

  run(): Outcome {
    const { queue, ready, workers } = this;
    for (let worker = 0; worker < workers; worker++) this.advance(worker, 0);
    this.dispatch(0);
    while (queue.size > 0) {
      const now = queue.firstMs;
      do {
        const code = queue.firstCode;
        queue.pop();
        if (code < workers) this.wake(code, now);
        else this.endCollective(code - workers, now);
      } while (queue.size > 0 && queue.firstMs === now);
      if (ready.size > 0) this.dispatch(now);
    }
    this.requireFinished();
    const { startMs, endMs, collectiveStartMs, collectiveEndMs, busyMs, gateMs, makespanMs, events } = this;
    return { startMs, endMs, collectiveStartMs, collectiveEndMs, busyMs, gateMs, makespanMs, events };
  }

  /** A kernel of the worker has ended, or what it waited for is there. */
  private wake(worker: number, now: number): void {
    if (this.running[worker] === 1) {
      this.running[worker] = 0;
      if (this.limited) this.free++;
      this.complete(worker, now);
      if (now > this.makespanMs) this.makespanMs = now;
    }
    this.advance(worker, now);
  }

  /** The worker's action is done. */
  private complete(worker: number, now: number): void {
    const { firstOperation, operations } = this.lowered;
    const action = this.next[worker]!;
    this.endMs[firstOperation[worker]! + operations[action]!] = now;
    this.next[worker] = action + 1;
    this.events++;
  }

  /** Goes on through the worker's actions until it has to wait. */
  private advance(worker: number, now: number): void {
    const { kinds, subjects, operations, firstAction, firstOperation } = this.lowered;
    const end = firstAction[worker + 1]!;
    const base = firstOperation[worker]!;
    for (let action = this.next[worker]!; action < end; action = this.next[worker]!) {
      const place = base + operations[action]!;
      const subject = subjects[action]!;
      switch (kinds[action]) {
        case ACTION.kernel:
          this.running[worker] = 1;
          if (this.limited) this.ready.push(now, worker);
          else this.start(worker, now);
          return;
        case ACTION.send:
          this.send(subject, place, now);
          this.next[worker] = action + 1;
          this.events++;
          break;
        case ACTION.receive: {
          if (Number.isNaN(this.startMs[place]!)) this.startMs[place] = now;
          const arrival = this.arrivals[subject]!;
          if (arrival > now) {
            this.awaited[subject] = 1;
            if (arrival !== NOT_SENT) this.queue.push(arrival, worker);
            return;
          }
          this.complete(worker, now);
          break;
        }
        case ACTION.meet:
          this.join(subject, now);
          return;
        case ACTION.reduce:
          this.summing[worker]!++;
          this.next[worker] = action + 1;
          this.events++;
          this.join(subject, now);
          break;
        default:
          this.atGate[worker] = 1;
          if (this.summing[worker] === 0) this.gather(now);
          return;
      }
    }
  }

  /** Starts the worker's kernel. */
  private start(worker: number, now: number): void {
    const { operations, firstOperation, times } = this.lowered;
    const action = this.next[worker]!;
    const place = firstOperation[worker]! + operations[action]!;
    if (Number.isNaN(this.startMs[place]!)) this.startMs[place] = now;
    const end = now + times[action]!;
    this.busyMs[worker]! += end - now;
    this.queue.push(end, worker);
  }

  /** Gives cores to kernels that wait for one. */
  private dispatch(now: number): void {
    while (this.free > 0 && this.ready.size > 0) {
      const worker = this.ready.firstCode;
      this.ready.pop();
      this.free--;
      this.start(worker, now);
    }
  }

  private send(message: number, place: number, now: number): void {
    const { messageLinks, messageMs, messageUps, messageDowns, latencies, receivers } = this.lowered;
    const { lineFreeMs } = this;
    const link = messageLinks[message]!;
    const up = messageUps[message] ?? -1;
    const down = messageDowns[message] ?? -1;
    const ms = messageMs[message]!;
    let start = Math.max(now, lineFreeMs[link]!);
    if (up >= 0) start = Math.max(start, lineFreeMs[up]!, lineFreeMs[down]!);
    const besideMs = this.sums === 0 ? 0 : this.beside(up < 0 ? [link] : [link, up, down], start, ms);
    const end = start + ms + besideMs;
    lineFreeMs[link] = end;
    if (up >= 0) {
      const slower = besideMs === 0 ? 1 : 1 + besideMs / ms;
      const { messageUpMs, messageDownMs } = this.lowered;
      lineFreeMs[up] = Math.max(now, lineFreeMs[up]!) + messageUpMs[message]! * slower;
      lineFreeMs[down] = Math.max(now, lineFreeMs[down]!) + messageDownMs[message]! * slower;
    }
    // To several listeners: from the first that begins to the last that ends.
    const isFirst = Number.isNaN(this.startMs[place]!);
    this.startMs[place] = isFirst ? start : Math.min(start, this.startMs[place]!);
    this.endMs[place] = isFirst ? end : Math.max(end, this.endMs[place]!);
    const arrival = end + latencies[message]!;
    this.arrivals[message] = arrival;
    if (this.awaited[message] === 1) this.queue.push(arrival, receivers[message]!);
  }

  /** How much longer something takes on lines that sums have too; and those as much. */
  private beside(lines: readonly number[], start: number, ms: number): number {
    let mostMs = 0;
    const met: number[] = [];
    for (const line of lines) {
      const sum = this.sumOn[line]!;
      if (sum < 0 || met.includes(sum)) continue;
      met.push(sum);
      const longer = Math.min(ms, Math.max(0, this.collectiveEndMs[sum]! - start));
      this.collectiveEndMs[sum]! += longer;
      mostMs = Math.max(mostMs, longer);
    }
    return mostMs;
  }

  /** One more member has come to a collective. */
  private join(index: number, now: number): void {
    const { members, op } = this.lowered.collectives[index]!;
    if (++this.came[index]! < members.length) return;
    if (op !== null) this.meet(index, now);
    else if (!this.startSum(index, now)) this.waiting.push(index);
  }

  private meet(index: number, now: number): void {
    const { lines, busyMs, ms } = this.lowered.collectives[index]!;
    let start = now;
    for (const line of lines) start = Math.max(start, this.lineFreeMs[line]!);
    const end = start + ms + (this.sums === 0 ? 0 : this.beside(lines, start, ms));
    lines.forEach((line, i) => {
      this.lineFreeMs[line] = Math.max(this.lineFreeMs[line]!, start) + busyMs[i]!;
    });
    this.collectiveStartMs[index] = start;
    this.collectiveEndMs[index] = end;
    this.queue.push(end, this.workers + index);
  }

  /** False while another sum has one of its lines. */
  private startSum(index: number, now: number): boolean {
    const { lines, ms } = this.lowered.collectives[index]!;
    let backlogMs = 0;
    for (const line of lines) {
      if (this.sumOn[line]! >= 0) return false;
      backlogMs = Math.max(backlogMs, this.lineFreeMs[line]! - now);
    }
    for (const line of lines) this.sumOn[line] = index;
    this.sums++;
    const end = now + ms + Math.min(ms, backlogMs);
    this.collectiveStartMs[index] = now;
    this.collectiveEndMs[index] = end;
    this.queue.push(end, this.workers + index);
    return true;
  }

  private endCollective(index: number, now: number): void {
    const { members, lines, op } = this.lowered.collectives[index]!;
    if (op !== null) {
      for (const worker of members) {
        this.complete(worker, now);
        this.advance(worker, now);
      }
      return;
    }
    const end = this.collectiveEndMs[index]!;
    if (end > now) {
      // Something else went over its lines meanwhile.
      this.queue.push(end, this.workers + index);
      return;
    }
    for (const line of lines) this.sumOn[line] = -1;
    this.sums--;
    for (const worker of members) {
      if (--this.summing[worker]! === 0 && this.atGate[worker] === 1) this.gather(now);
    }
    if (this.waiting.length > 0) this.waiting = this.waiting.filter((other) => !this.startSum(other, now));
  }

  /** One more worker is at the gate, with all its sums done. */
  private gather(now: number): void {
    if (++this.gathered < this.workers) return;
    this.gateMs = now;
    for (let worker = 0; worker < this.workers; worker++) {
      this.next[worker]!++;
      this.events++;
      this.advance(worker, now);
    }
  }

  private requireFinished(): void {
    const { programs, firstAction, operations } = this.lowered;
    for (let worker = 0; worker < this.workers; worker++) {
      const action = this.next[worker]!;
      if (action === firstAction[worker + 1]!) continue;
      if (this.atGate[worker] === 1 && this.summing[worker] === 0) continue;
      const { stage, operations: own } = programs[worker]!;
      throw new ProgramError(
        `worker ${worker} of stage ${stage}: "${describe(own[operations[action]!]!)}" waits forever: nobody does what it waits for`,
      );
    }
  }
}
