/**
 * A simulated world: a cluster of nodes on one virtual clock and one simulated network, what is done to it, and the
 * reckoning at the end. Everything in it follows from its seed.
 */

import { type ChildSpec, child, type SupervisorSpec } from "../../runtime/child_spec.ts";
import { VirtualClock } from "../../runtime/clock.ts";
import { NodeRuntime } from "../../runtime/node.ts";
import { type Random, seededRandom } from "../../runtime/random.ts";
import type { Ref } from "../../runtime/ref.ts";
import { Supervisor } from "../../runtime/supervisor.ts";
import { Child, surroundings, Worker } from "./actors.ts";
import { Host } from "./host.ts";
import { grown, type Holdings, holdings } from "./leaks.ts";
import { Ledger } from "./ledger.ts";
import { SimNetwork } from "./network.ts";
import { Trace } from "./trace.ts";

export interface Tree {
  readonly number: number;
  readonly member: Member;
  readonly host: Host;
  readonly spec: SupervisorSpec;
  supervisor: Ref<Supervisor> | undefined;
  /** Successful starts of each child. */
  readonly births: number[];
  /** Ends that its supervisor had no hand in. */
  failures: number;
  /** Somebody has ended the supervisor itself. */
  ended: boolean;
}

/** A place in the cluster; the machine and the node in it may be replaced by a new start of them. */
export interface Member {
  readonly name: string;
  host: Host;
  node: NodeRuntime;
  /** Actors that somebody on this node knows. */
  refs: Ref<any>[];
  started: Map<string, Ref<any>>;
}

export interface WorldOptions {
  /** Keeps the lines of the trace. */
  readonly verbose?: boolean;
}

const START = 1_000_000;
const HEARTBEAT = { intervalMs: 1000, patienceMs: 5000 };
/** Restarts each child may need within five seconds. */
const INTENSITY = 3;
/** Worlds that a leak is looked for in, one in this many: the search costs as much as a short life. */
const SEARCHED = 3;
/** Enough for every detector, timeout and shutdown in the world. */
const PATIENCE_MS = 60_000;

export class World {
  readonly clock = new VirtualClock(START);
  readonly random: Random;
  readonly trace: Trace;
  readonly ledger: Ledger;
  readonly network: SimNetwork;
  readonly members: Member[] = [];
  readonly trees: Tree[] = [];
  private readonly seed: number;
  private readonly token: string | undefined;

  constructor(seed: number, options: WorldOptions = {}) {
    this.seed = seed;
    this.random = seededRandom(seed);
    this.trace = new Trace(() => this.clock.now() - START, options.verbose ?? false);
    this.ledger = new Ledger(this.trace);
    const { random } = this;
    const settings = {
      maxDelayMs: pick(random, [1, 5, 50, 400]),
      jitterMs: pick(random, [0, 0, 3, 40]),
      capacityBytes: pick(random, [3000, 20_000, 1_000_000]),
      chunkBytes: pick(random, [300, 2000, 65_536]),
      split: pick(random, [0, 0, 0.3]),
    };
    this.network = new SimNetwork(this.clock, settings, seededRandom(seed + 0.5 * 2 ** 32), this.trace);
    this.token = pick(this.random, [undefined, undefined, "a token"]);
    const size = pick(random, [2, 3, 3, 3, 4, 5]);
    for (let i = 0; i < size; i++) this.members.push(this.boot("abcdef"[i]!));
  }

  /** Switches a machine on. */
  private boot(name: string): Member {
    const host = new Host(name, this.clock);
    const { trace, ledger } = this;
    const node = new NodeRuntime({
      ...{ name, id: name, clock: host, heartbeat: HEARTBEAT },
      ...(this.token === undefined ? {} : { token: this.token }),
      actors: { Worker, Child },
      transports: [this.network.transport(host)],
      random: seededRandom(this.seed * 31 + this.random.integer(2 ** 30)),
      log: ({ message, error }) => {
        if (!host.alive) return;
        trace.note("log", name, message);
        if (error instanceof TypeError || error instanceof ReferenceError) {
          ledger.breach(`${name}: ${message}: ${error.stack}`);
        }
      },
    });
    node.onPeer(({ type, peer }) => {
      if (!host.alive) return;
      trace.note(type, name, peer.id, peer.incarnation);
      ledger.linkChanged(host, peer.id);
    });
    const started = new Map<string, Ref<any>>();
    const refs: Ref<any>[] = [];
    surroundings.set(node, {
      ...{ host, ledger, started, refs },
      born: (tree, index) => {
        if (host.alive) this.trees[tree]!.births[index]!++;
      },
      failed: (tree) => {
        if (host.alive) this.trees[tree]!.failures++;
      },
    });
    trace.note("boot", name);
    void node.listen(`sim://${name}`).catch((error) => ledger.expected(error, "listen"));
    return { name, host, node, refs, started };
  }

