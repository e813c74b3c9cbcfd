/**
 * Stages that are not ready when others are at work already: those that are given what they hold meanwhile, which have nothing
 * to do in that step but to add up and to commit (`newcomers.ts`), and those that go on in the middle of a step, each as soon
 * as it has come to rest (`handover.ts`). Whatever is asked of them waits for that.
 */

import { BegunAgain } from "../recovery/roster.ts";
import type { Resumed } from "../stage/spec.ts";

export class Late {
  /** Whether one of those that go on was in the middle of a step, as far as they have said so. */
  busy = false;
  /** By worker. */
  private readonly given = new Map<number, Promise<void>>();
  private readonly resuming = new Map<number, Promise<void>>();
  private bytes = 0;

  /** A worker is being given what it holds. @param work resolves with the bytes. @returns bytes that it has been given so far. */
  add(worker: number, work: Promise<number>): 0 {
    const given = work.then((bytes) => {
      this.bytes += bytes;
      this.given.delete(worker);
    });
    given.catch(() => {}); // Whoever asks something of it is told.
    this.given.set(worker, given);
    return 0;
  }

  /**
   * A worker goes on once it has come to rest. @param isMidway in the middle of a step, which others are in as well, or behind
   * one with nothing. @param then what it is asked before anything else.
   * @returns bytes that it has been given so far.
   */
  resume(worker: number, coming: Promise<Resumed>, isMidway: boolean, then: () => Promise<void>): 0 {
    const resumed = coming.then(async ({ midway, holds, busy }) => {
      this.busy ||= busy;
      if (isMidway ? !midway : !holds) throw new BegunAgain();
      await then();
      this.resuming.delete(worker);
    });
    resumed.catch(() => {});
    this.resuming.set(worker, resumed);
    return 0;
  }

  /** Whether it does not have what it holds yet. */
  lacks(worker: number): boolean {
    return this.given.has(worker);
  }

  /** Undefined where there is nothing to wait for. @throws what it could not be given with, or not go on. */
  before(worker: number): Promise<void> | undefined {
    return this.given.get(worker) ?? this.resuming.get(worker);
  }

  /** Does something when all go on that were to; at once where all do, and not where one cannot. */
  whenResumed(then: () => void): void {
    if (this.resuming.size === 0) then();
    else Promise.all(this.resuming.values()).then(then, () => {});
  }

  /** Resolves when all go on and have what they hold, with the bytes that they were given since this was asked before. */
  async all(): Promise<number> {
    await Promise.all([...this.given.values(), ...this.resuming.values()]);
    const { bytes } = this;
    this.bytes = 0;
    return bytes;
  }
}
