/** The actors of simulated worlds: they do as the letters they get say, and keep the books. */

import { Actor } from "../../runtime/actor.ts";
import { ActorFailure } from "../../runtime/errors.ts";
import type { Down } from "../../runtime/monitor.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import type { Host } from "./host.ts";
import type { Ledger, Letter } from "./ledger.ts";

/** What an actor finds out about the world it is in. */
export interface Surroundings {
  readonly host: Host;
  readonly ledger: Ledger;
  /** Actors that have started here, by key. */
  readonly started: Map<string, Ref<any>>;
  /** Actors that somebody here knows. */
  readonly refs: Ref<any>[];
  /** A supervised child begins a life. */
  born(tree: number, index: number): void;
  /** A supervised child ends one that it was not asked to end by its supervisor. */
  failed(tree: number): void;
}

export const surroundings = new WeakMap<NodeRuntime, Surroundings>();

/** Milliseconds an actor waits for another. */
const PATIENCE_MS = 4000;

export class Worker extends Actor {
  static override readonly reentrant: readonly string[] = ["peek"];
  #busy = false;
  /** Of all lives of all actors. */
  #life = 0;
  readonly #watches = new Map<string, ((code: string) => void)[]>();
  protected world!: Surroundings;

  override onStart(): void {
    this.world = surroundings.get(this.context.node)!;
    this.world.started.set(this.context.self.key, this.context.self);
    this.#life = this.world.ledger.begun();
    this.world.ledger.trace.note("start", this.world.host.name, this.context.self.key);
  }

  override onDown({ ref, reason }: Down): void {
    this.#watches.get(ref.key)?.shift()?.(reason.code);
  }

  override onExit(down: Down): void | Promise<void> {
    const { ledger, host } = this.world;
    ledger.exited(host, this.#life, this.context.self, down.ref);
    if (down.reason.code !== "normal") this.failing();
    return super.onExit(down);
  }

  /** Handles a letter; the answer is its number. */
  take(letter: Letter): number | Promise<number> {
    const { ledger, host } = this.world;
    ledger.handled(host, this.context.self, letter);
    if (this.#busy && host.alive) ledger.breach(`${this.context.self.key} handles two messages at once`);
    if (letter.act === "plain") return letter.id;
    this.#busy = true;
    return this.#act(letter).finally(() => {
      this.#busy = false;
    });
  }

  /** Answers while another letter is being handled. */
  async peek(id: number): Promise<number> {
    return id;
  }

  protected failing(): void {}

  async #act({ id, act, ms, ref, next }: Letter): Promise<number> {
    const { ledger, host } = this.world;
    switch (act) {
      case "slow":
        await this.context.clock.sleep(ms ?? 20);
        return id;
      case "refuse":
        throw new Error(`refused ${id}`);
      case "crash":
        this.failing();
        throw new ActorFailure(`boom ${id}`);
      case "leave":
        this.failing();
        this.context.stop();
        return id;
      case "relay":
        ledger.send(host, ref!, { act: next! }, (letter) => ref!.tell.take(letter));
        return id;
      case "consult": {
        const patient = ref!.with({ timeoutMs: PATIENCE_MS });
        await ledger.ask(host, ref!, { act: next! }, true, (letter) => patient.ask.take(letter));
        return id;
      }
      case "watch":
        ledger.watch(host, ref!, true, (fired) => {
          const placed = this.#watches.get(ref!.key) ?? [];
          this.#watches.set(ref!.key, placed);
          placed.push(fired);
          return this.context.monitor(ref!);
        });
        return id;
      case "link":
        ledger.linked(this.context.self, ref!);
        this.context.link(ref!);
        return id;
      case "join":
        this.context.node.groups.join(`group ${id % 2}`, this.context.self);
        return id;
      case "share":
        this.world.refs.push(ref!);
        return id;
      case "spawn":
        await this.context.spawn(Worker, []);
        return id;
      default:
        return id;
    }
  }
}

/** A child of a supervision tree. */
export class Child extends Worker {
  readonly #tree: number;
  readonly #index: number;

  constructor(tree: number, index: number) {
    super();
    this.#tree = tree;
    this.#index = index;
  }

  override onStart(): void {
    super.onStart();
    this.world.born(this.#tree, this.#index);
  }

  protected override failing(): void {
    this.world.failed(this.#tree);
  }
}