  /** Starts a machine again that is gone. */
  restart(member: Member): void {
    if (member.host.alive) return;
    Object.assign(member, this.boot(member.name));
  }

  /** @param silent as if its power were cut; otherwise as if its process were killed. */
  crash(member: Member, silent: boolean): void {
    this.trace.note("crash", member.name, silent ? "silently" : "");
    member.host.die();
    this.network.vanish(member.host, silent);
    this.ledger.forget(member.host);
  }

  /** A node leaves in good order; its machine is off afterwards. */
  async leave(member: Member): Promise<void> {
    const { node, host, name } = member;
    this.trace.note("leave", name);
    await node.close();
    if (!host.alive) return;
    this.trace.note("left in good order", name);
    this.checkSwitchedOff(member);
    host.die();
    this.network.vanish(host, false);
    this.ledger.forget(host);
  }

  /** Does something on a member's machine; its failure is the world's affair. */
  attempt(member: Member, what: string, work: () => Promise<unknown> | undefined): void {
    const { host } = member;
    host.enter(() => {
      const failed = (error: unknown) => {
        if (host.alive) this.ledger.expected(error, what);
      };
      try {
        work()?.then(undefined, failed);
      } catch (error) {
        failed(error);
      }
    });
  }

  /** Everyone connects to everyone. */
  async connect(): Promise<void> {
    for (const from of this.members) {
      for (const to of this.members) {
        if (from !== to && !this.met(from, to)) {
          const what = `${from.name} connects to ${to.name}`;
          await this.insist(what, () => from.node.connect(`sim://${to.name}`));
        }
      }
    }
  }

  startTree(member: Member, strategy: SupervisorSpec["strategy"], restarts: ChildSpec["restart"][]): void {
    const number = this.trees.length;
    const children = restarts.map((restart, index) =>
      child(Child, [number, index], { id: `child ${index}`, restart, shutdownMs: 500 }),
    );
    const spec = { strategy, intensity: INTENSITY, periodMs: 5000, children };
    const births = restarts.map(() => 0);
    const tree: Tree = {
      ...{ number, member, host: member.host, spec, births },
      ...{ supervisor: undefined, failures: 0, ended: false },
    };
    this.trees.push(tree);
    this.attempt(member, "a supervisor's start", async () => {
      const { host, node } = member;
      const supervisor = await node.spawn(Supervisor, [spec]);
      if (!host.alive) return;
      tree.supervisor = supervisor;
      member.started.set(supervisor.key, supervisor);
      for (const { ref } of await supervisor.ask.children()) if (ref) member.refs.push(ref);
    });
  }

  // --- the reckoning -------------------------------------------------------------------------------------------

  /** Heals everything and holds the cluster to what it promises. @returns what it broke. */
  async reckon(before: ReadonlyMap<string, Holdings> | undefined): Promise<readonly string[]> {
    const { ledger, clock } = this;
    this.network.heal();
    for (const { host } of this.members) if (host.isFrozen) host.thaw();
    for (const member of this.members) this.restart(member);
    await this.wait(() => ledger.unsettled.size === 0);
    for (const id of ledger.unsettled.keys()) ledger.breach(`ask ${id} never settled`);
    await clock.advance(10_000);
    for (const tree of this.trees) await this.checkTree(tree);
    await this.connect();
    await clock.advance(5000);
    this.checkGroups();
    for (const [i, member] of this.members.entries()) {
      const next = this.members[(i + 1) % this.members.length]!;
      await this.checkWorks(member, next);
      await this.checkWorks(next, member);
    }
    for (const member of this.members) await this.stopAll(member);
    await clock.advance(1000);
    ledger.checkMonitors();
    for (const [name, holds] of this.inventory() ?? []) {
      for (const leak of grown(before!.get(name)!, holds)) ledger.breach(`${name} leaks ${leak}`);
    }
    const closed = Promise.all(this.members.map(({ node }) => node.close()));
    await clock.advance(PATIENCE_MS);
    await closed;
    for (const member of this.members) this.checkSwitchedOff(member);
    if (this.network.pipes.size > 0) ledger.breach(`${this.network.pipes.size} connections are left open`);
    if (this.network.listening > 0)
      ledger.breach(`${this.network.listening} addresses are still listened on`);
    return ledger.breaches;
  }

  /** Whether leaks are looked for. */
  get isSearched(): boolean {
    return this.seed % SEARCHED === 0;
  }

  /** What nodes hold that have done nothing yet. */
  inventory(): ReadonlyMap<string, Holdings> | undefined {
    if (!this.isSearched) return undefined;
    return new Map(this.members.map(({ name, node }) => [name, holdings(node)]));
  }

