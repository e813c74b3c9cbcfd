/**
 * What a replica has of one worker: copies of what it held after steps. A copy comes as it is, or the replica makes it of the
 * one before, by the gradients of the steps in between. The one before stays as it was: the run may have to go back to it.
 */

import type { Engine, EngineTensor } from "../../nn/engine/engine.ts";
import { type Followed, Follower } from "../../nn/executor/follower.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { KeptCopies } from "../journal/kept.ts";
import { checksumOf } from "./checksum.ts";
import { Copies } from "./copies.ts";
import type { Holding } from "./ledger.ts";
import type { Slice } from "./pieces.ts";

export class KeptWorker {
  readonly copies: Copies<EngineTensor>;
  private readonly engine: Engine;
  /** Of which steps copies are complete. */
  private complete: KeptCopies | undefined;
  /** The copy that is coming: of which step, and how many of its bytes are here. */
  private coming: { readonly step: number; bytes: number } | undefined;
  /** What makes updates, by chunk; and while that is compiled. */
  private followers: readonly Follower[] | undefined;
  private preparing: Promise<void> | undefined;
  /** Settled when no update is under way. */
  private turn: Promise<unknown> = Promise.resolve();
  private isReleased = false;

  /** @param engine that updates are made on; copies are in its memory. */
  constructor(engine: Engine) {
    this.engine = engine;
    this.copies = new Copies((dtype, shape) => engine.allocate(dtype, shape, "host"));
  }

  /** Complete copies that are here. */
  kept(): KeptCopies | undefined {
    return this.complete;
  }

  /**
   * Adds to a copy. @param before bytes of it that came before these.
   * @returns whether those are here: else they were given up meanwhile, or there are others, and it is to be begun anew.
   */
  async put(step: number, piece: readonly Slice[], before: number): Promise<boolean> {
    await this.turn;
    if (before === 0) this.begins(step);
    if (!this.isComing(step, before)) return false;
    this.copies.write(step, piece);
    this.coming!.bytes += piece.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
    return true;
  }

  /** No more comes of what the worker held after a step. @param bytes of all that was given. @returns whether all of it is here. */
  has(holding: Holding, step: number, bytes: number): boolean {
    // Of one that holds nothing no piece has come.
    if (bytes === 0) this.copies.put(step, []);
    else if (!this.isComing(step, bytes)) return false;
    this.coming = undefined;
    this.complete = { holding, steps: [...(this.complete?.steps ?? []), step] };
    return true;
  }

  private isComing(step: number, bytes: number): boolean {
    return this.coming?.step === step && this.coming.bytes === bytes;
  }

  /** Whether updates can be made from the copy of a step on. @param recipe unless that was said before. */
  async follows(from: number, recipe: readonly Followed[] | null): Promise<boolean> {
    if (!this.complete?.steps.includes(from)) return false;
    if (recipe && !this.followers) {
      this.preparing ??= this.prepare(recipe).finally(() => {
        this.preparing = undefined;
      });
      await this.preparing;
    }
    return this.followers !== undefined;
  }

  /** Adds to the gradients that the next update goes by. */
  async putGradients(piece: readonly Slice[]): Promise<void> {
    await this.turn;
    for (const { name, at, bytes } of piece) {
      for (const { gradients } of this.followers ?? []) gradients.get(name)?.tensor.bytes.set(bytes, at);
    }
  }

  /**
   * Makes an update by the gradients that were put, on the way from the copy of one step to that of another.
   * @param step whose update it is: the first one behind `from`, or the next one.
   * @throws RangeError where the copy that it begins with is not there.
   */
  advance(from: number, to: number, step: number, squareSums: Tensor): Promise<void> {
    const made = this.turn.then(async () => {
      const isFirst = step === from + 1;
      if (isFirst) this.begins(to);
      const { coming } = this;
      const before = this.copies.memory(isFirst ? from : to);
      if (!before || !this.followers)
        throw new RangeError(`there is no copy of step ${from + 1} to go on from`);
      const after = isFirst ? this.copies.like(from, to) : before;
      for (const follower of this.followers) await follower.update(step, squareSums.f32(), before, after);
      // Unless it has been begun anew meanwhile.
      if (step === to && this.coming === coming) coming!.bytes = bytesOf(after);
    });
    this.turn = made.catch(() => {});
    return made;
  }

  /** Of the copy of a step. */
  checksum(step: number): number {
    return checksumOf(this.copies.at(step) ?? []);
  }

  /** From here on nobody goes back behind this step. @returns whether anything is left. */
  keep(step: number): boolean {
    this.copies.forgetBefore(step);
    if (this.coming && this.coming.step < step) this.coming = undefined;
    if (this.complete) {
      this.complete = { ...this.complete, steps: this.complete.steps.filter((own) => own >= step) };
    }
    return this.copies.ofSteps().length > 0 || (this.complete?.steps ?? []).length > 0;
  }

  /** Gives everything back to the engine. */
  release(): void {
    this.isReleased = true;
    for (const follower of this.followers ?? []) follower.release();
    this.followers = undefined;
    this.copies.release();
  }

  /** A copy is begun. A step that is made again is copied again. */
  private begins(step: number): void {
    this.coming = { step, bytes: 0 };
    if (!this.complete?.steps.includes(step)) return;
    this.complete = { ...this.complete, steps: this.complete.steps.filter((own) => own !== step) };
  }

  private async prepare(recipe: readonly Followed[]): Promise<void> {
    const followers: Follower[] = [];
    try {
      for (const followed of recipe) followers.push(await Follower.create(this.engine, followed));
      if (this.isReleased) throw new RangeError("copies of the worker are given up");
      this.followers = followers;
    } catch (error) {
      for (const follower of followers) follower.release();
      throw error;
    }
  }
}

function bytesOf(copy: ReadonlyMap<string, EngineTensor>): number {
  return [...copy.values()].reduce((sum, { tensor }) => sum + tensor.bytes.byteLength, 0);
}
