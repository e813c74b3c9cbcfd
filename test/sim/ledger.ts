/**
 * The books of a simulated world: every message that was sent, every ask, every monitor, every life of a supervised
 * child. It knows what the runtime promises about them and writes down each breach. What a machine does after it is
 * gone does not count.
 */

import type { Monitor } from "../../runtime/monitor.ts";
import type { Ref } from "../../runtime/ref.ts";
import type { Host } from "./host.ts";
import type { Trace } from "./trace.ts";

/** What the messages of the simulated actors carry. */
export interface Letter {
  readonly id: number;
  readonly act: string;
  readonly ms?: number;
  readonly ref?: Ref<any>;
  readonly next?: string;
  readonly body?: Uint8Array;
}

interface Sent {
  readonly from: Host;
  readonly to: string;
  readonly act: string;
  /** Of all letters from this host to this actor. */
  readonly order: number;
  /** Of the link; letters of one generation are not lost singly. */
  readonly generation: number;
  /** It may be lost by itself: it threw when it was sent, had a timeout, or there was no link yet. */
  optional: boolean;
  handled: boolean;
}

interface Flow {
  readonly sent: Sent[];
  /** The order of the last that was handled. */
  handled: number;
}

interface Watch {
  readonly host: Host;
  readonly of: string;
  fired: number;
  cancelled: boolean;
  /** Of an actor, whose own end ends it too. */
  readonly bound: boolean;
}

/** Errors that a world full of faults may lead to. Anything else is a bug. */
const EXPECTED = new Set([
  ...["ACTOR_DOWN", "ASK_TIMEOUT", "NODE_LOST", "MAILBOX_FULL", "SPAWN_FAILED", "TOO_MANY_RESTARTS"],
  ...["CONNECT_FAILED", "NODE_CLOSED", "LINK_SILENT", "ACTOR_FAILURE", "NAME_TAKEN", "TRUNCATED"],
  ...["LINK_DUPLICATE", "STALE_INCARNATION", "LINKED_EXIT", "NODE_RESTARTED", "NODE_LEFT", "NODE_REPLACED"],
]);

export class Ledger {
  readonly breaches: string[] = [];
  readonly trace: Trace;
  private readonly sent: Sent[] = [];
  private readonly flows = new Map<string, Flow>();
  private readonly waiting = new Map<number, Host>();
  private readonly watches: Watch[] = [];
  private readonly links = new Map<string, number>();
  private readonly exits = new Map<string, number>();
  private lives = 0;
  /** Links of a host with another node, counted: each joining and leaving is one, so an odd number is connected. */
  private readonly generations = new Map<string, number>();

  constructor(trace: Trace) {
    this.trace = trace;
  }

  breach(...words: (string | number)[]): void {
    this.trace.note("BREACH", ...words);
    this.breaches.push(words.join(" "));
  }

  /** A peer has joined or left. */
  linkChanged(host: Host, node: string): void {
    const key = `${host.life}>${node}`;
    this.generations.set(key, (this.generations.get(key) ?? 0) + 1);
  }

  // --- messages ------------------------------------------------------------------------------------------------

  /** Sends a letter with `deliver`; true if that did not throw. */
  send(host: Host, to: Ref<any>, letter: Omit<Letter, "id">, deliver: (letter: Letter) => void): boolean {
    const entry = this.enter(host, to, letter.act);
    this.trace.note("tell", host.name, to.key, letter.act, entry.id);
    try {
      deliver({ ...letter, id: entry.id });
      return true;
    } catch (error) {
      entry.sent.optional = true;
      this.expected(error, "a tell");
      return false;
    }
  }

  /** Asks with `deliver`, which must settle. @param limited it has a timeout. */
  async ask(
    host: Host,
    to: Ref<any>,
    letter: Omit<Letter, "id">,
    limited: boolean,
    deliver: (letter: Letter) => Promise<unknown>,
  ): Promise<void> {
    const { id, sent } = this.enter(host, to, letter.act);
    if (limited) sent.optional = true;
    this.trace.note("ask", host.name, to.key, letter.act, id);
    this.waiting.set(id, host);
    try {
      const value = await deliver({ ...letter, id });
      if (!this.settled(host, id, "answered")) return;
      if (value !== id) this.breach(`ask ${id} was answered with ${value}`);
      if (!sent.handled) this.breach(`ask ${id} was answered and never handled`);
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      if (!this.settled(host, id, code ?? message)) return;
      if (message === `refused ${id}` || message === `boom ${id}`) {
        if (!sent.handled) this.breach(`ask ${id} failed in a method that never ran`);
      } else this.expected(error, `ask ${id}`);
    }
  }

