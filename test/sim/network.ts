/**
 * A simulated network between hosts: connections with a delay for each pair and direction, partitions (one-way ones
 * too) that hold traffic up as TCP's retransmission does, connections that are lost, machines that vanish silently
 * or whose kernel still says goodbye. Within a connection order is kept, between connections it is not.
 */

import type { VirtualClock } from "../../runtime/clock.ts";
import { RuntimeError } from "../../runtime/errors.ts";
import type { Random } from "../../runtime/random.ts";
import type { Pipe, PipeHandlers, Transport } from "../../runtime/transports/transport.ts";
import type { Host } from "./host.ts";
import type { Trace } from "./trace.ts";

export interface NetworkSettings {
  /** Each pair and direction gets a delay below this. */
  readonly maxDelayMs: number;
  /** Each piece takes up to this much longer. */
  readonly jitterMs: number;
  readonly capacityBytes: number;
  readonly chunkBytes: number;
  /** Share of writes that arrive in two pieces. */
  readonly split: number;
}

/** How long a connection attempt waits for an answer. */
const PATIENCE_MS = 3000;

/** One direction between two hosts. */
class Path {
  blocked = false;
  readonly delayMs: number;
  private held: (() => void)[] = [];

  constructor(delayMs: number) {
    this.delayMs = delayMs;
  }

  arrive(work: () => void): void {
    if (this.blocked) this.held.push(work);
    else work();
  }

  heal(): void {
    this.blocked = false;
    for (const work of this.held.splice(0)) work();
  }
}

export class SimPipe implements Pipe {
  handlers!: PipeHandlers;
  readonly chunkBytes: number;
  readonly peer: string;
  readonly from: Host;
  readonly to: Host;
  other!: SimPipe;
  open = true;
  /** Nothing arrives before this. */
  lastArrival = 0;
  private underWay = 0;
  private short = false;
  private readonly network: SimNetwork;

  constructor(network: SimNetwork, from: Host, to: Host, peer: string) {
    this.network = network;
    this.chunkBytes = network.settings.chunkBytes;
    this.from = from;
    this.to = to;
    this.peer = peer;
  }

  write(bytes: Uint8Array): number {
    if (!this.open || !this.from.alive) return 0;
    const { settings, random } = this.network;
    const accepted = Math.min(bytes.byteLength, settings.capacityBytes - this.underWay);
    if (accepted < bytes.byteLength) this.short = true;
    if (accepted === 0) return 0;
    const copy = bytes.slice(0, accepted);
    this.underWay += accepted;
    const pieces = this.network.tamper(copy);
    const cut = accepted > 1 && random.next() < settings.split ? 1 + random.integer(accepted - 1) : 0;
    for (const piece of pieces) {
      if (cut > 0) {
        this.carry(piece.subarray(0, cut));
        this.carry(piece.subarray(cut));
      } else this.carry(piece);
    }
    return accepted;
  }

  close(error?: Error): void {
    if (!this.open) return;
    this.end();
    queueMicrotask(() => this.from.alive && this.handlers.onClose(error));
    if (this.from.alive) this.farewell();
  }

  /** Behind what was written, the other end is told that this one is closed. */
  farewell(): void {
    this.network.send(this, () => this.other.hangUp());
  }

  /** This end learns, as its host does, that the connection is gone. */
  hangUp(error?: Error): void {
    if (!this.open) return;
    this.end();
    this.network.trace.note("closed", this.from.name, this.to.name);
    // An end that was never opened has nobody to tell.
    this.from.enter(() => this.handlers?.onClose(error));
  }

  private end(): void {
    this.open = false;
    this.network.pipes.delete(this);
  }

  private carry(piece: Uint8Array): void {
    this.network.send(this, () => {
      this.underWay = Math.max(0, this.underWay - piece.byteLength);
      this.deliver(piece);
      if (!this.short || !this.open) return;
      this.short = false;
      this.from.enter(() => this.open && this.handlers.onDrain());
    });
  }

  private deliver(piece: Uint8Array): void {
    const { other } = this;
    this.network.trace.count(piece.byteLength);
    if (!other.open) {
      // The other end has forgotten this connection: a reset, if there is anybody to send one.
      if (this.network.answers(this.to.name)) {
        this.network.send(other, () => this.hangUp(new RuntimeError("NODE_LOST", "connection reset")));
      }
      return;
    }
    this.to.enter(() => other.open && other.handlers.onData(piece));
  }
}

export class SimNetwork {
  readonly settings: NetworkSettings;
  readonly random: Random;
  readonly trace: Trace;
  readonly pipes = new Set<SimPipe>();
  /** What a pipe makes of a write; a broken network changes it. */
  tamper: (bytes: Uint8Array) => readonly Uint8Array[] = (bytes) => [bytes];
  private readonly clock: VirtualClock;
  private readonly paths = new Map<string, Path>();
  /** Who runs under a name now. A machine that was switched off is in here until it is started again. */
  private readonly hosts = new Map<string, Host>();
  private readonly listeners = new Map<string, (pipe: Pipe) => PipeHandlers>();
  private nextPort = 1;

