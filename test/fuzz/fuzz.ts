/**
 * A fuzzer of links: a live node, a healthy peer that goes on asking it, and an attacker that feeds it what was
 * recorded of real sessions, mangled: before the handshake, in it, and after it with a peer's own rights. The node
 * must close that link, and nothing else may come of it.
 */

import { FrameKind } from "../../protocols/frame.ts";
import { Actor } from "../../runtime/actor.ts";
import { NodeRuntime } from "../../runtime/node.ts";
import { type Random, seededRandom } from "../../runtime/random.ts";
import type { Ref } from "../../runtime/ref.ts";
import type { Transport } from "../../runtime/transports/transport.ts";
import { grown, holdings } from "../sim/leaks.ts";
import { framesOf, mutant } from "./corpus.ts";
import { Tap } from "./tap.ts";

export interface FuzzOptions {
  make(): Transport;
  /** Asks for any free place. */
  readonly address: string;
  readonly frames: number;
  readonly seed: number;
  /** The join token of victim, healthy peer and attacker. */
  readonly token?: string;
}

export interface FuzzReport {
  readonly frames: number;
  readonly connections: number;
  /** Links of attackers that were refused or closed, by the code of the reason. */
  readonly closed: ReadonlyMap<string, number>;
  /** Asks of the healthy peer, each answered rightly over the link it had from the start. */
  readonly healthyAsks: number;
  /** Bytes by which the heap and its buffers have grown from a third of the way to the end. */
  readonly grownBytes: number;
  /** What the node holds on to after all attackers are gone. */
  readonly leaks: readonly string[];
}

class Echo extends Actor {
  async echo(value: unknown): Promise<unknown> {
    return value;
  }
}

/** Whatever is started over the wire is gone at once. */
class Guest extends Actor {
  override onStart(): void {
    this.context.stop();
  }
}

/** Frames that go to one link in a row before its fate is looked at. */
const MOST_IN_A_ROW = 6;
const MOST_ROWS = 30;
/** Links between two asks of the healthy peer. */
const ASK_EVERY = 20;

export async function fuzz(options: FuzzOptions): Promise<FuzzReport> {
  const random = seededRandom(options.seed);
  const nodes: NodeRuntime[] = [];
  const closed = new Map<string, number>();
  const node = (name: string, transport: Transport): NodeRuntime => {
    const made = new NodeRuntime({
      ...{ name, id: name, transports: [transport], actors: { Guest }, random, log: () => {} },
      ...(options.token === undefined ? {} : { token: options.token }),
    });
    nodes.push(made);
    return made;
  };
  try {
    const victim = node("victim", options.make());
    const address = await victim.listen(options.address);
    const healthy = node("healthy", options.make());
    await healthy.connect(address);
    let left = 0;
    victim.onPeer((event) => {
      if (event.type !== "left") return;
      if (event.peer.id === "healthy") left++;
      const { code = "GOODBYE" } = (event.error ?? {}) as { code?: string };
      closed.set(code, (closed.get(code) ?? 0) + 1);
    });
    await victim.spawn(Echo, [], { name: "healthy's" });
    const echo = (await healthy.lookup<Echo>("victim", "healthy's"))!;
    const before = holdings(victim);
    const attack = new Attack(options, random, node, victim, address);

    let [frames, connections, healthyAsks, start] = [0, 0, 0, 0];
    while (frames < options.frames) {
      frames += await attack.once();
      connections++;
      if (connections % ASK_EVERY === 0) {
        const value = random.integer(2 ** 30);
        if ((await echo.ask.echo(value)) !== value) throw new Error("a healthy ask was answered wrongly");
        healthyAsks++;
      }
      if (start === 0 && frames > options.frames / 3) start = heapBytes();
    }
    if (left > 0) throw new Error("the healthy peer lost its link");
    await attack.end();
    const grownBytes = heapBytes() - start;
    const leaks = grown(before, holdings(victim));
    return { frames, connections, closed, healthyAsks, grownBytes, leaks };
  } finally {
    for (const each of nodes.reverse()) await each.close();
  }
}

/** Somebody who connects again and again. */
class Attack {
  private readonly random: Random;
  private readonly victim: NodeRuntime;
  private readonly address: string;
  private readonly tap: Tap;
  private readonly recorder: Tap;
  /** A peer by right: it knows the token. */
  private readonly insider: NodeRuntime;
  private readonly witness: NodeRuntime;
  private readonly raw: Transport;
  private target: Ref<Echo> | undefined;
  private corpus: Uint8Array[] = [];

