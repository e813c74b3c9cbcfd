/**
 * A node: one process's part of the runtime. It hosts actors, listens for and connects to other nodes, starts
 * actors of registered classes for them, and passes messages either way. Everything it needs of the world (time,
 * randomness, transports, memory) is handed in.
 */

import { DEFAULT_LIMITS } from "../protocols/limits.ts";
import type { Envelope } from "../protocols/messages.ts";
import { Actor, type ActorClass, type SuperviseOptions } from "./actor.ts";
import { Cell, type CellHost, SHUTDOWN_MS } from "./cell.ts";
import { type Clock, systemClock } from "./clock.ts";
import { type ContextHost, createContext } from "./context.ts";
import { DeadLetters } from "./deadletters.ts";
import { DEFAULT_HEARTBEAT } from "./detector.ts";
import { type Introduction, Introductions } from "./discovery/introductions.ts";
import { Dispatcher } from "./dispatcher.ts";
import { asError, RuntimeError } from "./errors.ts";
import { Groups } from "./groups.ts";
import { type HostedSpawn, Hosting } from "./hosting.ts";
import { type Joining, Joinings, type JoinOptions } from "./join.ts";
import { consoleLog, guarded, type Log } from "./log.ts";
import { Membership, type PeerEvent } from "./membership.ts";
import { methodsOf } from "./methods.ts";
import type { Down, DownReason, Monitor } from "./monitor.ts";
import type { NodeOptions, RemoteSpawnOptions, SpawnOptions } from "./node_options.ts";
import type { NodeStatus } from "./node_status.ts";
import type { Peer, PeerInfo, Request } from "./peer.ts";
import { type Random, systemRandom } from "./random.ts";
import { type Ref, type StopOptions, targetOf } from "./ref.ts";
import { References } from "./references.ts";
import { Registry } from "./registry.ts";
import { MACHINE_CAPABILITY } from "./routes.ts";
import { serve } from "./serve.ts";
import { type Signal, Switchboard } from "./switchboard.ts";
import { type Times, timesOf } from "./times.ts";
import type { Tombstone } from "./tombstones.ts";

/** One process's, thread's or page's part of the runtime. */
export class NodeRuntime {
  /** Unique in its cluster: given, or the name with random digits. */
  readonly id: string;
  /** For people. */
  readonly name: string;
  /** Milliseconds since the epoch at the start: grows from one start to the next. */
  readonly incarnation: number;
  /** Where all of it takes the time from. */
  readonly clock: Clock;
  /** Where all of it takes chance from. */
  readonly random: Random;
  /** Tells that nobody handled, counted and to be watched. */
  readonly deadLetters: DeadLetters;
  /** Named sets of actors that all connected nodes see. */
  readonly groups: Groups;
  /** What people should know goes here. */
  readonly log: Log;
  /** How long whoever is silent or stuck is waited for. */
  readonly times: Times;
  private readonly cells = new Map<number, Cell>();
  private readonly registry = new Registry<Cell>();
  private readonly membership: Membership;
  private readonly cellHost: CellHost;
  private readonly references: References;
  private readonly hosting: Hosting;
  private readonly introductions: Introductions;
  private readonly switchboard: Switchboard;
  private readonly joinings: Joinings;
  private nextActor = 1;
  private messagesReceived = 0;
  private closing: Promise<void> | undefined;