  constructor(clock: VirtualClock, settings: NetworkSettings, random: Random, trace: Trace) {
    this.clock = clock;
    this.settings = settings;
    this.random = random;
    this.trace = trace;
  }

  /** What a host's node speaks: addresses are `sim://<host>`. */
  transport(host: Host): Transport {
    this.hosts.set(host.name, host);
    return {
      scheme: "sim",
      listen: async (address, accept) => {
        if (this.listeners.has(address)) {
          throw new RuntimeError("LISTEN_FAILED", `the address ${address} is in use`);
        }
        this.listeners.set(address, accept);
        return { address, close: async () => void this.listeners.delete(address) };
      },
      connect: (address, handlers) => this.connect(host, address, handlers),
    };
  }

  get listening(): number {
    return this.listeners.size;
  }

  /** Blocks or heals one direction. */
  block(from: string, to: string, blocked: boolean): void {
    const path = this.path(from, to);
    if (blocked) path.blocked = true;
    else path.heal();
  }

  heal(): void {
    for (const path of this.paths.values()) path.heal();
  }

  /** A connection is lost, with what was under way; both ends are told. */
  cut(pipe: SimPipe): void {
    for (const end of [pipe, pipe.other]) end.hangUp(new RuntimeError("NODE_LOST", "connection lost"));
  }

  /** A host is gone. @param silent nobody is told; otherwise its kernel closes its connections. */
  vanish(host: Host, silent: boolean): void {
    this.listeners.delete(`sim://${host.name}`);
    for (const pipe of [...this.pipes]) {
      if (pipe.from !== host) continue;
      pipe.open = false;
      this.pipes.delete(pipe);
      if (!silent) pipe.farewell();
    }
  }

  /** Is there a machine that would answer for this name, if only to say that it knows nothing? */
  answers(name: string): boolean {
    return this.hosts.get(name)?.alive ?? false;
  }

  /** Carries something behind all else its pipe has sent. */
  send(pipe: SimPipe, arrived: () => void): void {
    const path = this.path(pipe.from.name, pipe.to.name);
    const at = this.clock.now() + path.delayMs + this.random.integer(this.settings.jitterMs + 1);
    pipe.lastArrival = Math.max(pipe.lastArrival, at);
    this.clock.setTimer(() => path.arrive(arrived), pipe.lastArrival - this.clock.now());
  }

  private connect(from: Host, address: string, handlers: (pipe: Pipe) => PipeHandlers): Promise<Pipe> {
    const name = address.slice("sim://".length);
    const { promise, resolve, reject } = Promise.withResolvers<Pipe>();
    const failed = (why: string) =>
      reject(new RuntimeError("CONNECT_FAILED", `cannot connect to ${address}: ${why}`));
    let late = false;
    const patience = this.clock.setTimer(() => {
      late = true;
      from.enter(() => failed("no answer"));
    }, PATIENCE_MS);
    const there = this.path(from.name, name);
    const back = this.path(name, from.name);
    const travel = (path: Path, work: () => void) =>
      this.clock.setTimer(() => path.arrive(work), path.delayMs);
    const answer = (work: () => void) =>
      travel(back, () =>
        from.enter(() => {
          this.clock.clearTimer(patience);
          work();
        }),
      );
    travel(there, () => {
      const host = this.hosts.get(name);
      if (!host?.alive) return; // A machine that is off says nothing.
      if (!this.listeners.has(address)) return answer(() => failed("refused"));
      host.enter(() => {
        const accept = this.listeners.get(address);
        if (!accept) return answer(() => failed("refused"));
        const far = new SimPipe(this, host, from, `sim://${from.name}#${this.nextPort++}`);
        const near = new SimPipe(this, from, host, address);
        near.other = far;
        far.other = near;
        // Until the connection is known at the near end, nothing that happens to it can be told there.
        far.lastArrival = this.clock.now() + back.delayMs;
        this.trace.note("connected", from.name, name);
        this.pipes.add(far);
        // Who has asked may be gone meanwhile.
        near.open = from.alive;
        if (near.open) this.pipes.add(near);
        answer(() => {
          if (!near.open) return failed("reset");
          if (late) {
            near.handlers = { onData() {}, onDrain() {}, onClose() {} };
            return near.close();
          }
          near.handlers = handlers(near);
          resolve(near);
        });
        far.handlers = accept(far);
      });
      return undefined;
    });
    return promise;
  }

  private path(from: string, to: string): Path {
    const key = `${from}>${to}`;
    let path = this.paths.get(key);
    if (!path) {
      path = new Path(this.random.integer(this.settings.maxDelayMs));
      this.paths.set(key, path);
    }
    return path;
  }
}
