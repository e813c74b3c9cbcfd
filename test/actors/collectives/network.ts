/**
 * Ranks on a network in simulated time. What a rank sends goes through its interface, messages to different ranks in turn,
 * and through that of whoever receives it, both of the same width; between them is a latency.
 */

import type { Exchange } from "../../../actors/collectives/exchange.ts";
import type { LinkProfile } from "../../../actors/scheduler/cost.ts";
import { EventQueue } from "../../../actors/scheduler/simulate/queue.ts";
import { Tensor } from "../../../protocols/tensor.ts";

interface Message {
  readonly to: number;
  readonly ms: number;
  readonly left: () => void;
  readonly come: () => void;
}

export class Network {
  private readonly link: LinkProfile;
  private now = 0;
  private readonly events = new EventQueue(64);
  /** By code of an event. */
  private readonly what: (() => void)[] = [];
  /** By rank: messages that wait, by whom they are for, and whether one leaves. */
  private readonly waiting: Map<number, Message[]>[];
  private readonly isBusy: boolean[];
  /** By rank: when its interface has taken in what has come. */
  private readonly freeMs: number[];
  private readonly arrived = new Map<string, Tensor>();
  private readonly awaited = new Map<string, (tensor: Tensor) => void>();

  constructor(ranks: number, link: LinkProfile) {
    this.link = link;
    this.waiting = Array.from({ length: ranks }, () => new Map());
    this.isBusy = new Array(ranks).fill(false);
    this.freeMs = new Array(ranks).fill(0);
  }

  exchange(from: number): Exchange {
    const give = (to: number, key: string, { dtype, shape, bytes }: Tensor) =>
      new Promise<void>((left) => {
        const tensor = new Tensor(dtype, shape, bytes.slice());
        const place = `${from}>${to} ${key}`;
        const come = () => {
          const taken = this.awaited.get(place);
          if (taken) taken(tensor);
          else this.arrived.set(place, tensor);
        };
        const queued = this.waiting[from]!.get(to) ?? [];
        queued.push({ to, ms: bytes.byteLength / this.link.bytesPerMs, left, come });
        this.waiting[from]!.set(to, queued);
        this.send(from);
      });
    return {
      give,
      lend: give,
      take: (to, key) => {
        const place = `${to}>${from} ${key}`;
        const tensor = this.arrived.get(place);
        return tensor ? Promise.resolve(tensor) : new Promise((resolve) => this.awaited.set(place, resolve));
      },
    };
  }

  /** Milliseconds until all of these are done. */
  async run(all: readonly Promise<unknown>[]): Promise<number> {
    let isOver = false;
    const over = Promise.all(all).then(() => {
      isOver = true;
    });
    for (;;) {
      // Behind all that follows from what has come.
      await new Promise(setImmediate);
      if (isOver || this.events.size === 0) break;
      this.now = this.events.firstMs;
      while (this.events.size > 0 && this.events.firstMs === this.now) {
        const code = this.events.firstCode;
        this.events.pop();
        this.what[code]!();
      }
    }
    if (!isOver) throw new Error("nothing is on its way, and somebody waits");
    await over;
    return this.now;
  }

  private send(from: number): void {
    if (this.isBusy[from]) return;
    const waiting = this.waiting[from]!;
    const next = waiting.entries().next().value;
    if (!next) return;
    const [to, queued] = next;
    const message = queued.shift()!;
    waiting.delete(to);
    if (queued.length > 0) waiting.set(to, queued);
    this.isBusy[from] = true;
    this.at(this.now + message.ms, () => {
      this.isBusy[from] = false;
      message.left();
      this.send(from);
    });
    this.at(this.now + this.link.latencyMs, () => {
      this.freeMs[to] = Math.max(this.now, this.freeMs[to]!) + message.ms;
      this.at(this.freeMs[to]!, message.come);
    });
  }

  private at(ms: number, what: () => void): void {
    this.events.push(ms, this.what.push(what) - 1);
  }
}
