/**
 * A stage's mail: what it gives to other stages, what has come from them, and with those who share its work the exchange
 * that collectives stand on.
 *
 * A tensor's way through a stage: off the link into memory of its own, once from there into the slot its kernels are
 * bound to, out of a slot to the next stage. To a stage on the same node, which would otherwise hold the slot's own
 * memory, a copy goes; so it does where the slot is wanted again before the bytes have gone.
 */

import { compressed } from "../../protocols/codecs/compressed.ts";
import { Tensor } from "../../protocols/tensor.ts";
import type { Ref } from "../../runtime/index.ts";
import type { Exchange } from "../collectives/exchange.ts";
import { Inbox, type Slip } from "../inbox.ts";
import type { Stage } from "../stage.ts";

/** Copies of one value that may be on their way at once; whoever gives another waits for the first. */
const COPIES = 4;

export interface MailOptions {
  readonly generation: number;
  /** Its own number. */
  readonly worker: number;
  /** Of the node it is on. */
  readonly node: string;
  /** Name of the codec for what goes to other stages in training; null for none. */
  readonly codec: string | null;
}

/** Memory of a copy, and the promise that it has gone. */
interface Copy {
  readonly bytes: Uint8Array;
  gone: Promise<unknown> | null;
}

export class Mail {
  readonly inbox = new Inbox();
  private readonly options: MailOptions;
  private peers: Readonly<Record<number, Ref<Stage>>> = {};
  private readonly copies = new Map<string, Copy[]>();

  constructor(options: MailOptions) {
    this.options = options;
  }

  /** Says where other workers are to be found, by number. */
  connect(peers: Readonly<Record<number, Ref<Stage>>>): void {
    this.peers = peers;
  }

  slip(phase: Slip["phase"], step: number, microBatch: number, value: string): Slip {
    return { generation: this.options.generation, phase, step, microBatch, value };
  }

  /** Delivers a tensor, which is free to be written over when this has settled. */
  async give(workers: readonly number[], slip: Slip, tensor: Tensor): Promise<void> {
    await Promise.all(workers.map((worker) => this.deliver(worker, slip, tensor)));
  }

  /**
   * As `give`, in training, with the codec for what goes to other stages. Resolves when the tensor is free to be written
   * over; `sent` when it has been delivered.
   */
  async giveCopy(
    workers: readonly number[],
    slip: Slip,
    tensor: Tensor,
  ): Promise<{ readonly sent: Promise<void> }> {
    if (workers.every((worker) => this.isHere(worker))) return { sent: this.send(workers, slip, tensor) };
    const kept = this.copies.get(slip.value) ?? [];
    this.copies.set(slip.value, kept);
    let copy = kept.find(({ gone }) => gone === null);
    if (!copy && kept.length < COPIES) {
      copy = { bytes: new Uint8Array(tensor.bytes.byteLength), gone: null };
      kept.push(copy);
    }
    while (!copy) {
      await Promise.race(kept.map(({ gone }) => gone));
      copy = kept.find(({ gone }) => gone === null);
    }
    const own = copy;
    own.bytes.set(tensor.bytes);
    const sent = this.send(workers, slip, new Tensor(tensor.dtype, tensor.shape, own.bytes));
    own.gone = sent
      .catch(() => {})
      .then(() => {
        own.gone = null;
      });
    return { sent };
  }

  /** As `give`, in training, with the codec for what goes to other stages. */
  send(workers: readonly number[], slip: Slip, tensor: Tensor): Promise<void> {
    const { codec } = this.options;
    return this.give(workers, slip, codec && tensor.dtype === "f32" ? compressed(tensor, codec) : tensor);
  }

  /** What collectives of the workers of a stage go through. */
  exchange(workers: readonly number[]): Exchange {
    const { generation, worker: own } = this.options;
    const slip = (from: number, value: string): Slip => {
      return { generation, phase: "collective", step: 0, microBatch: from, value };
    };
    return {
      give: (rank, key, tensor) => this.deliver(workers[rank]!, slip(own, key), tensor),
      take: (rank, key) => this.inbox.take(slip(workers[rank]!, key)),
    };
  }

  private isHere(worker: number): boolean {
    return this.peers[worker]?.address.node === this.options.node;
  }

  private deliver(worker: number, slip: Slip, tensor: Tensor): Promise<void> {
    const { dtype, shape, bytes } = tensor;
    const given = this.isHere(worker) ? new Tensor(dtype, shape, bytes.slice()) : tensor;
    return this.peers[worker]!.ask.deliver(slip, given);
  }
}