  /** Connects nowhere yet; `close` it in the end. @throws ProtocolError for a name that others would refuse. */
  constructor(options: NodeOptions) {
    this.clock = options.clock ?? systemClock;
    this.random = options.random ?? systemRandom;
    this.log = guarded(options.log ?? consoleLog);
    this.deadLetters = new DeadLetters(this.log);
    this.name = options.name;
    this.id = options.id ?? `${options.name}-${hex(this.random.bytes(4))}`;
    this.incarnation = Math.floor(this.clock.now());
    const { heartbeat = DEFAULT_HEARTBEAT } = options;
    this.times = timesOf(heartbeat.patienceMs);
    this.membership = new Membership({
      identity: {
        ...{ id: this.id, name: this.name, incarnation: this.incarnation },
        capabilities: {
          ...options.capabilities,
          ...(options.machine === undefined ? {} : { [MACHINE_CAPABILITY]: options.machine }),
        },
      },
      transports: options.transports ?? [],
      token: options.token,
      clock: this.clock,
      random: this.random,
      limits: { ...DEFAULT_LIMITS, ...options.limits },
      heartbeat,
      allocate: options.allocate ?? ((bytes) => new Uint8Array(bytes)),
      codecHooks: {
        encodeRef: (value) => this.references.encode(value),
        decodeRef: (data) => this.references.decode(data),
      },
      log: this.log,
      onMessage: (peer, envelope, taken) => {
        this.messagesReceived++;
        serve(this.server, peer, envelope, taken);
      },
    });
    this.introductions = new Introductions(this.membership);
    this.membership.subscribe((event) => this.introductions.onPeer(event));
    const { id, clock, random, times, log, membership, introductions } = this;
    this.joinings = new Joinings({ id, clock, random, times, log, membership, introductions });
    this.switchboard = new Switchboard({
      ...{ id, token: options.token, clock, random, routeMs: times.routeMs },
      peers: () => membership.connected(),
      find: (id) => membership.find(id),
      subscribe: (subscriber) => membership.subscribe(subscriber),
    });
    for (const transport of options.transports ?? []) transport.attach?.(this.switchboard);
    this.hosting = new Hosting(
      {
        ...{ name: this.name, log: this.log },
        spawn: (actor, args, name) => this.spawn(actor, args as any[], name === undefined ? {} : { name }),
      },
      options.actors ?? {},
    );
    this.groups = new Groups({
      ...{ log: this.log, random: this.random },
      find: (node) => this.membership.find(node),
    });
    this.membership.subscribe((event) => this.groups.onPeer(event));
    this.references = new References({
      ...{ id: this.id, incarnation: this.incarnation, random: this.random, deadLetters: this.deadLetters },
      remote: {
        clock: this.clock,
        deadLetters: this.deadLetters,
        reach: (address, callback) => this.membership.reach(address, callback),
      },
      askTimeoutMs: options.askTimeoutMs,
      addresses: this.membership.addresses,
      addressesOf: (node) => this.membership.addressesOf(node),
    });
    const contextHost: ContextHost = {
      node: this,
      createCell: (parent, actor, args, settings) => this.createCell(parent, actor, args, settings),
    };
    this.cellHost = {
      clock: this.clock,
      dispatcher: new Dispatcher(this.clock),
      deadLetters: this.deadLetters,
      log: this.log,
      createRef: (cell) => this.references.create(cell, cell.options.table),
      createContext: (cell) => createContext(contextHost, cell),
      release: (cell) => {
        this.cells.delete(cell.options.id);
        this.references.release(cell.ref);
        if (cell.options.name !== undefined) this.registry.release(cell.options.name, cell);
      },
    };
  }

  /** Starts an actor here. @throws RuntimeError SPAWN_FAILED (with its cause), NAME_TAKEN, NODE_CLOSED. */
  async spawn<A extends Actor, Args extends readonly any[]>(
    actor: ActorClass<A, Args>,
    args: Args,
    options: SpawnOptions = {},
  ): Promise<Ref<A>> {
    const cell = this.createCell(undefined, actor as ActorClass, args, options);
    const starting = cell.launch();
    if (starting) await starting;
    return cell.ref as unknown as Ref<A>;
  }

