/**
 * Who leads a run, among coordinators that may: the one who has the lease, a value under compare-and-set that its holder
 * writes anew several times within the time that it is given for. Another one takes it when it has seen no new revision of it
 * for that time, by its own clock; so no two clocks need to agree, but on how fast time goes (Gray and Cheriton, Leases,
 * SOSP 1989).
 *
 * A holder that was held up (its process was stopped, its machine slept, its network was cut) may not know yet that it holds
 * nothing any more. That is why a lease has an epoch, the revision that it was taken with, higher than all before: a journal
 * refuses who has not read what a later one wrote, and devices refuse who is of an earlier epoch.
 */

import type { Clock, Timer } from "../../runtime/index.ts";
import type { Register } from "../../runtime/platform/nats.ts";

/** Somebody else leads the run. Whoever gets this must not do anything for it any more. */
export class Deposed extends Error {
  readonly code = "DEPOSED";
  override readonly name = "Deposed";
}

export interface LeaderLeaseOptions {
  readonly register: Register;
  readonly clock: Clock;
  /** After so many milliseconds without a word from its holder, somebody else may take it. */
  readonly ttlMs: number;
  /** For people. */
  readonly holder: string;
  /** Unlike that of any other holder. */
  readonly id: string;
  /** Hears, once, that the lease cannot be renewed at present, and why: nothing is done for the run meanwhile. */
  readonly tell: (why: string) => void;
}

/** What is in the register; nothing of it is secret. */
interface Held {
  readonly id: string;
  readonly holder: string;
  readonly ttlMs: number;
}

/** Parts of the time it is given for, after which it is renewed, is looked at by others, and is not relied on. */
const RENEW = 1 / 4;
const LOOK = 1 / 8;
const RELY = 9 / 10;

export class LeaderLease {
  readonly epoch: number;
  /** Rejects when somebody else has taken it. */
  readonly deposed: Promise<never>;
  private readonly options: LeaderLeaseOptions;
  private readonly giveUp: (error: Deposed) => void;
  private revision: number;
  /** It is relied on until then. */
  private until: number;
  private isLost = false;
  private released = false;
  private told = false;
  private timer: Timer | undefined;
  private renewed = Promise.withResolvers<void>();

  private constructor(options: LeaderLeaseOptions, epoch: number, sent: number) {
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => {});
    this.deposed = promise;
    this.giveUp = reject;
    this.options = options;
    this.epoch = epoch;
    this.revision = epoch;
    this.until = sent + options.ttlMs * RELY;
    this.renewLater(options.ttlMs * RENEW);
  }

  /**
   * Takes the lease as soon as nobody has it.
   * @param waits is told who has it, each time that it is somebody else.
   * @throws what reading it fails with the first time; from then on it waits for that, too.
   */
  static async take(options: LeaderLeaseOptions, waits: (holder: string) => void): Promise<LeaderLease> {
    const { register, clock, ttlMs } = options;
    let seen: { readonly revision: number; readonly at: number } | undefined;
    let holder: string | undefined;
    for (;;) {
      try {
        const { value, revision } = await register.read();
        const held: Held | null = value === "" ? null : JSON.parse(value);
        // It was written, and the answer was lost.
        if (held?.id === options.id) return new LeaderLease(options, revision, clock.now() - ttlMs);
        if (held && held.holder !== holder) waits(held.holder);
        holder = held?.holder;
        if (seen?.revision !== revision) seen = { revision, at: clock.now() };
        if (held === null || clock.now() - seen.at >= held.ttlMs) {
          const sent = clock.now();
          const epoch = await register.write(textOf(options), revision);
          if (epoch !== null) return new LeaderLease(options, epoch, sent);
          continue;
        }
      } catch (error) {
        if (!seen) throw error;
        // Its holder may not have reached it either, and has time from the next look on.
        seen = { revision: -1, at: 0 };
      }
      await clock.sleep(ttlMs * LOOK);
    }
  }

  /** Whether it is relied on at this moment. */
  get isHeld(): boolean {
    return !this.isLost && !this.released && this.options.clock.now() < this.until;
  }

  /** Resolves when the lease is held, which it is unless it could not be renewed in time; never when it is gone. */
  async held(): Promise<void> {
    while (!this.isHeld) await this.renewed.promise;
  }

  /** Somebody else has been found to lead. */
  depose(error: Deposed): void {
    this.isLost = true;
    this.options.clock.clearTimer(this.timer);
    this.giveUp(error);
  }

  /** Gives it back: another one may take it at once. Idempotent. */
  async release(): Promise<void> {
    const { register, clock } = this.options;
    clock.clearTimer(this.timer);
    if (this.released || this.isLost) return;
    this.released = true;
    // Where that fails, the time it was given for runs out.
    await register.write("", this.revision).catch(() => {});
  }

  private renewLater(ms: number): void {
    const { clock } = this.options;
    this.timer = clock.setTimer(() => void this.renew(), ms);
  }

  private async renew(): Promise<void> {
    const { register, clock, ttlMs, tell } = this.options;
    try {
      const sent = clock.now();
      const revision = await register.write(textOf(this.options), this.revision);
      if (this.released || this.isLost) return;
      if (revision === null) return await this.lookAgain();
      this.revision = revision;
      this.until = sent + ttlMs * RELY;
      this.told = false;
      this.renewed.resolve();
      this.renewed = Promise.withResolvers();
    } catch (error) {
      if (this.released || this.isLost) return;
      if (!this.told) tell((error as Error).message);
      this.told = true;
    }
    this.renewLater(ttlMs * RENEW);
  }

  /** Another revision is there than is known: one that was written and never answered, or somebody else's. */
  private async lookAgain(): Promise<void> {
    const { register, id } = this.options;
    const { value, revision } = await register.read();
    const held: Held | null = value === "" ? null : JSON.parse(value);
    if (held?.id !== id) {
      return this.depose(
        new Deposed(
          `${held?.holder ?? "another coordinator"} leads the run now: start this command again to stand by`,
        ),
      );
    }
    this.revision = revision;
    return this.renew();
  }
}

function textOf({ id, holder, ttlMs }: LeaderLeaseOptions): string {
  const held: Held = { id, holder, ttlMs };
  return JSON.stringify(held);
}
