/**
 * What a stage has sent in a step, until that is committed, so that whoever takes a lost stage's place can be sent again
 * what that one had got. Of what is borrowed it has copies, so that the memory they were made from is free at once; their
 * own is used again from step to step, which all send the same.
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
  private readonly sent = new Map<string, Sent>();
  private readonly copies = new Set<Sent>();
  private readonly rooms = new Map<string, Uint8Array>();

  /** Nobody asks for what has been sent so far any more. */
  forget(): void {
    if (this.sent.size === 0) return;
    this.rooms.clear();
    for (const { slip, tensor, underWay } of this.copies) {
      if (underWay === 0) this.rooms.set(roomOf(slip), tensor.bytes);
    }
    this.copies.clear();
    this.sent.clear();
  }

  /** Copies what is to be sent. */
  add(workers: readonly number[], slip: Slip, { dtype, shape, bytes }: Tensor, codec: string | null): Sent {
    const room = this.rooms.get(roomOf(slip));
    const copy = room?.byteLength === bytes.byteLength ? room : new Uint8Array(bytes.byteLength);
    copy.set(bytes);
    const sent = this.keep(workers, slip, new Tensor(dtype, shape, copy), codec);
    this.copies.add(sent);
    return sent;
  }

  /** As `add`, without a copy: nobody writes to the tensor any more. */
  keep(workers: readonly number[], slip: Slip, tensor: Tensor, codec: string | null): Sent {
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
