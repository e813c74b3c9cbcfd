/**
 * What a stage has sent in a step, until the next one begins: copies, so that the memory they were made from is free at
 * once, and whoever takes a lost stage's place can be sent again what that one had got. Memory is used again from step to
 * step, which all send the same.
 */

import { Tensor } from "../../protocols/tensor.ts";
import { placeOf, type Slip } from "../inbox.ts";

/** One tensor, and who is to have it. */
export interface Sent {
  /** But for the generation, which is that in which it goes. */
  readonly slip: Omit<Slip, "generation">;
  readonly tensor: Tensor;
  /** Of the form in which it goes; null for none. */
  readonly codec: string | null;
  readonly workers: readonly number[];
  /** Those that have it. */
  readonly arrived: Set<number>;
  /** How many times it is on its way: as long as it is, its memory is borrowed. */
  underWay: number;
}

export class Outbox {
  private sent = new Map<string, Sent>();
  private readonly rooms = new Map<string, Uint8Array>();

  /** Another step begins: nobody asks for what the last one sent. */
  begin(): void {
    this.rooms.clear();
    for (const { slip, tensor, underWay } of this.sent.values()) {
      if (underWay === 0) this.rooms.set(roomOf(slip), tensor.bytes);
    }
    this.sent = new Map();
  }

  /** Copies what is to be sent. */
  add(workers: readonly number[], slip: Slip, { dtype, shape, bytes }: Tensor, codec: string | null): Sent {
    const room = this.rooms.get(roomOf(slip));
    const copy = room?.byteLength === bytes.byteLength ? room : new Uint8Array(bytes.byteLength);
    copy.set(bytes);
    const tensor = new Tensor(dtype, shape, copy);
    const sent: Sent = { slip, tensor, codec, workers, arrived: new Set(), underWay: 0 };
    this.sent.set(placeOf(slip), sent);
    return sent;
  }

  /** All of the step so far. */
  all(): Iterable<Sent> {
    return this.sent.values();
  }
}

/** The same in every step. */
function roomOf({ microBatch, value }: Pick<Slip, "microBatch" | "value">): string {
  return `${microBatch}/${value}`;
}