  /**
   * Starts an actor of a class registered under this name on another node (or this one), which is connected to
   * again if it was here before. When the link is lost meanwhile nobody knows whether the actor was started; one
   * with an owner ends with it all the same.
   * @throws RuntimeError UNKNOWN_CLASS, SPAWN_REFUSED, SPAWN_FAILED (with their causes), NAME_TAKEN, NODE_LOST.
   */
  async spawnOn<A>(
    node: string,
    className: string,
    args: readonly unknown[],
    { name, owner }: RemoteSpawnOptions = {},
  ): Promise<Ref<A>> {
    if (node === this.id) return this.hosting.spawn({ className, args, name, owner });
    const request = { className, args: [...args], name: name ?? null, owner: owner ?? null };
    return (await this.request(node, { type: "spawn", ...request })) as Ref<A>;
  }

  /** The actor registered under a name on a node, or null. @throws RuntimeError NODE_LOST. */
  async lookup<A>(node: string, name: string): Promise<Ref<A> | null> {
    if (node === this.id) return this.server.findLocal(name);
    return (await this.request(node, { type: "lookup", name })) as Ref<A> | null;
  }

  /** The names registered on a node, this one unless told otherwise. @throws RuntimeError NODE_LOST. */
  async names(node: string = this.id): Promise<string[]> {
    if (node === this.id) return this.registry.list();
    return (await this.request(node, { type: "names" })) as string[];
  }

  /** Calls back once when the actor is gone. */
  monitor(ref: Ref<any>, callback: (down: Down) => void): Monitor {
    let cancelled = false;
    const unwatch = targetOf(ref).watch((reason) => {
      if (cancelled) return;
      try {
        callback({ ref, reason });
      } catch (error) {
        this.log({ level: "error", message: `a monitor of ${ref.key} failed`, error: asError(error) });
      }
    });
    const cancel = () => {
      cancelled = true;
      unwatch();
    };
    return { ref, cancel };
  }

  /**
   * Ends an actor once its methods in progress have settled, or, with `drain`, once it has handled all it was sent;
   * resolves when it has ended. By force after the shutdown time of its class: five seconds, unless it says otherwise.
   */
  stop(ref: Ref<any>, { drain = false }: StopOptions = {}): Promise<void> {
    return targetOf(ref).end(false, drain);
  }

  /** Ends an actor at once, without its `onStop`. */
  kill(ref: Ref<any>): Promise<void> {
    return targetOf(ref).end(true);
  }

  /** Takes connections; returns the address with the port that was taken. @throws RuntimeError LISTEN_FAILED. */
  listen(address: string): Promise<string> {
    return this.membership.listen(address);
  }

  /**
   * Connects, or finds the connection that is there; the other end has this node among its peers before it handles
   * anything this node sends. A nearer way to the same node is preferred, see routes.ts.
   * @throws RuntimeError CONNECT_FAILED naming the address; the handshake's ProtocolError or LinkClosedByPeer.
   */
  async connect(address: string): Promise<PeerInfo> {
    return (await this.membership.connect(address)).info;
  }

  /**
   * Connects to the first of these addresses that answers, and again after every loss, until it is stopped or the
   * node closes; see join.ts.
   */
  join(addresses: string | readonly string[], options: JoinOptions = {}): Joining {
    if (this.closing) throw new RuntimeError("NODE_CLOSED", `node ${this.name} is closed`);
    return this.joinings.join(typeof addresses === "string" ? [addresses] : addresses, options);
  }

  /** The nodes another one is connected to, without this one. @throws RuntimeError NODE_LOST. */
  discover(via: string): Promise<readonly Introduction[]> {
    return this.introductions.discover(via);
  }

  /** The nodes this one is connected to. */
  peers(): PeerInfo[] {
    return this.membership.list();
  }

  /** The nodes that were and are no more, the first to leave first; some are forgotten. */
  departed(): readonly Tombstone[] {
    return this.membership.departed();
  }

  /** Told of nodes that join and leave, from now on. Returns a function that ends it. */
  onPeer(subscriber: (event: PeerEvent) => void): () => void {
    return this.membership.subscribe(subscriber);
  }

