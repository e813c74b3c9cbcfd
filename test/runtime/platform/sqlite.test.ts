/** SQLite by the interface that all platforms share. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqlite, type Sqlite } from "../../../runtime/platform/sqlite.ts";

let folder: string;
let database: Sqlite;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "troupe-sqlite-"));
  database = await openSqlite(join(folder, "a.sqlite"));
  database.execute("PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, s TEXT) STRICT");
});
afterEach(() => {
  database.close();
  rmSync(folder, { recursive: true, force: true });
});

test("keeps rows, and gives them back one after the other", async () => {
  for (const n of [2, 1, 3]) database.run("INSERT INTO t VALUES (?, ?)", n, `käse ${n}`);
  const rows = [...database.rows("SELECT * FROM t WHERE n >= ? ORDER BY n", 2)];
  expect(rows.map(({ n, s }) => [n, s])).toEqual([
    [2, "käse 2"],
    [3, "käse 3"],
  ]);
  const other = await openSqlite(join(folder, "a.sqlite"));
  expect([...other.rows("SELECT count(*) AS c FROM t")][0]!.c).toBe(3);
  other.close();
});

test("what is taken back was never there", () => {
  database.execute("BEGIN");
  database.run("INSERT INTO t VALUES (?, ?)", 1, "a");
  expect(() => database.run("INSERT INTO t VALUES (?, ?)", 1, "b")).toThrow();
  database.execute("ROLLBACK");
  expect([...database.rows("SELECT * FROM t")]).toEqual([]);
});

test("a place that there is not is told by name", async () => {
  const path = join(folder, "none", "b.sqlite");
  const error = await openSqlite(path).then(
    () => null,
    (reason) => reason as Error & { code: string; path: string },
  );
  expect([error?.code, error?.path]).toEqual(["FILE", path]);
  expect(error?.message).toStartWith(`cannot open ${path} as a database: `);
});
