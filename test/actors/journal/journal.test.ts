/** Journals: one contract for all that keep one, what their records come to, and what is left of a damaged file. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { historyOf } from "../../../actors/journal/history.ts";
import type { Journal } from "../../../actors/journal/journal.ts";
import { MemoryJournal } from "../../../actors/journal/memory.ts";
import { SqliteJournal } from "../../../actors/journal/sqlite.ts";
import { files } from "../../../runtime/platform/files.ts";
import { BEGIN, journalContract, steps } from "./contract.ts";

let folder: string;
let path: string;
let open: Journal[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "troupe-journal-"));
  path = join(folder, "journal.sqlite");
  open = [];
});

afterEach(async () => {
  for (const each of open) await each.close();
  rmSync(folder, { recursive: true, force: true });
});

async function sqlite(): Promise<Journal> {
  const journal = await SqliteJournal.open(files, path);
  open.push(journal);
  return journal;
}

journalContract("in memory", async () => new MemoryJournal());
journalContract("in a file of SQLite", sqlite);

describe("a file", () => {
  test("is there for the next process", async () => {
    const first = await sqlite();
    await first.append([BEGIN, ...steps(0, 5)]);
    await first.close();
    const second = await sqlite();
    await second.append(steps(5, 6));
    expect((await second.read()).records).toEqual([BEGIN, ...steps(0, 6)]);
  });

  test("that nobody closed has all of it", async () => {
    await (await sqlite()).append([BEGIN, ...steps(0, 5)]);
    // As another process finds it when the first one has been killed.
    const copy = join(folder, "copy.sqlite");
    for (const end of ["", "-wal"]) writeFileSync(copy + end, readFileSync(path + end));
    const found = await SqliteJournal.open(files, copy);
    open.push(found);
    expect(await found.read()).toEqual({ records: [BEGIN, ...steps(0, 5)], damage: null });
  });

  async function written(): Promise<Buffer> {
    const journal = await sqlite();
    await journal.append([BEGIN, ...steps(0, 400)]);
    await journal.close();
    return readFileSync(path);
  }

  test("with a changed record: it is left out, that is said, and the rest is good", async () => {
    const bytes = await written();
    const at = bytes.indexOf('"step":200,');
    bytes[at + '"step":20'.length] = "7".charCodeAt(0);
    writeFileSync(path, bytes);
    const journal = await sqlite();
    const { records, damage } = await journal.read();
    expect(records).toEqual([BEGIN, ...steps(0, 200), ...steps(201, 400)]);
    expect(damage).toMatch(/journal\.sqlite is damaged, 1 of its 401 records cannot be used; it is kept as /);
    expect(readFileSync(`${path}.damaged`).equals(bytes)).toBe(true);
    await journal.append(steps(400, 401));
    await journal.close();
    const again = await sqlite();
    expect((await again.read()).damage).toBeNull();
    expect((await again.read()).records.at(-1)).toEqual(steps(400, 401)[0]!);
  });

  test("with a page of noise: those before and behind it are good", async () => {
    const bytes = await written();
    const page = 4096;
    const middle = Math.floor(bytes.byteLength / page / 2) * page;
    bytes.fill(0xa5, middle, middle + page);
    writeFileSync(path, bytes);
    const { records, damage } = await (await sqlite()).read();
    expect(damage).toMatch(/records cannot be used/);
    expect(records[0]).toEqual(BEGIN);
    expect(records.at(-1)).toEqual(steps(399, 400)[0]!);
    expect(records.length).toBeGreaterThan(300);
    expect(records.length).toBeLessThan(401);
  });

  test("that is no database any more is put aside, and said", async () => {
    const bytes = await written();
    bytes.fill(0, 0, 4096);
    writeFileSync(path, bytes);
    const journal = await sqlite();
    const { records, damage } = await journal.read();
    expect(records).toEqual([]);
    expect(damage).toContain(`${path} is damaged`);
    expect(existsSync(`${path}.damaged`)).toBe(true);
    await journal.append([BEGIN]);
    expect((await journal.read()).records).toEqual([BEGIN]);
  });

  test("a folder that is not there is told by name", async () => {
    const opening = SqliteJournal.open(files, join(folder, "none", "journal.sqlite"));
    expect(opening).rejects.toThrow(/cannot open .*none.journal\.sqlite as a database/);
  });
});

describe("a history", () => {
  test("is the last run's, and the last word on everything", () => {
    const plan = { digest: "d" } as never;
    const history = historyOf([
      BEGIN,
      ...steps(0, 3),
      { kind: "done", steps: 3 },
      { kind: "run", run: "r2", settings: {} },
      { kind: "plan", generation: 1, plan, devices: [] },
      ...steps(0, 4),
      { kind: "point", step: 2, copies: { "1/0": ["0", "1"] } },
      { kind: "checkpoint", step: 2, path: "c", weights: "w" },
      { kind: "plan", generation: 2, plan, devices: [{ id: "0", name: "a", address: "tcp://a:1" }] },
      { kind: "step", step: 2, loss: 9 },
      { kind: "validation", step: 2, loss: 8 },
    ])!;
    expect(history.run).toBe("r2");
    expect(history.planned).toMatchObject({ generation: 2, devices: [{ name: "a" }] });
    expect(history.step).toBe(3);
    expect([...history.losses.keys()]).toEqual([0, 1, 2, 3]);
    expect(history.losses.get(2)).toBe(9);
    expect(history.validations).toEqual(new Map([[2, 8]]));
    expect(history.point).toMatchObject({ step: 2, copies: { "1/0": ["0", "1"] } });
    expect(history.checkpoint).toMatchObject({ step: 2, path: "c", weights: "w" });
    expect(history.done).toBe(false);
  });

  test("there is none before a run has begun", () => {
    expect(historyOf([])).toBeNull();
    expect(historyOf(steps(0, 2))).toBeNull();
  });
});
