/**
 * What a stage has for one generation of its run: mail and what comes by it, collectives, and what carries out its program
 * with them. It ends with the generation: what is left over from it, a send that fails late or a tensor that nobody waits
 * for, ends here, and nothing in the next one hears of it. Unless the step under way goes on in the next one: then all of
 * this does.
 */

import { gradientName } from "../../nn/training.ts";
import { GroupCollectives } from "../collectives/group.ts";
import type { CalledBack, Slip } from "../inbox.ts";
import { microBatchesOf } from "../scheduler/program.ts";
import { Mail } from "./mail.ts";
import { type Rest, restOfStep } from "./rest.ts";
import type { Slots } from "./slots.ts";
import { isUnanswered, type StageSpec, type StepReport } from "./spec.ts";
import { type Stepping, StepUnderWay } from "./step.ts";
import { Supply } from "./supply.ts";
import { type Validating, validate } from "./validation.ts";
import { type Parts, Worker } from "./worker.ts";

/** What the stage has in all generations. */
type Given = Omit<Parts, "mail" | "supply" | "collectives" | "fail">;

export class Session {
  generation: number;
  readonly mail: Mail;
  readonly supply: Supply;
  collectives!: GroupCollectives;
  worker!: Worker;
  /** The last step that was begun, until it is committed. */
  under: StepUnderWay | undefined;
  /** Where micro-batches were dealt anew in its middle, what was left of it. */
  rest: Rest | undefined;
  /** Whether something is done that cannot go on in a further generation: a validation pass, a meeting. */
  isBound = false;
  /** Whether nothing goes on in it any more. */
  isOver = false;
  /** Whether what had come for it in the generation before was given up: it goes on with nothing until all others have. */
  hasGivenUp = false;
  private interruption = interruption();
  private interruptedBy: Error | undefined;
  private readonly parts: Given;

  /** @param node that the stage is on. */
  constructor(generation: number, node: string, parts: Given) {
    const { spec, chunks } = parts;
    this.generation = generation;
    this.mail = new Mail({
      ...{ generation, node, codec: spec.codecs.activations, keepsSent: spec.keepsSent },
      interrupt: (error) => this.interrupt(error),
    });
    this.supply = new Supply(
      this.mail.inbox,
      chunks.map(({ graphs }) => graphs.data.map(({ name }) => name)),
    );
    this.parts = parts;
    this.equip(spec);
  }

  /** Those who share its work, and what carries out its program with them. */
  private equip(spec: StageSpec): void {
    const { rank, workers } = spec.group;
    const exchange = this.mail.exchange(rank, workers);
    this.collectives = new GroupCollectives({
      ...{ rank, ranks: workers.length, exchange, codec: spec.codecs.gradients },
    });
    this.employ(spec);
  }

  private employ(spec: StageSpec): void {
    const { parts, mail, supply, collectives } = this;
    const fail = (error: Error) => this.fail(error);
    this.worker = new Worker({ ...parts, spec, mail, supply, collectives, fail });
  }

  /** What waits in it comes to rest, and is gone on with once it is told of another dealing. */
  callBack(error: CalledBack): void {
    this.mail.inbox.callBack(error);
    this.collectives.abandon(error);
  }

  /**
   * Goes on with a step with other micro-batches, other members or other neighbours, from where it comes to rest.
   * @param before what the stage was told, and then what it is told.
   * @returns what is left of the step; null where it cannot go on.
   */
  async dealAnew(step: number, before: StageSpec, spec: StageSpec): Promise<Rest | null> {
    const { under, rest } = this;
    const left = await restOfStep({ step, before, spec, chunks: this.parts.chunks, under, rest });
    if (!left) return null;
    this.under = undefined;
    this.rest = left;
    this.mail.dealAnew(step, microBatchesOf(spec.program), receiversOf(spec));
    this.equip(spec);
    return left;
  }

  /** Goes on as it is, without coming to rest: others alone have other numbers and micro-batches (`isSameWork`). */
  readdress(step: number, spec: StageSpec): Rest | undefined {
    this.mail.readdress(step, spec.group.workers, receiversOf(spec));
    this.employ(spec);
    return this.rest;
  }

