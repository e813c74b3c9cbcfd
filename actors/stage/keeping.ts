/**
 * What a stage keeps of what it held after steps: copies of its own, which it goes back to, gives to others, and whoever
 * takes its place is given. And of which step that is which it holds now.
 */

import { isFlushed } from "../../nn/optim/flush.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Clock, Ref } from "../../runtime/index.ts";
import type { KeptCopies } from "../journal/kept.ts";
import { Copies } from "../recovery/copies.ts";
import { type Giving, give, giveUpdates } from "../recovery/giving.ts";
import type { Holding } from "../recovery/ledger.ts";
import { copyOf, type Replica, recalled } from "../recovery/replica.ts";
import { type Followable, mostUpdates, type Update, UpdateLog } from "../recovery/updates.ts";
import { holdingOf, type StageHoldings } from "./spec.ts";

/** A replica that makes copies by itself. */
interface Follower {
  /** The step that it has a copy of, or is being given one of. */
  step: number;
  /** Whether it has made one already that came to the same. */
  isSure: boolean;
}

type Values = Readonly<Record<string, Tensor>>;

export class Keeping {
  readonly copies = new Copies();
  /** The step that all that the stage holds is of; null in the middle of something. */
  step: number | null = null;
  /** Of a copy; nothing before somebody has asked what the stage holds. */
  bytes = 0;
  private holding: Holding | undefined;
  private followable: Followable | null = null;
  /** Steps that those who follow may be behind. */
  private most = 0;
  private readonly log = new UpdateLog();
  /** By their keys. */
  private readonly followers = new Map<string, Follower>();
  /** Of replicas that cannot follow, or come to other numbers. */
  private readonly apart = new Set<string>();
  /** The last step that was committed. */
  private committed = Number.NEGATIVE_INFINITY;
  /** How often the stage has gone back to what it held before. */
  private returns = 0;
  private readonly state: () => Promise<Values>;

  /** @param state what training changes of the stage: views. */
  constructor(state: () => Promise<Values>) {
    this.state = state;
  }

  /** @param holds what copies are of. @param followable how others make them who have the one before; null where they cannot. */
  describe(
    spec: Parameters<typeof holdingOf>[0],
    holds: Pick<StageHoldings, "changing" | "changingBytes" | "cuts">,
    followable: Followable | null,
  ): void {
    this.holding = holdingOf(spec, holds);
    this.bytes = holds.changingBytes;
    this.followable = followable;
    this.most = followable ? mostUpdates(this.bytes, followable.bytes) : 0;
  }

  /** Keeps a copy of what the stage holds now, which is how this step has left it, unless it has. */
  async keep(step: number): Promise<void> {
    if (this.step === step && this.copies.at(step)) return;
    this.copies.put(step, Object.entries(await this.state()));
    this.step = step;
  }

  /** Keeps a copy of what the last step left, unless there is one, or the stage is in the middle of something. */
  async hold(): Promise<void> {
    if (this.step !== null && !this.copies.at(this.step)) await this.keep(this.step);
  }

  /**
   * A step is about to be committed: what its update goes by is kept for those who follow, where there are any.
   * @param squareSums of the whole model.
   */
  async committing(step: number, squareSums: Tensor): Promise<void> {
    this.step = null;
    this.committed = step;
    for (const [key, follower] of this.followers) {
      if (step - follower.step > this.most) this.followers.delete(key);
    }
    if (this.followers.size > 0) await this.log.put(step, squareSums, this.followable!);
    else this.log.forgetUpTo(step);
  }

  /** The run goes back to this step: those behind it are made again. */
  forgetAfter(step: number): void {
    this.returns++;
    this.committed = Math.min(this.committed, step);
    this.copies.forgetAfter(step);
    this.log.forgetAfter(step);
    for (const [key, follower] of this.followers) if (follower.step > step) this.followers.delete(key);
  }

  /** Whether the stage holds what this step left, to which the run goes back; else it is given that. */
  isAt(step: number): boolean {
    if (this.step !== step) this.step = null;
    return this.step === step;
  }

  /** What the stage holds comes from others: nobody follows it there. */
  replaced(): void {
    this.returns++;
    this.followers.clear();
  }

  /**
   * Gives others a copy of what was kept of a step, or what they make it of.
   * @param worker what they are to know it by. @param follows whether what comes behind it is kept for them, so that they make
   *   the next copies by themselves. @returns bytes that they were given.
   */
  async give(
    worker: string,
    step: number,
    to: readonly Ref<Replica>[],
    follows: boolean,
    isOver: () => boolean,
    clock: Clock,
  ): Promise<number> {
    const holding = { ...this.holding!, worker };
    const copy = copyOf(this.copies, worker, step);
    const given = to.map((each) => {
      // Whoever follows is to have come up with the stage before it is too far ahead.
      const isPolite = () => this.committed <= step || !this.followers.has(each.key);
      return this.giveTo({ holding, step, copy, to: each, isOver, isPolite, clock }, follows);
    });
    return (await Promise.all(given)).reduce((sum, bytes) => sum + bytes, 0);
  }

  private async giveTo(giving: Giving, follows: boolean): Promise<number> {
    const { step, to } = giving;
    const { returns, followers } = this;
    try {
      const given = follows ? await this.giveUpdates(giving) : null;
      if (given !== null) return given;
      followers.delete(to.key);
      // What is committed meanwhile is kept for it.
      if (follows && this.most > 0 && !this.apart.has(to.key)) followers.set(to.key, { step, isSure: false });
      return await give(giving);
    } catch (error) {
      followers.delete(to.key);
      throw error;
    } finally {
      // Of another course of the run.
      if (returns !== this.returns) followers.delete(to.key);
      this.log.forgetUpTo(Math.min(...[...followers.values()].map((each) => each.step)));
    }
  }

  /** @returns null where the replica is to be given a copy. */
  private async giveUpdates(giving: Giving): Promise<number | null> {
    const { step, to } = giving;
    const follower = this.followers.get(to.key);
    const updates = follower && this.log.between(follower.step, step);
    if (!updates) return null;
    const { isSure, step: from } = follower;
    const recipe = isSure ? null : this.followable!.recipe;
    const checks = !isSure || updates.some(isUncommon);
    // Its gradients are forgotten when it is too far behind.
    const isBehind = () => this.followers.get(to.key) !== follower;
    const isOver = () => giving.isOver() || isBehind();
    const isPolite = () => updates.length === 1 && giving.isPolite();
    const given = await giveUpdates({ ...giving, isOver, isPolite }, { from, updates, recipe, checks }).catch(
      (error) => {
        if (giving.isOver() || !isBehind()) throw error;
        return null;
      },
    );
    if (given === null && !isSure && !isBehind()) this.apart.add(to.key);
    if (given !== null) Object.assign(follower, { step, isSure: true });
    return given;
  }

  /** Of which steps there are copies, and what they are of. */
  kept(): KeptCopies {
    return { holding: this.holding!, steps: this.copies.ofSteps() };
  }

  /** Those of `names` that there are, as kept of a step. @throws RangeError where there is no copy of it. */
  recall(worker: string, step: number, names: readonly string[]): Record<string, Tensor> {
    return recalled(this.copies, worker, step, names);
  }
}

/** Whether another graph than in most steps has its part in an update. */
function isUncommon({ step }: Update): boolean {
  return isFlushed(step);
}
