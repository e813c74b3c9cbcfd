/**
 * The journal of whoever leads a run by a lease. Nothing is written, and so no step committed, while the lease is not held:
 * whoever waits for that goes on when it is renewed. Once another one leads, all that is written here waits for ever, so that
 * nothing comes of it: no step, no failure, and no end of the run on devices which have to keep it for the other one.
 */

import { NatsError } from "../../runtime/platform/nats.ts";
import type { Journal, JournalContents, JournalRecord } from "./journal.ts";
import { Deposed, type Lease } from "./lease.ts";

export class LedJournal implements Journal {
  private readonly journal: Journal;
  private readonly lease: Lease;

  constructor(journal: Journal, lease: Lease) {
    this.journal = journal;
    this.lease = lease;
  }

  async append(records: readonly JournalRecord[], lasting?: boolean): Promise<void> {
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

  close(): Promise<void> {
    return this.journal.close();
  }
}