  /**
   * What comes of the step under way. Rejects when what it waits for will not come in this generation; it may go on in the next.
   * Where others go on without one that is through with it, and where nothing comes back for what it sends, not before all of
   * that has arrived: nobody else would know that it has not.
   */
  reported(): Promise<StepReport> {
    const { keepsSummands, program } = this.parts.spec;
    const { report } = this.under!;
    if (!this.mail.keepsSent) return report;
    const waits = keepsSummands || isUnanswered(program);
    const through = waits ? report.then((said) => this.mail.delivered().then(() => said)) : report;
    return Promise.race([through, this.interrupted]);
  }

  /** Rejects when what the step under way waits for will not come in this generation. It may go on in the next one. */
  private get interrupted(): Promise<never> {
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
    return this.mail.keepsSent && !this.hasGivenUp && (isAhead || this.isMidway(step));
  }

  isMidway(step: number): boolean {
    return !this.isOver && this.under?.step === step && !this.under.failed;
  }

  /**
   * Goes on in a further generation behind `step`, with all that has come and was sent, and with the step that is under way.
   * @param point the step that somebody else may have to go back to: what was sent since is kept.
   * @returns whether it can; nothing has changed otherwise.
   */
  carryOn(generation: number, step: number, point: number): boolean {
    if (!this.canGoOn(step + 1) || (point < step && !this.mail.keepsSince(point + 1))) return false;
    this.generation = generation;
    this.interruption = interruption();
    this.interruptedBy = undefined;
    this.mail.advance(generation);
    this.mail.forgetBefore(point + 1);
    return true;
  }

  /**
   * Begins a step, or goes on with what is left of it.
   * @param slots that its program has micro-batches in. @param isDirty whether gradients of a step that failed are left.
   * @param most bytes of what was sent in the steps before it that are kept.
   */
  async begin(
    step: number,
    stepping: Omit<Stepping, "session" | "clock">,
    slots: Slots,
    isDirty: boolean,
    most: number,
  ): Promise<void> {
    const { rest } = this;
    const { chunks } = stepping;
    if (!rest?.run) {
      this.mail.begin(step, most);
      if (isDirty) for (const { executor } of chunks) await executor.clearGradients();
    }
    for (const chunk of chunks) chunk.begin(rest?.slots ?? slots);
    const { clock } = this.parts;
    this.under = new StepUnderWay({ ...stepping, session: this, clock }, step, rest);
  }

  /** The step is about to be committed: nobody goes back to its middle. @param meets whether members meet in it. */
  committing(meets: boolean): void {
    this.under = undefined;
    this.rest = undefined;
    this.mail.end();
    this.isBound = meets;
  }

  /** A validation pass, see `validate`. */
  async validate(
    validating: Omit<Validating, "mail" | "supply" | "clearing" | "over">,
    pass: number,
    count: number,
  ): Promise<number[]> {
    const { mail, supply } = this;
    this.requireWhole();
    this.isBound = true;
    try {
      const { clearing } = this.parts;
      return await validate({ ...validating, mail, supply, clearing, over: this.interrupted }, pass, count);
    } finally {
      this.isBound = false;
    }
  }

  /** Ends all that is under way, and waits until nothing is. */
  async end(error: Error): Promise<void> {
    this.fail(error);
    await this.under?.settled();
    this.under = undefined;
    this.rest = undefined;
  }

  /** Ends all that waits in it: nothing more will come. */
  fail(error: Error): void {
    this.isOver = true;
    this.interrupt(error);
    this.mail.inbox.fail(error);
    this.collectives.abandon(error);
  }
}

/** Who is to have what a stage sends in passes. */
function receiversOf({ chunks }: StageSpec): (slip: Pick<Slip, "value" | "microBatch">) => readonly number[] {
  return ({ value, microBatch }) => {
    const forward = chunks.find(({ output }) => output === value);
    if (forward) return forward.next[microBatch] ?? [];
    const backward = chunks.find(({ input }) => input !== null && gradientName(input) === value);
    return backward?.previous[microBatch] ?? [];
  };
}

function interruption(): PromiseWithResolvers<never> {
  const made = Promise.withResolvers<never>();
  made.promise.catch(() => {}); // Not always is a step under way.
  return made;
}
