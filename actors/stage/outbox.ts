/**
 * What a stage has sent, so that whoever takes a lost stage's place can be sent again what that one had got: in the step
 * under way, and in those behind the one that copies are of, which whoever is new carries out by itself (message logging;
 * Elnozahy et al., "A Survey of Rollback-Recovery Protocols in Message-Passing Systems", 2002). Of what is borrowed it has
 * copies, so that the memory they were made from is free at once; their own is used again from step to step, which all send
 * the same.
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
  workers: readonly number[];
  /** Keys of the stages that have it. */
  readonly arrived: Set<string>;
  /** How many times it is on its way: as long as it is, its memory is borrowed. */
  underWay: number;
}

export class Outbox {
  /** The step from which on all that was sent is here; null before the first. */
  first: number | null = null;
  private readonly sent = new Map<string, Sent>();
  private readonly copies = new Set<Sent>();
  private readonly rooms = new Map<string, Uint8Array[]>();

  /**
   * Another step begins.
   * @param most bytes of the steps before it that are kept: where they are more, all of them are forgotten.
   */
  begin(step: number, most: number): void {
    this.first ??= step;
    if (this.bytes > most) this.forgetBefore(step);
  }

  /** Of all that is here. */
  get bytes(): number {
    let bytes = 0;
    for (const { tensor } of this.sent.values()) bytes += tensor.bytes.byteLength;
    return bytes;
  }

  /** Nobody asks for what was sent in steps before this one any more. */
  forgetBefore(step: number): void {
    if (this.first !== null) this.first = Math.max(this.first, step);
    const over = [...this.sent].filter(([, { slip }]) => slip.step < step);
    if (over.length === 0) return;
    this.rooms.clear();
    for (const [place, sent] of over) {
      this.sent.delete(place);
      if (!this.copies.delete(sent) || sent.underWay > 0) continue;
      const room = roomOf(sent.slip);
      this.rooms.set(room, [...(this.rooms.get(room) ?? []), sent.tensor.bytes]);
    }
  }

  /** Copies what is to be sent. */
  add(workers: readonly number[], slip: Slip, { dtype, shape, bytes }: Tensor, codec: string | null): Sent {
    const room = this.rooms.get(roomOf(slip))?.pop();
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

  /** What was sent in a phase is not sent again: it is gone through anew. */
  drop(phase: Slip["phase"]): void {
    for (const [key, sent] of this.sent) {
      if (sent.slip.phase !== phase) continue;
      this.sent.delete(key);
      this.copies.delete(sent);
    }
  }

  /** What is here, in the order in which it was sent. */
  all(): Iterable<Sent> {
    return this.sent.values();
  }
}

/** The same in every step. */
function roomOf({ microBatch, value }: Pick<Slip, "microBatch" | "value">): string {
  return `${microBatch}/${value}`;
}
