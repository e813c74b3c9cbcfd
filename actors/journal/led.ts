/**
 * The journal of whoever leads a run by a lease. Nothing is written, and so no step committed, while the lease is not held:
 * whoever waits for that goes on when it is renewed. Once another one leads, all that is written here waits for ever, so that
 * nothing comes of it: no step, no failure, and no end of the run on devices which have to keep it for the other one.
 */

import { NatsError } from "../../runtime/platform/nats.ts";
import type { Journal, JournalContents, JournalRecord } from "./journal.ts";
import { Deposed, type LeaderLease } from "./leader-lease.ts";

export class LedJournal implements Journal {
  private readonly journal: Journal;
  private readonly lease: LeaderLease;
  /** Settles when nothing is being written: what could not be is tried again before anything else. */
  private turn: Promise<void> = Promise.resolve();

  constructor(journal: Journal, lease: LeaderLease) {
    this.journal = journal;
    this.lease = lease;
  }

  append(records: readonly JournalRecord[], lasting?: boolean): Promise<void> {
    const added = this.turn.then(() => this.add(records, lasting));
    this.turn = added.catch(() => {});
    return added;
  }

  private async add(records: readonly JournalRecord[], lasting?: boolean): Promise<void> {
    for (;;) {
      await this.lease.held();
      try {
        return await this.journal.append(records, lasting);
      } catch (error) {
        if (error instanceof Deposed) this.lease.depose(error);
        else if (!(error instanceof NatsError && error.isAway)) throw error;
      }
    }
  }

  read(): Promise<JournalContents> {
    return this.journal.read();
  }

  held(): Promise<void> {
    return this.lease.held();
  }

  /** Gives the lease back, too. */
  async close(): Promise<void> {
    await this.lease.release();
    await this.journal.close();
  }
}
