/** Ranks in one process: what one gives to another lies in a queue, as bytes of its own, until it is taken. For tests. */

import type { Exchange } from "../../../actors/collectives/exchange.ts";
import { RingCollectives } from "../../../actors/collectives/ring.ts";
import { Tensor } from "../../../protocols/tensor.ts";

export class LocalRanks {
  readonly rings: readonly RingCollectives[];
  /** What each rank has given, in bytes, and in how many messages. */
  readonly bytes: number[];
  readonly messages: number[];
  /** Ranks to which nothing can be given. */
  readonly gone = new Set<number>();
  private readonly arrived = new Map<string, Tensor>();
  private readonly waiting = new Map<string, (tensor: Tensor) => void>();

  constructor(ranks: number, codec: string | null = null) {
    this.bytes = new Array(ranks).fill(0);
    this.messages = new Array(ranks).fill(0);
    this.rings = Array.from({ length: ranks }, (_, rank) => {
      return new RingCollectives({ rank, ranks, exchange: this.exchangeOf(rank), codec });
    });
  }

  /** How many tensors nobody has taken. */
  get left(): number {
    return this.arrived.size;
  }

  /** What every rank has of something that all of them do. */
  all<T>(run: (ring: RingCollectives, rank: number) => Promise<T>): Promise<T[]> {
    return Promise.all(this.rings.map(run));
  }

  private exchangeOf(from: number): Exchange {
    const give: Exchange["give"] = async (to, key, { dtype, shape, bytes }) => {
      if (this.gone.has(to)) throw new Error(`rank ${to} is gone`);
      this.bytes[from]! += bytes.byteLength;
      this.messages[from]!++;
      const [place, tensor] = [`${from}>${to} ${key}`, new Tensor(dtype, shape, bytes.slice())];
      if (this.arrived.has(place)) throw new Error(`${place} was given twice`);
      const waiting = this.waiting.get(place);
      this.waiting.delete(place);
      if (waiting) waiting(tensor);
      else this.arrived.set(place, tensor);
    };
    return {
      give,
      lend: give,
      take: (to, key) => {
        const place = `${to}>${from} ${key}`;
        const tensor = this.arrived.get(place);
        this.arrived.delete(place);
        return tensor ? Promise.resolve(tensor) : new Promise((resolve) => this.waiting.set(place, resolve));
      },
    };
  }
}
