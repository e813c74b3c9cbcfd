/**
 * Ranks in one process: what one gives to another lies in a queue, as bytes of its own, until it is taken. With chance it
 * leaves when others have gone on, and what is written to it before is found there. For tests.
 */

import type { Exchange } from "../../../actors/collectives/exchange.ts";
import { GroupCollectives } from "../../../actors/collectives/group.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import type { Random } from "../../../runtime/random.ts";

/** So many turns of others at most before something leaves. */
const MOST_TURNS = 30;

interface Given {
  readonly tensor: Tensor;
  readonly bytes: Uint8Array;
}

function isChanged({ tensor, bytes }: Given): boolean {
  return Buffer.compare(tensor.bytes, bytes) !== 0;
}

export class LocalRanks {
  readonly collectives: readonly GroupCollectives[];
  /** What each rank has given, in bytes, and in how many messages. */
  readonly bytes: number[];
  readonly messages: number[];
  /** Ranks to which nothing can be given. */
  readonly gone = new Set<number>();
  private readonly chance: Random | null;
  private readonly arrived = new Map<string, Tensor>();
  private readonly waiting = new Map<string, (tensor: Tensor) => void>();
  /** What was given for good, and its bytes then. */
  private readonly given = new Set<Given>();
  private hasBeenOverwritten = false;

  constructor(ranks: number, codec: string | null = null, chance: Random | null = null) {
    this.bytes = new Array(ranks).fill(0);
    this.messages = new Array(ranks).fill(0);
    this.chance = chance;
    this.collectives = Array.from({ length: ranks }, (_, rank) => {
      return new GroupCollectives({ rank, ranks, exchange: this.exchange(rank), codec });
    });
  }

  /** How many tensors nobody has taken. */
  get left(): number {
    return this.arrived.size;
  }

  /** Whether somebody has written to what was given, or to what was lent before it was free. */
  get isOverwritten(): boolean {
    return this.hasBeenOverwritten || [...this.given].some(isChanged);
  }

  /** What every rank has of something that all of them do. */
  all<T>(run: (own: GroupCollectives, rank: number) => Promise<T>): Promise<T[]> {
    return Promise.all(this.collectives.map(run));
  }

  /** Of one rank. */
  exchange(from: number): Exchange {
    const keys = new Set<string>();
    const send = async (to: number, key: string, tensor: Tensor) => {
      if (this.gone.has(to)) throw new Error(`rank ${to} is gone`);
      if (keys.has(key)) throw new Error(`rank ${from} gives ${key} twice`);
      keys.add(key);
      await this.later();
      this.deliver(from, to, key, tensor);
      await this.later();
    };
    return {
      give: (to, key, tensor) => {
        if (this.chance) this.given.add({ tensor, bytes: tensor.bytes.slice() });
        return send(to, key, tensor);
      },
      lend: async (to, key, tensor) => {
        const lent = { tensor, bytes: tensor.bytes.slice() };
        await send(to, key, tensor);
        this.hasBeenOverwritten ||= isChanged(lent);
      },
      take: (to, key) => {
        const place = `${to}>${from} ${key}`;
        const tensor = this.arrived.get(place);
        this.arrived.delete(place);
        return tensor ? Promise.resolve(tensor) : new Promise((resolve) => this.waiting.set(place, resolve));
      },
    };
  }

  private async later(): Promise<void> {
    for (let turns = this.chance?.integer(MOST_TURNS) ?? 0; turns > 0; turns--) await null;
  }

  private deliver(from: number, to: number, key: string, { dtype, shape, bytes }: Tensor): void {
    this.bytes[from]! += bytes.byteLength;
    this.messages[from]!++;
    const [place, tensor] = [`${from}>${to} ${key}`, new Tensor(dtype, shape, bytes.slice())];
    const waiting = this.waiting.get(place);
    this.waiting.delete(place);
    if (waiting) waiting(tensor);
    else this.arrived.set(place, tensor);
  }
}