  constructor(
    options: FuzzOptions,
    random: Random,
    node: (name: string, transport: Transport) => NodeRuntime,
    victim: NodeRuntime,
    address: string,
  ) {
    this.random = random;
    this.victim = victim;
    this.address = address;
    this.raw = options.make();
    this.tap = new Tap(options.make());
    this.recorder = new Tap(options.make(), true);
    this.insider = node("insider", this.tap.transport);
    this.witness = node("witness", this.recorder.transport);
  }

  /** One connection until it is closed. Returns how many frames it took. */
  async once(): Promise<number> {
    if (!this.target || (await this.isGone(this.target))) await this.record();
    return this.random.next() < 0.4 ? this.outside() : this.inside();
  }

  async end(): Promise<void> {
    await this.victim.stop(this.target!);
    await this.insider.close();
    await this.witness.close();
    await turns(50);
  }

  /** As a stranger, from the first byte. */
  private async outside(): Promise<number> {
    let open = true;
    const pipe = await this.raw.connect(this.address, () => ({
      onData: () => {},
      onDrain: () => {},
      onClose: () => {
        open = false;
      },
    }));
    // Some begin as they should, with what somebody else has said before.
    const begin = this.random.next() < 0.5 ? this.corpus.slice(0, 1 + this.random.integer(2)) : [];
    for (const frame of begin) pipe.write(frame);
    const frames = await this.feed(
      (bytes) => pipe.write(bytes),
      () => open,
    );
    pipe.close();
    return frames + begin.length;
  }

  /** As a peer that has proved itself. */
  private async inside(): Promise<number> {
    const { insider, tap } = this;
    await insider.connect(this.address);
    const pipe = tap.pipe!;
    const open = () => insider.peers().length > 0;
    // Names first, as they were told when it was recorded: calls by number go deeper.
    for (const frame of this.corpus) if (frame[3] === FrameKind.name) pipe.write(frame);
    // One in ten only leaves, in the middle of a frame: few get to an end that they choose themselves.
    const frames = this.random.next() < 0.1 ? 1 : await this.feed((bytes) => pipe.write(bytes), open);
    if (frames === 1) pipe.write(this.corpus.at(-1)!.slice(0, 18));
    pipe.close();
    for (let i = 0; (open() || this.victim.peers().some(({ id }) => id === "insider")) && i < 1000; i++) {
      await turns(1);
    }
    return frames;
  }

  private async feed(write: (bytes: Uint8Array) => number, open: () => boolean): Promise<number> {
    const { random, corpus } = this;
    let fed = 0;
    for (let row = 0; row < MOST_ROWS && open(); row++) {
      const count = 1 + random.integer(MOST_IN_A_ROW);
      for (let i = 1; i < count; i++) write(corpus[random.integer(corpus.length)]!);
      write(mutant(random, corpus));
      fed += count;
      await turns(1);
    }
    return fed;
  }

  /** A session in which everything happens that nodes say to each other. */
  private async record(): Promise<void> {
    const { victim, witness, recorder } = this;
    this.target = await victim.spawn(Echo, [], { name: "target" });
    await witness.connect(this.address);
    const named = (await witness.lookup<Echo>("victim", "target"))!;
    for (const value of [1, "text", null, [1, { a: [2] }], new Uint8Array(5000), named]) {
      await named.ask.echo(value);
      named.tell.echo(value);
    }
    await witness.spawnOn("victim", "Guest", [1]).catch(() => undefined);
    await witness.spawnOn("victim", "Nobody", []).catch(() => undefined);
    witness.monitor(named, () => undefined).cancel();
    witness.monitor(named, () => undefined);
    await (named.ask as any).unknown().catch(() => undefined);
    await turns(5);
    const pipe = recorder.pipe!;
    this.corpus = [...framesOf(recorder.sent), ...framesOf(recorder.received)];
    pipe.close();
    for (let i = 0; victim.peers().some(({ id }) => id === "witness") && i < 1000; i++) await turns(1);
  }

  private async isGone(ref: Ref<Echo>): Promise<boolean> {
    return ref.ask.echo(1).then(
      () => false,
      () => true,
    );
  }
}

/** Lets input, output and everything that follows from it happen. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

function heapBytes(): number {
  Bun.gc(true);
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
