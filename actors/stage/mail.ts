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
import { Outbox, type Sent } from "./outbox.ts";

/** Copies of one value that may be on their way at once; whoever gives another waits for the first. */
const COPIES = 4;

export interface MailOptions {
  readonly generation: number;
  /** Of the node it is on. */
  readonly node: string;
  /** Name of the codec for what goes to other stages in training; null for none. */
  readonly codec: string | null;
  /** Whether what is sent in a step may be asked for again. */
  readonly keepsSent: boolean;
  /** Told of what was posted and has not arrived. */
  readonly interrupt: (error: Error) => void;
}

/** Memory of a copy, and the promise that it has gone. */
interface Copy {
  readonly bytes: Uint8Array;
  gone: Promise<unknown> | null;
}

export class Mail {
  readonly inbox: Inbox;
  private readonly options: MailOptions;
  private generation: number;
  /** Numbers of those who share its work, by rank. */
  private members: readonly number[] = [];
  /** What it has sent, where that may be asked for again. */
  private readonly outbox: Outbox | null;
  /** Of training, the last that was begun, and whether it is not committed yet. */
  private step = 0;
  private isUnderWay = false;
  private isConnected = false;
  private peers: Readonly<Record<number, Ref<Stage>>> = {};
  private readonly copies = new Map<string, Copy[]>();
  /** Tensors of training that are on their way; and whoever waits until none is. */
  private underWay = 0;
  private delivering: PromiseWithResolvers<void> | undefined;

  constructor(options: MailOptions) {
    const { generation, keepsSent } = options;
    this.options = options;
    this.generation = generation;
    this.inbox = new Inbox(keepsSent);
    this.outbox = keepsSent ? new Outbox() : null;
  }

  /** Whether what is sent in training is kept; then it goes by `post`. */
  get keepsSent(): boolean {
    return this.outbox !== null;
  }

  /** Says where other workers are to be found, by number. They are sent what has not arrived where they are. */
  connect(peers: Readonly<Record<number, Ref<Stage>>>): void {
    this.peers = peers;
    this.isConnected = true;
    for (const sent of this.outbox?.all() ?? []) {
      for (const worker of sent.workers) if (!this.isThere(sent, worker)) this.dispatch(sent, worker);
    }
    this.settle();
  }

  /** Resolves when all that was sent since the step began has arrived where it is to be, if it ever does. */
  async delivered(): Promise<void> {
    if (this.isDelivered()) return;
    this.delivering ??= Promise.withResolvers();
    await this.delivering.promise;
  }

  private settle(): void {
    if (!this.delivering || !this.isDelivered()) return;
    this.delivering.resolve();
    this.delivering = undefined;
  }

  private isDelivered(): boolean {
    if (!this.outbox) return true;
    if (this.underWay > 0 || !this.isConnected) return false;
    for (const sent of this.outbox.all()) {
      const isOfNow = sent.slip.step === this.step;
      if (isOfNow && !sent.workers.every((worker) => this.isThere(sent, worker))) return false;
    }
    return true;
  }

  /** Whether it has arrived where it is to be. Those that are not among the peers need nothing more. */
  private isThere({ arrived }: Sent, worker: number): boolean {
    const peer = this.peers[worker];
    return peer === undefined || arrived.has(peer.key);
  }

  /** Goes on in a further generation with what has come and what was sent; what is sent waits until it is connected. */
  advance(generation: number): void {
    this.generation = generation;
    this.isConnected = false;
    this.inbox.passOver();
  }

  /**
   * Micro-batches are dealt anew: workers have other numbers, and what was sent is for others. Nothing has been added up, and
   * of earlier steps nothing can be asked for.
   * @param taken micro-batches of its own. @param workersOf who is to have what was sent.
   */
  dealAnew(
    step: number,
    taken: ReadonlySet<number>,
    workersOf: (slip: Sent["slip"]) => readonly number[],
  ): void {
    this.forgetBefore(step);
    this.inbox.forget("collective");
    this.inbox.forget("train", taken);
    this.outbox?.drop("collective");
    for (const sent of this.outbox?.all() ?? []) sent.workers = workersOf(sent.slip);
  }

