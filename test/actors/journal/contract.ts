/** What is promised of a journal, wherever it is kept. */

import { describe, expect, test } from "bun:test";
import type { Journal, JournalRecord } from "../../../actors/journal/journal.ts";

export const BEGIN: JournalRecord = { kind: "run", run: "r1", settings: { steps: 60, note: "käse ☃" } };
export const steps = (from: number, to: number): JournalRecord[] =>
  Array.from({ length: to - from }, (_, i) => ({
    kind: "step",
    step: from + i,
    loss: 5 - (from + i) / 1000,
  }));

/** @param make an empty one; whoever brings it closes it. */
export function journalContract(where: string, make: () => Promise<Journal>): void {
  describe(`a journal ${where}`, () => {
    test("gives back what was added, in order", async () => {
      const journal = await make();
      expect(await journal.read()).toEqual({ records: [], damage: null });
      await journal.append([BEGIN], true);
      await journal.append(steps(0, 3));
      await journal.append([]);
      expect(await journal.read()).toEqual({ records: [BEGIN, ...steps(0, 3)], damage: null });
    });

    test("takes several at once, and has all of them in the order in which they were given", async () => {
      const journal = await make();
      await Promise.all([BEGIN, ...steps(0, 8)].map((record) => journal.append([record])));
      expect((await journal.read()).records).toEqual([BEGIN, ...steps(0, 8)]);
    });

    test("what was added is not changed by whoever added it", async () => {
      const journal = await make();
      const settings = { steps: 1 };
      await journal.append([{ kind: "run", run: "r", settings }]);
      settings.steps = 2;
      expect((await journal.read()).records).toEqual([{ kind: "run", run: "r", settings: { steps: 1 } }]);
    });

    test("closes twice", async () => {
      const journal = await make();
      await journal.close();
      await journal.close();
    });
  });
}
