/**
 * What a stage has for one generation of its run: mail and what comes by it, collectives, and what carries out its program
 * with them. It ends with the generation: what is left over from it, a send that fails late or a tensor that nobody waits
 * for, ends here, and nothing in the next one hears of it. Unless the step under way goes on in the next one: then all of
 * this does.
 */

import { RingCollectives } from "../collectives/ring.ts";
import { Mail } from "./mail.ts";
import type { StepUnderWay } from "./step.ts";
import { Supply } from "./supply.ts";
import { type Parts, Worker } from "./worker.ts";

export class Session {
  generation: number;
  readonly mail: Mail;
  readonly supply: Supply;
  readonly collectives: RingCollectives;
  readonly worker: Worker;
  /** The last step that was begun, until it is committed. */
  under: StepUnderWay | undefined;
  /** Whether something is done that cannot go on in a further generation: a validation pass, a meeting. */
  isBound = false;
  /** Whether nothing goes on in it any more. */
  private isOver = false;
  private interruption = interruption();
  private interruptedBy: Error | undefined;

  /** @param node that the stage is on. @param parts what the stage has in all generations. */
  constructor(
    generation: number,
    node: string,
    parts: Omit<Parts, "mail" | "supply" | "collectives" | "fail">,
  ) {
    const { spec, chunks } = parts;
    const { worker } = spec.program;
    const { rank, workers } = spec.group;
    this.generation = generation;
    this.mail = new Mail({
      ...{ generation, worker, node, codec: spec.codecs.activations, keepsSent: spec.keepsSent },
      interrupt: (error) => this.interrupt(error),
    });
    this.supply = new Supply(
      this.mail.inbox,
      chunks.map(({ graphs }) => graphs.data.map(({ name }) => name)),
    );
    const exchange = this.mail.exchange(workers);
    this.collectives = new RingCollectives({
      ...{ rank, ranks: workers.length, exchange, codec: spec.codecs.gradients },
    });
    const { mail, supply, collectives } = this;
    this.worker = new Worker({
      ...{ ...parts, mail, supply, collectives },
      fail: (error) => this.fail(error),
    });
  }

  /** Rejects when what the step under way waits for will not come in this generation. It may go on in the next one. */
  get interrupted(): Promise<never> {
    return this.interruption.promise;
  }

  interrupt(error: Error): void {
    this.interruptedBy ??= error;
    this.interruption.reject(error);
  }

  /** @throws what it was interrupted with: somebody is gone, and what would be begun now would wait for them. */
  requireWhole(): void {
    if (this.interruptedBy) throw this.interruptedBy;
  }

  /** What is under way is given up. A step may go on all the same, in a further generation. */
  giveUp(error: Error): void {
    if (this.mail.keepsSent && !this.isBound) this.interrupt(error);
    else this.fail(error);
  }

  /** Whether it can go on when others are replaced: ahead of a step, with what has come for it, in it, or through with it. */
  canGoOn(step: number): boolean {
    const isAhead = this.under === undefined && !this.isOver;
    return this.mail.keepsSent && (isAhead || this.isMidway(step));
  }

  isMidway(step: number): boolean {
    return !this.isOver && this.under?.step === step && !this.under.failed;
  }

  /** Goes on in a further generation, with all that has come and was sent, and with the step that is under way. */
  advance(generation: number): void {
    this.generation = generation;
    this.interruption = interruption();
    this.interruptedBy = undefined;
    this.mail.advance(generation);
  }

  /** Ends all that is under way, and waits until nothing is. */
  async end(error: Error): Promise<void> {
    this.fail(error);
    await this.under?.settled();
    this.under = undefined;
  }

  /** Ends all that waits in it: nothing more will come. */
  fail(error: Error): void {
    this.isOver = true;
    this.interrupt(error);
    this.mail.inbox.fail(error);
    this.collectives.abandon(error);
  }
}

function interruption(): PromiseWithResolvers<never> {
  const made = Promise.withResolvers<never>();
  made.promise.catch(() => {}); // Not always is a step under way.
  return made;
}
