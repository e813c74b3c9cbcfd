/**
 * A journal as a log of a NATS server, so that a coordinator on another machine can go on with the run. Each entry is what was
 * added at once. Whoever adds names the entry that theirs comes behind, so of two that write at the same time the second is
 * refused: it does not know what the first has written, and must not go on.
 *
 * Every entry has a number and a checksum over it, as in a file (`sqlite.ts`): what the server lost or changed is left out
 * and told. What survives a machine's loss of power is up to the server: its replicas, and its `sync_interval`.
 */

import { sha256 } from "../../runtime/platform/hash.ts";
import { connectNats, type Log, type Nats } from "../../runtime/platform/nats.ts";
import type { Journal, JournalContents, JournalRecord } from "./journal.ts";
import { Deposed } from "./leader-lease.ts";
import { type NatsPlace, natsPlace } from "./nats-place.ts";

/** Characters of a checksum. */
const SUM = 16;

interface Entry {
  readonly number: number;
  readonly writer: string;
  readonly records: readonly JournalRecord[];
}

export class NatsJournal implements Journal {
  readonly place: NatsPlace;
  private readonly nats: Nats;
  private readonly log: Log;
  /** Unlike that of anybody else who writes. */
  private readonly writer: string;
  /** The log's number of the last entry, and how many entries there have been. */
  private last: number;
  private count: number;
  private closed = false;
  /** What has been read, null for what cannot be used; and the log's number of the last of it. */
  private readonly known: (Entry | null)[] = [];
  private readTo = 0;
  /** Settles when nothing is being added. */
  private turn: Promise<void> = Promise.resolve();

  private constructor(place: NatsPlace, nats: Nats, log: Log, writer: string, last: number, count: number) {
    this.place = place;
    this.nats = nats;
    this.log = log;
    this.writer = writer;
    this.last = last;
    this.count = count;
  }

  /**
   * @param address `nats://host:port/name`. @param writer unlike that of anybody else who writes there.
   * @throws PlaceError, NatsError.
   */
  static async open(address: string, writer: string): Promise<NatsJournal> {
    const place = natsPlace(address);
    const nats = await connectNats(place.server);
    try {
      const log = await nats.log(`TROUPE_${place.name}`);
      const journal = new NatsJournal(place, nats, log, writer, 0, 0);
      await journal.catchUp();
      return journal;
    } catch (error) {
      await nats.close();
      throw error;
    }
  }

  /** Goes on behind whatever others have written, as the one who writes from here on. */
  async catchUp(): Promise<void> {
    // What is added between the two is what the next entry is refused for.
    this.last = (await this.log.last()).number;
    this.count = highest(await this.entries());
  }

  /**
   * May be called again with the same records when it is not known whether they have been added: they will have been once.
   * @throws Deposed where somebody else has added something meanwhile, NatsError where it is not known to be there.
   */
  append(records: readonly JournalRecord[]): Promise<void> {
    // Each comes behind one that is known.
    const added = this.turn.then(() => this.add(records));
    this.turn = added.catch(() => {});
    return added;
  }

  private async add(records: readonly JournalRecord[]): Promise<void> {
    for (;;) {
      const number = this.count + 1;
      const text = textOf({ number, writer: this.writer, records });
      let at = await this.log.append(text, this.last);
      let added = at !== null;
      if (at === null) {
        // It may be there, or the one before it that failed, and the answer was lost.
        const last = await this.log.last();
        const entry = entryOf(last.entry);
        if (entry?.writer !== this.writer || entry.number !== number) {
          throw new Deposed(`another coordinator writes the journal at ${this.place.address}`);
        }
        at = last.number;
        added = last.entry === text;
      }
      this.last = at;
      this.count = number;
      if (added) return;
    }
  }

  async read(): Promise<JournalContents> {
    const entries = await this.entries();
    const good = entries.filter((entry) => entry !== null);
    const lost = highest(good) - good.length;
    const lacking = Math.max(lost, entries.length - good.length);
    const damage =
      lacking === 0
        ? null
        : `the journal at ${this.place.address} is damaged, ${lacking} of its ${good.length + lacking} entries cannot be used`;
    return { records: good.flatMap(({ records }) => records), damage };
  }

  /** The connection, for what is kept beside the journal. */
  get connection(): Nats {
    return this.nats;
  }

  async close(): Promise<void> {
    if (!this.closed) await this.nats.close();
    this.closed = true;
  }

  /** All, in their order. */
  private async entries(): Promise<readonly (Entry | null)[]> {
    for (const { entry, number } of await this.log.read(this.readTo)) {
      if (number <= this.readTo) continue;
      this.known.push(entryOf(entry));
      this.readTo = number;
    }
    return this.known;
  }
}

function highest(entries: readonly (Entry | null)[]): number {
  return entries.reduce((most, entry) => Math.max(most, entry?.number ?? 0), 0);
}

function textOf(entry: Entry): string {
  const body = JSON.stringify(entry);
  return sumOf(body) + body;
}

function entryOf(text: string): Entry | null {
  const body = text.slice(SUM);
  return text.slice(0, SUM) === sumOf(body) ? JSON.parse(body) : null;
}

const sumOf = (body: string) => sha256([body]).slice(0, SUM);
