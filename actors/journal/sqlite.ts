/**
 * A journal as a file of SQLite, in write-ahead mode: a process that is killed leaves all records whose adding had ended,
 * and of the last ones all or none.
 *
 * SQLite does not see that a byte of a page has changed, so every record has a checksum of its own, over its number too,
 * and every number is there. What cannot be read is left out and told; the file is then put aside, as it is, and another
 * takes its place with all that was good in it.
 */

import type { Files } from "../../runtime/platform/files.ts";
import { sha256 } from "../../runtime/platform/hash.ts";
import { openSqlite, type Sqlite, type SqlRow } from "../../runtime/platform/sqlite.ts";
import type { Journal, JournalContents, JournalRecord } from "./journal.ts";

const TABLE = "CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, body TEXT, sum TEXT) STRICT";
const ADD = "INSERT INTO records (number, body, sum) VALUES (?, ?, ?)";
/** Characters of a checksum. */
const SUM = 16;
/** What SQLite keeps beside a file. */
const COMPANIONS = ["-wal", "-shm"];

interface Found {
  readonly bodies: readonly string[];
  readonly last: number;
  readonly damage: string | null;
}

export class SqliteJournal implements Journal {
  private readonly database: Sqlite;
  /** Of a file that was put aside. */
  private readonly damage: string | null;
  private last: number;
  private lasts = false;
  private closed = false;

  private constructor(database: Sqlite, last: number, damage: string | null) {
    this.database = database;
    this.last = last;
    this.damage = damage;
  }

  /** Opens the journal at `path`, or makes one. @throws FileError. */
  static async open(files: Files, path: string): Promise<SqliteJournal> {
    const { database, found } = await attempt(path);
    if (database && found.damage === null) return new SqliteJournal(database, found.last, null);
    database?.close();
    const aside = `${path}.damaged`;
    for (const end of ["", ...COMPANIONS]) {
      await files.remove(aside + end);
      if (await files.exists(path + end)) await files.rename(path + end, aside + end);
    }
    const damage = `${path} is damaged, ${found.damage}; it is kept as ${aside}`;
    const { database: fresh } = await attempt(path);
    const journal = new SqliteJournal(fresh!, 0, damage);
    await journal.append(recordsOf(found), true);
    return journal;
  }

  async append(records: readonly JournalRecord[], lasting = false): Promise<void> {
    const { database } = this;
    if (lasting !== this.lasts) database.execute(`PRAGMA synchronous = ${lasting ? "FULL" : "NORMAL"}`);
    this.lasts = lasting;
    const bodies = records.map((record) => JSON.stringify(record));
    database.execute("BEGIN IMMEDIATE");
    try {
      bodies.forEach((body, i) => {
        const number = this.last + i + 1;
        database.run(ADD, number, body, sumOf(number, body));
      });
      database.execute("COMMIT");
    } catch (error) {
      database.execute("ROLLBACK");
      throw error;
    }
    this.last += bodies.length;
  }

  async read(): Promise<JournalContents> {
    return { records: recordsOf(readAll(this.database)), damage: this.damage };
  }

  async close(): Promise<void> {
    if (!this.closed) this.database.close();
    this.closed = true;
  }
}

/** Opens a database and reads what can be read; there is none to go on with where SQLite refuses it as a whole. */
async function attempt(path: string): Promise<{ database: Sqlite | null; found: Found }> {
  const database = await openSqlite(path);
  try {
    database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
    database.execute(TABLE);
    return { database, found: readAll(database) };
  } catch (error) {
    database.close();
    return { database: null, found: { bodies: [], last: 0, damage: (error as Error).message } };
  }
}

function readAll(database: Sqlite): Found {
  const bodies = new Map<number, string>();
  let last = 0;
  let failure: string | null = null;
  let reached = 0;
  const read = (order: string) => {
    try {
      for (const row of database.rows(`SELECT number, body, sum FROM records ORDER BY number ${order}`)) {
        reached = Number(row.number);
        last = Math.max(last, reached);
        if (isGood(row)) bodies.set(row.number, row.body);
      }
    } catch (error) {
      failure = (error as Error).message;
    }
  };
  // Where it is to end is asked first: a page that cannot be read is the end without a word on some platforms.
  read("DESC LIMIT 1");
  read("ASC");
  // It has others on both sides of it.
  if (reached < last || failure !== null) read("DESC");
  const good = [...bodies].sort(([a], [b]) => a - b).map(([, body]) => body);
  const lacking = last - good.length;
  if (failure === null && lacking === 0) return { bodies: good, last, damage: null };
  const damage = `${lacking} of its ${last} records cannot be used${failure === null ? "" : ` (${failure})`}`;
  return { bodies: good, last, damage };
}

function recordsOf({ bodies }: Found): JournalRecord[] {
  return bodies.map((body) => JSON.parse(body));
}

function isGood(row: SqlRow): row is SqlRow & { number: number; body: string } {
  const { number, body, sum } = row;
  return typeof number === "number" && typeof body === "string" && sum === sumOf(number, body);
}

const sumOf = (number: number, body: string) => sha256([`${number}\n${body}`]).slice(0, SUM);