  /**
   * Workers have other numbers, and micro-batches of other stages are others': what was sent is for those, and what its members
   * give each other goes on. Of earlier steps nothing can be asked for.
   * @param members their numbers, by rank. @param workersOf who is to have what was sent.
   */
  readdress(
    step: number,
    members: readonly number[],
    workersOf: (slip: Sent["slip"]) => readonly number[],
  ): void {
    this.forgetBefore(step);
    const before = this.members;
    this.members = members;
    for (const sent of this.outbox?.all() ?? []) {
      const isShared = sent.slip.phase === "collective";
      sent.workers = isShared
        ? sent.workers.map((worker) => members[before.indexOf(worker)]!)
        : workersOf(sent.slip);
    }
  }

  /** Another step of training begins. @param most bytes of what was sent in those before it that are kept. */
  begin(step: number, most = 0): void {
    this.step = step;
    this.outbox?.begin(step, most);
    this.inbox.forgetBefore(this.outbox?.first ?? step);
    this.isUnderWay = true;
  }

  /** The step is committed: what belongs to its commit is sent once. */
  end(): void {
    this.isUnderWay = false;
  }

  /** Nobody carries out steps before this one again. */
  forgetBefore(step: number): void {
    this.outbox?.forgetBefore(step);
    this.inbox.forgetBefore(step);
  }

  /** Whether all that was sent from this step on is kept. */
  keepsSince(step: number): boolean {
    const first = this.outbox?.first ?? null;
    return first !== null && first <= step;
  }

  /** Sends a copy of a tensor, in training, and sends it again to whoever comes to be in a worker's place. */
  post(workers: readonly number[], slip: Slip, tensor: Tensor, codec = this.options.codec): void {
    this.dispatchAll(this.outbox!.add(workers, slip, tensor, codec));
  }

  slip(phase: Slip["phase"], step: number, microBatch: number, value: string): Slip {
    return { generation: this.generation, phase, step, microBatch, value };
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
    return this.give(workers, slip, encoded(tensor, this.options.codec));
  }

  /** What collectives of the members of a stage go through. @param rank its own. @param members their numbers, by rank. */
  exchange(rank: number, members: readonly number[]): Exchange {
    this.members = members;
    const own = rank;
    const slip = (from: number, value: string) => this.slip("collective", this.step, from, value);
    const send = async (how: "keep" | "add", rank: number, key: string, tensor: Tensor) => {
      const [to, place] = [this.members[rank]!, slip(own, key)];
      if (this.outbox && this.isUnderWay) this.dispatchAll(this.outbox[how]([to], place, tensor, null));
      else await this.deliver(to, place, tensor);
    };
    return {
      give: (rank, key, tensor) => send("keep", rank, key, tensor),
      lend: (rank, key, tensor) => send("add", rank, key, tensor),
      take: (rank, key) => this.inbox.take(slip(rank, key)),
    };
  }

  private dispatchAll(sent: Sent): void {
    if (!this.isConnected) return;
    for (const worker of sent.workers) if (!this.isThere(sent, worker)) this.dispatch(sent, worker);
  }

  private dispatch(sent: Sent, worker: number): void {
    const { generation } = this;
    const peer = this.peers[worker]!;
    sent.underWay++;
    this.underWay++;
    this.deliver(worker, { ...sent.slip, generation }, encoded(sent.tensor, sent.codec))
      .then(
        () => {
          sent.arrived.add(peer.key);
        },
        (error) => {
          // Of an earlier generation, it has been sent again.
          if (generation === this.generation) this.options.interrupt(error);
        },
      )
      .finally(() => {
        sent.underWay--;
        this.underWay--;
        this.settle();
      });
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

/** A tensor as it goes to other stages. */
function encoded(tensor: Tensor, codec: string | null): Tensor {
  return codec && tensor.dtype === "f32" ? compressed(tensor, codec) : tensor;
}