  /** The node's state at this moment, as plain data. */
  status(): NodeStatus {
    const { id, name, incarnation, addresses, messagesReceived } = this;
    return {
      ...{ id, name, incarnation, addresses: [...addresses], messagesReceived },
      ...{ peers: this.peers(), actors: this.cells.size, deadLetters: this.deadLetters.count },
      relayed: { pipes: this.switchboard.relayed.pipes, bytes: this.switchboard.relayed.bytes },
    };
  }

  /** Where other nodes can connect to. */
  get addresses(): readonly string[] {
    return this.membership.addresses;
  }

  /**
   * Stops all actors, the youngest first, says goodbye to all peers and frees all addresses. Whoever has not
   * stopped after `shutdownMs` is killed. Idempotent.
   */
  close(shutdownMs: number = SHUTDOWN_MS): Promise<void> {
    this.closing ??= (async () => {
      this.joinings.close();
      const deadline = this.clock.now() + shutdownMs;
      const roots = [...this.cells.values()].filter((cell) => !cell.options.parent).reverse();
      for (const cell of roots) await cell.stop(Math.max(0, deadline - this.clock.now()));
      await this.membership.close(`${this.name} is closing`);
    })();
    return this.closing;
  }

  private readonly server = {
    deadLetter: (to: string, method: string, error: Error) => this.deadLetters.post(to, method, error),
    served: (actor: number) => this.references.served(actor),
    names: () => this.registry.list(),
    findLocal: (name: string): Ref<any> | null => this.registry.find(name)?.ref ?? null,
    spawn: (wanted: HostedSpawn, asker: Peer) => this.hosting.spawn(wanted, asker),
    grouped: (by: Peer, envelope: Extract<Envelope, { type: "groups" }>) =>
      this.groups.received(by, envelope),
    introduce: (asker: Peer, follow: boolean) => this.introductions.answer(asker, follow),
    introduced: (by: Peer, node: unknown) => this.introductions.introduced(by, node),
    signalled: (by: Peer, signal: Signal) => this.switchboard.handle(by, signal),
  };

  private createCell(
    parent: Cell | undefined,
    actor: ActorClass,
    args: readonly unknown[],
    options: SpawnOptions & Partial<SuperviseOptions>,
  ): Cell {
    if (this.closing) throw new RuntimeError("NODE_CLOSED", `node ${this.name} is closed`);
    if (typeof actor !== "function" || !(actor.prototype instanceof Actor) || !Array.isArray(args)) {
      const what = typeof actor === "function" ? actor.name || "a function without a name" : typeof actor;
      const said = `spawn takes a class that extends Actor and its constructor's arguments as an array`;
      throw new RuntimeError(
        "SPAWN_FAILED",
        `${said}; got ${what} and ${Array.isArray(args) ? "an array" : typeof args}`,
      );
    }
    const { name } = options;
    const id = this.nextActor++;
    if (name !== undefined && this.registry.find(name)) {
      throw new RuntimeError("NAME_TAKEN", `the name "${name}" belongs to another actor on ${this.name}`);
    }
    const onExit = parent && options.onExit ? exitSignal(parent, options.onExit) : undefined;
    const cell = new Cell(this.cellHost, { id, actor, args, name, parent, table: methodsOf(actor), onExit });
    if (name !== undefined) this.registry.register(name, cell);
    this.cells.set(id, cell);
    return cell;
  }

  private async request(
    node: string,
    request:
      | Omit<Extract<Request, { type: "spawn" }>, "id">
      | Omit<Extract<Request, { type: "lookup" }>, "id">
      | Omit<Extract<Request, { type: "names" }>, "id">,
  ): Promise<unknown> {
    const peer: Peer = await this.membership.again(node);
    return new Promise((resolve, reject) => {
      peer.request(request, "", { resolve, reject });
    });
  }
}

/** Apart, because a closure keeps alive whatever is around it. */
function exitSignal(parent: Cell, onExit: SuperviseOptions["onExit"]): (reason: DownReason) => void {
  return (reason) => parent.signal(() => onExit(reason));
}

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