  private checkSwitchedOff({ name, host }: Member): void {
    if (host.pending > 0) this.ledger.breach(`${name} has closed and left ${host.pending} timers`);
  }

  private async checkTree({ host, spec, supervisor, births, failures, ended, number }: Tree): Promise<void> {
    if (!host.alive || !supervisor) return;
    const bad = (...words: (string | number)[]) => this.ledger.breach(`tree ${number}:`, ...words);
    const asked = supervisor.ask.children().catch((error) => error as Error & { code?: string });
    const children = await this.timely(asked);
    if (!children) return bad("its supervisor does not answer");
    if (children instanceof Error) {
      if (children.code !== "ACTOR_DOWN") bad(`its supervisor answers ${children.message}`);
      if (!ended && failures <= INTENSITY) bad(`its supervisor gave up after ${failures} failures`);
      return;
    }
    const ids = spec.children.map(({ id }) => id).filter((id) => children.some((c) => c.id === id));
    if (children.map(({ id }) => id).join() !== ids.join()) bad("its children are out of order");
    for (const { id, restart } of spec.children) {
      const found = children.find((c) => c.id === id);
      if (!found && restart === "permanent") bad(`${id} is permanent and gone`);
      // OTP keeps a transient child that ended in good order, as one that is not running.
      if (!found || (restart === "transient" && !found.ref)) continue;
      if (!found.running || !found.ref) {
        bad(`${id} is not running`);
        continue;
      }
      const answer = await this.timely(found.ref.ask.peek(7).catch((error: Error) => error.message));
      if (answer !== 7) bad(`${id} is running and answers ${answer}`);
    }
    if (spec.children.some(({ restart }) => restart !== "permanent")) return;
    const first = births[0]!;
    if (spec.strategy === "one_for_all" && births.some((n) => n !== first)) {
      bad(`one for all, and lives are ${births}`);
    }
    if (spec.strategy === "rest_for_one" && births.some((n, i) => i > 0 && n < births[i - 1]!)) {
      bad(`rest for one, and lives are ${births}`);
    }
  }

  /** Everybody sees the members that everybody has, and no others. */
  private checkGroups(): void {
    const names = new Set(this.members.flatMap(({ node }) => node.groups.names()));
    for (const name of names) {
      const keys = (refs: readonly Ref<any>[]) => refs.map(({ key }) => key).sort();
      const all = keys(this.members.flatMap(({ node }) => node.groups.localMembers(name)));
      for (const { name: who, node } of this.members) {
        const seen = keys(node.groups.members(name));
        if (seen.join() !== all.join())
          this.ledger.breach(`${who} sees ${seen} in ${name}, there are ${all}`);
      }
    }
  }

  /** After all that has happened, one node can start an actor on another and talk to it. */
  private async checkWorks(from: Member, to: Member): Promise<void> {
    const what = `${from.name} uses ${to.name}`;
    const ref = await this.insist(what, () => from.node.spawnOn<Worker>(to.name, "Worker", []));
    if (ref && (await this.timely(ref.ask.peek(3).catch((error: Error) => error.message))) !== 3) {
      this.ledger.breach(`${what}: no answer`);
    }
  }

  private async stopAll({ node, started, name }: Member): Promise<void> {
    for (const ref of [...started.values()].reverse()) {
      const outcome = await this.timely(node.stop(ref).then(() => "stopped", String));
      if (outcome !== "stopped") this.ledger.breach(`${ref.key} on ${name} does not stop: ${outcome}`);
    }
  }

  private met(from: Member, to: Member): boolean {
    const known = from.node.peers().find(({ id }) => id === to.name);
    return known?.incarnation === to.node.incarnation;
  }

  /** Tries until it succeeds, for as long as a healthy world may take. */
  private async insist<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
    let last = "no answer";
    for (let attempt = 0; attempt < 10; attempt++) {
      const outcome = await this.timely(
        work().then(
          (value) => ({ value }),
          (error) => ({ error: error as Error }),
        ),
      );
      if (outcome && "value" in outcome) return outcome.value;
      if (outcome) last = outcome.error.message;
      await this.clock.advance(1000);
    }
    this.ledger.breach(`${what}: ${last}`);
    return undefined;
  }

  /** What a promise settles with; undefined when it does not within the world's patience. */
  async timely<T>(promise: Promise<T>): Promise<T | undefined> {
    let result: T | undefined;
    let settled = false;
    promise.then((value) => {
      result = value;
      settled = true;
    });
    await this.wait(() => settled);
    return result;
  }

  private wait(condition: () => boolean): Promise<void> {
    return this.clock.advance(PATIENCE_MS, condition);
  }
}

/** One of several, each as often as it is listed. */
export function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[random.integer(choices.length)]!;
}