  /** An actor begins to handle a letter. */
  handled(host: Host, self: Ref<any>, { id, act }: Letter): void {
    if (!host.alive) return;
    this.trace.note("handle", host.name, self.key, act, id);
    const letter = this.sent[id];
    if (!letter || letter.handled) {
      this.breach(`message ${id} was ${letter ? "handled twice" : "never sent"}`);
      return;
    }
    letter.handled = true;
    if (letter.to !== self.key) this.breach(`message ${id} for ${letter.to} was handled by ${self.key}`);
    const flow = this.flow(letter.from, letter.to);
    if (letter.order < flow.handled) this.breach(`message ${id} was handled after a later one`);
    for (let order = flow.handled + 1; order < letter.order; order++) {
      const skipped = flow.sent[order]!;
      const lost = skipped.generation === letter.generation && !skipped.optional && !skipped.handled;
      if (lost) this.breach(`a message before ${id} was lost within a generation`);
    }
    flow.handled = letter.order;
  }

  /** Asks that have not settled, of machines that are there. */
  get unsettled(): ReadonlyMap<number, Host> {
    return this.waiting;
  }

  /** A machine is gone, and whoever asked there with it. */
  forget(host: Host): void {
    for (const [id, asker] of this.waiting) if (asker === host) this.waiting.delete(id);
  }

  // --- monitors ------------------------------------------------------------------------------------------------

  /** Places a monitor with `place`, which is given what to call when it fires. */
  watch(host: Host, of: Ref<any>, bound: boolean, place: (fired: (code: string) => void) => Monitor): void {
    const watch: Watch = { host, of: of.key, fired: 0, cancelled: false, bound };
    const number = this.watches.push(watch) - 1;
    this.trace.note("monitor", host.name, of.key, number);
    place((code) => {
      if (!host.alive) return;
      this.trace.note("down", host.name, number, code);
      watch.fired++;
      if (watch.fired > 1) this.breach(`monitor ${number} of ${watch.of} fired twice`);
      if (watch.cancelled) this.breach(`monitor ${number} of ${watch.of} fired after it was cancelled`);
    });
  }

  /** Once every actor has ended: monitors that have not fired on machines that are there. */
  checkMonitors(): void {
    this.watches.forEach(({ host, of, fired, cancelled, bound }, number) => {
      if (host.alive && !cancelled && !bound && fired === 0) {
        this.breach(`monitor ${number} of ${of} on ${host.name} never fired`);
      }
    });
  }

  // --- links ---------------------------------------------------------------------------------------------------

  /** A number for a life that begins. */
  begun(): number {
    return ++this.lives;
  }

  /** One actor links itself to another. */
  linked(self: Ref<any>, other: Ref<any>): void {
    const pair = pairOf(self, other);
    this.links.set(pair, (this.links.get(pair) ?? 0) + 1);
  }

  /** An actor is told of the end of one it is linked to: once for each link, in each of its lives. */
  exited(host: Host, life: number, self: Ref<any>, other: Ref<any>): void {
    if (!host.alive) return;
    this.trace.note("exit", host.name, self.key, other.key);
    const key = `${life} ${other.key}`;
    const times = (this.exits.get(key) ?? 0) + 1;
    this.exits.set(key, times);
    const made = this.links.get(pairOf(self, other)) ?? 0;
    if (times > made)
      this.breach(`${self.key} was told ${times} times of ${other.key}, linked ${made} times`);
  }

  // --- errors --------------------------------------------------------------------------------------------------

  /** Notes an error, and a breach when the world gives no reason for it. */
  expected(error: unknown, where: string): void {
    const { code, name, message } = error as { code?: string; name?: string; message?: string };
    this.trace.note("error", where, code ?? name ?? "");
    if (!code || !EXPECTED.has(code)) {
      this.breach(`${where} failed with ${name} ${code ?? ""}: ${message}`);
      this.trace.lines?.push((error as Error).stack ?? "");
    }
  }

  private enter(from: Host, to: Ref<any>, act: string): { id: number; sent: Sent } {
    const flow = this.flow(from, to.key);
    const generation = this.generations.get(`${from.life}>${to.address.node}`) ?? 0;
    // What waits for a link goes with the attempt to open one, which nobody is told of.
    const connected = generation % 2 === 1 || to.address.node === from.name;
    const sent: Sent = {
      ...{ from, to: to.key, act, generation, optional: !connected, handled: false },
      order: flow.sent.length,
    };
    flow.sent.push(sent);
    return { id: this.sent.push(sent) - 1, sent };
  }

  private settled(host: Host, id: number, how: string): boolean {
    if (!host.alive) return false;
    this.trace.note("settled", host.name, id, how);
    this.waiting.delete(id);
    return true;
  }

  private flow(from: Host, to: string): Flow {
    const key = `${from.life}>${to}`;
    let flow = this.flows.get(key);
    if (!flow) {
      flow = { sent: [], handled: -1 };
      this.flows.set(key, flow);
    }
    return flow;
  }
}

function pairOf(one: Ref<any>, other: Ref<any>): string {
  return [one.key, other.key].sort().join(" ");
}
