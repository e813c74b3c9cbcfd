/** A journal in memory, gone with its process: for tests, and where nothing is to be kept. */

import type { Journal, JournalContents, JournalRecord } from "./journal.ts";

export class MemoryJournal implements Journal {
  private readonly lines: string[] = [];

  async append(records: readonly JournalRecord[]): Promise<void> {
    this.lines.push(...records.map((record) => JSON.stringify(record)));
  }

  async read(): Promise<JournalContents> {
    return { records: this.lines.map((line) => JSON.parse(line)), damage: null };
  }

  async close(): Promise<void> {}
}
