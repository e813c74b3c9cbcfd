/**
 * SQLite, by the interface that Bun, Deno and Node.js share (`node:sqlite`). It is loaded when the first database is opened:
 * a platform without it can do everything else.
 */

import type { DatabaseSync, SQLInputValue } from "node:sqlite";
import { FileError } from "./files.ts";

export type SqlValue = number | string;
export type SqlRow = Readonly<Record<string, unknown>>;

/** An open database. All calls are synchronous, and throw what SQLite throws. */
export interface Sqlite {
  /** Statements without results. */
  execute(sql: string): void;
  /** One statement; made ready once for all times it is run. */
  run(sql: string, ...values: SqlValue[]): void;
  /** Rows one after the other: those before a page that cannot be read come before it throws. */
  rows(sql: string, ...values: SqlValue[]): Iterable<SqlRow>;
  close(): void;
}

/** Opens a database, and makes the file where there is none. @throws FileError where there is no SQLite, or no file. */
export async function openSqlite(path: string): Promise<Sqlite> {
  let database: DatabaseSync;
  try {
    const { DatabaseSync: Database } = await import("node:sqlite");
    database = new Database(path);
  } catch (error) {
    throw new FileError("other", path, `cannot open ${path} as a database: ${(error as Error).message}`);
  }
  const prepared = new Map<string, ReturnType<DatabaseSync["prepare"]>>();
  const statement = (sql: string) => {
    const known = prepared.get(sql) ?? database.prepare(sql);
    prepared.set(sql, known);
    return known;
  };
  return {
    execute: (sql) => database.exec(sql),
    run: (sql, ...values) => void statement(sql).run(...(values as SQLInputValue[])),
    // Not kept: one that has failed in the middle is of no use.
    rows: (sql, ...values) => database.prepare(sql).iterate(...(values as SQLInputValue[])),
    close: () => {
      prepared.clear();
      database.close();
    },
  };
}
