/**
 * A stage: ranges of segments on one device, and the actor that runs its program.
 *
 * In a step it goes through an ordered list of operations, starting each as soon as its input is there. Receives
 * wait, kernels run one at a time in the engine, sends go out while the next kernel runs. At the end of the list
 * it has all gradients of the step and says so; the update happens only when the scheduler, having heard that of
 * every stage, commits the step (the commit gate, as in torchft).
 *
 * A range is a chunk; from one of its chunks to the next the stage hands a value on by itself. It may be one of several
 * members who share the stage's work: where they have micro-batches of their own, a chunk's gradients are added up over
 * them in the background as soon as they are complete.
 */

import type { Engine } from "../nn/engine/engine.ts";
import { gradientName } from "../nn/training.ts";
import { byteLength, Tensor } from "../protocols/tensor.ts";
import { Actor, type Down, type Ref } from "../runtime/index.ts";
import { collectGarbage } from "../runtime/platform/garbage.ts";
import { RingCollectives } from "./collectives/ring.ts";
import type { Slip } from "./inbox.ts";
import { isBackward, isOfMicroBatch, type MicroBatchOperation, type Operation } from "./scheduler/program.ts";
import { isDealt } from "./scheduler/routes.ts";
import { Chunk } from "./stage/chunk.ts";
import { Mail } from "./stage/mail.ts";
import { assignSlots, type Slots } from "./stage/slots.ts";
import type { ByMicroBatch, CommitReport, OperationSpan, StageSpec, StepReport } from "./stage/spec.ts";
import { DealtStatistics } from "./stage/statistics.ts";
import { Supply } from "./stage/supply.ts";
import { exchangeTied } from "./stage/ties.ts";
import { validate } from "./stage/validation.ts";
import { StepRun } from "./step-run.ts";

export type {
  ChunkSpec,
  CommitReport,
  GroupSpec,
  OperationSpan,
  StageSpec,
  StepReport,
} from "./stage/spec.ts";

/** Received tensors that have been copied, after which they are cleared away. */
const GARBAGE_BYTES = 64 * 2 ** 20;

export class Stage extends Actor {
  static override readonly reentrant: readonly string[] = ["deliver", "abandon"];

  readonly #spec: StageSpec;
  readonly #engine: Engine;
  readonly #slots: Slots;
  readonly #chunks: readonly Chunk[];
  /** Micro-batches of its own. */
  readonly #taken: ReadonlySet<number>;
  #mail!: Mail;
  #supply!: Supply;
  #collectives!: RingCollectives;
  /** By chunk; where there is no need, left out. */
  readonly #statistics: DealtStatistics[] = [];
  /** Whether anything has been accumulated since the last update. */
  #dirty = false;
  /** Bytes of tensors that have been copied since garbage was last collected. */
  #garbage = 0;

  constructor(spec: StageSpec, engine: Engine) {
    super();
    this.#spec = spec;
    this.#engine = engine;
    const { program } = spec;
    this.#slots = assignSlots(program, (chunk, microBatch, step) => {
      const { next, previous } = spec.chunks[chunk]!;
      return this.#isOwn(step > 0 ? next : previous, microBatch);
    });
    this.#chunks = spec.chunks.map((_, index) => new Chunk(index, spec, this.#slots));
    this.#taken = new Set(program.operations.filter(isOfMicroBatch).map(({ microBatch }) => microBatch));
  }

  override async onStart(): Promise<void> {
    const { generation, program, group, codecs } = this.#spec;
    const { rank, workers } = group;
    const node = this.context.node.id;
    this.#mail = new Mail({ generation, worker: program.worker, node, codec: codecs.activations });
    this.#supply = new Supply(
      this.#mail.inbox,
      this.#chunks.map(({ graphs }) => graphs.data.map(({ name }) => name)),
    );
    this.#collectives = new RingCollectives({
      ...{ rank, ranks: workers.length, codec: codecs.gradients },
      exchange: this.#mail.exchange(workers),
    });
    try {
      for (const chunk of this.#chunks) await chunk.build(this.#engine);
    } catch (error) {
      this.#release();
      throw error;
    }
    for (const { index, decays, executor } of this.#chunks) {
      if (!isDealt(group.sharing) || decays.size === 0) continue;
      this.#statistics[index] = new DealtStatistics(executor.movingStatistics(), decays, rank === 0);
    }
  }

  override onStop(): void {
    this.abandon();
    this.#release();
  }

  #release(): void {
    for (const chunk of this.#chunks) chunk.release();
  }

  /** Another stage is gone: what it would have sent will never come. */
  override onDown(down: Down): void {
    this.#fail(new Error(`a neighbouring stage is gone: ${down.reason.message}`));
  }

  #fail(error: Error): void {
    this.#mail.inbox.fail(error);
    this.#collectives.abandon(error);
  }

  /**
   * Says where the workers are that this one exchanges tensors with, by number.
   * @throws TensorError when something that the stage holds has not been loaded.
   */
  connect(peers: Readonly<Record<number, Ref<Stage>>>): void {
    for (const { executor } of this.#chunks) executor.requireLoaded();
    this.#mail.connect(peers);
    const known = new Map(Object.values(peers).map((peer) => [peer.key, peer] as const));
    for (const peer of known.values()) this.context.monitor(peer);
  }

  /**
   * Copies some of what the stage holds into it: parameters, frozen values, statistics, optimiser state.
   * @throws TensorError when they do not fit.
   */
  async load(values: Readonly<Record<string, Tensor>>): Promise<void> {
    for (const { executor } of this.#chunks) await executor.put(new Map(Object.entries(values)));
  }

  /**
   * Accepts a tensor (transferred) for an operation to come. In training that is all, for slots bound how far a
   * stage runs ahead; nothing does in validation, where the answer comes when the tensor is taken.
   * @throws RangeError for a tensor of another generation, InboxError for a second one in one place.
   */
  deliver(slip: Slip, tensor: Tensor): Promise<void> | undefined {
    if (slip.generation !== this.#spec.generation) {
      throw new RangeError(
        `generation ${this.#spec.generation} got a tensor of generation ${slip.generation}`,
      );
    }
    const taken = this.#mail.inbox.put(slip, tensor);
    return slip.phase === "evaluate" ? taken : undefined;
  }

  /** Gives up what is under way: nothing more will be delivered. */
  abandon(): void {
    this.#fail(new Error("the run is over"));
  }

  /** Answered when nothing is under way any more: one message is handled at a time, and this one does nothing. */
  idle(): void {}

  /** Runs the program of one step, up to the commit gate. */
  async train(step: number): Promise<StepReport> {
    const { clock } = this.context;
    const { program, microBatches } = this.#spec;
    const run = new StepRun(step, microBatches);
    const began = clock.now();
    // A step that failed before it was committed has left its gradients behind.
    if (this.#dirty) for (const { executor } of this.#chunks) await executor.clearGradients();
    this.#dirty = true;
    for (const statistics of this.#statistics) await statistics?.begin();
    for (const [index, operation] of program.operations.entries())
      await this.#carryOut(operation, index, run);

    const reducing = clock.now();
    await Promise.all(run.background);
    for (const [index, statistics] of this.#statistics.entries()) {
      await statistics?.reduce(`${step}/${index}/statistics`, this.#collectives, microBatches);
    }
    const start = clock.now();
    await exchangeTied(this.#chunks, this.#mail, step, microBatches);
    const sums: number[] = [];
    for (const { executor } of this.#chunks) sums.push(...(await executor.squareSums()));
    const squares = this.#updateSpan(start);
    run.spans.push(squares);
    const last = this.#chunks.find(({ spec }) => spec.output === null);
    return {
      squareSums: Tensor.f32([sums.length], sums),
      losses: last ? run.losses : null,
      kernelMs: run.kernelMs + squares.kernelMs,
      copyMs: run.copyMs,
      waitMs: run.waitMs,
      reduceMs: run.reduceMs + start - reducing,
      totalMs: clock.now() - began,
      spans: run.spans,
    };
  }

  /** Updates the parameters: every stage has all gradients of `step`. `squareSums` is of the whole model. */
  async commit(step: number, squareSums: Tensor): Promise<CommitReport> {
    const start = this.context.clock.now();
    const results = [];
    for (const { executor } of this.#chunks) results.push(await executor.update(step, squareSums.f32()));
    this.#dirty = false;
    return { ...results[0]!, span: this.#updateSpan(start) };
  }

  /**
   * Takes those of `count` micro-batches that are its own through the forward pass. Resolves with their losses where the
   * model ends, NaN for those of others, and with nothing elsewhere.
   */
  evaluate(pass: number, count: number): Promise<number[]> {
    return validate(
      {
        chunks: this.#chunks,
        ...{ mail: this.#mail, supply: this.#supply, worker: this.#spec.program.worker },
        takes: (microBatch) => this.#taken.has(microBatch % this.#spec.microBatches),
        during: (kernel, tensors) => this.#during(kernel, tensors),
      },
      pass,
      count,
    );
  }

  /**
   * What training changes, by name: parameters, the optimiser's state, statistics; all of it, or those of `names` that
   * there are. Views of the stage's memory: they are borrowed, by a link until they have been sent and by whoever asks on
   * the same node until the next step.
   */
  async state(names: readonly string[] | null = null): Promise<Record<string, Tensor>> {
    const found: Record<string, Tensor> = {};
    for (const { executor } of this.#chunks) {
      for (const [name, tensor] of await executor.tensors(names ?? undefined)) found[name] = tensor;
    }
    return found;
  }

  /** A run of the optimiser's graphs that began at `start` and ends now. */
  #updateSpan(start: number): OperationSpan {
    const end = this.context.clock.now();
    return { op: "update", microBatch: 0, start, end, kernelMs: end - start };
  }

  async #carryOut(operation: Operation, index: number, run: StepRun): Promise<void> {
    const { clock } = this.context;
    const start = clock.now();
    const chunk = "chunk" in operation && operation.chunk ? { chunk: operation.chunk } : {};
    if (operation.op === "reduce") {
      this.#reduce(operation.chunk ?? 0, run);
    } else if (isOfMicroBatch(operation)) {
      const before = run.kernelMs;
      await this.#perform(operation, index, run);
      const { op, microBatch } = operation;
      run.spans.push({ op, microBatch, ...chunk, start, end: clock.now(), kernelMs: run.kernelMs - before });
    }
  }

  async #perform(operation: MicroBatchOperation, index: number, run: StepRun): Promise<void> {
    const { op, microBatch } = operation;
    const { step } = run;
    const chunk = this.#chunks[operation.chunk ?? 0]!;
    const { graphs, executor, spec } = chunk;
    const { input, output } = spec;
    const slip = (value: string) => this.#mail.slip("train", step, microBatch, value);
    switch (op) {
      case "receive-activation":
        await chunk.claim(step, microBatch);
        return this.#receive(chunk, slip(input!), this.#mail.inbox.take(slip(input!)), run);
      case "receive-gradient": {
        const name = gradientName(output!);
        return this.#receive(chunk, slip(name), this.#mail.inbox.take(slip(name)), run);
      }
      case "forward":
      case "forward-backward": {
        const slot = await chunk.claim(step, microBatch);
        for (const { name } of graphs.data) {
          await this.#receive(chunk, slip(name), this.#supply.take(slip(name)), run);
        }
        await this.#statistics[chunk.index]?.before(microBatch);
        const kernel = op === "forward" ? executor.forward(slot) : executor.joint(slot);
        run.kernelMs += await this.#during(kernel);
        if (output === null) run.losses[microBatch] = chunk.value(microBatch, graphs.result).f32()[0]!;
        break;
      }
      case "backward":
        run.kernelMs += await this.#during(executor.backward(chunk.slotOf(microBatch)));
        break;
      case "backward-input":
        run.kernelMs += await this.#during(executor.backwardInput(chunk.slotOf(microBatch)));
        break;
      case "backward-weight":
        run.kernelMs += await this.#during(executor.backwardWeights(chunk.slotOf(microBatch)));
        return;
      case "send-activation":
        return this.#send(chunk, spec.next, slip(output!), index);
      case "send-gradient":
        return this.#send(chunk, spec.previous, slip(gradientName(input!)), index);
    }
    if (op === "forward") await this.#handOn(chunk, 1, spec.next, microBatch, run);
    if (isBackward(operation)) await this.#handOn(chunk, -1, spec.previous, microBatch, run);
  }

  /** Adds a chunk's gradients up over the members of the stage, without waiting. */
  #reduce(index: number, run: StepRun): void {
    const { clock } = this.context;
    const { executor, graphs, position } = this.#chunks[index]!;
    const start = clock.now();
    const reduced = executor.reduce(`${run.step}/${position}`, this.#collectives).then(() => {
      const end = clock.now();
      run.spans.push({ op: "reduce", microBatch: 0, chunk: index, start, end, kernelMs: 0 });
      for (const { dtype, shape } of graphs.parameters) this.#garbage += byteLength(dtype, shape);
    });
    // What else the stage waits for may never come then.
    reduced.catch((error) => this.#fail(error));
    run.background.push(reduced);
  }

  /** While a kernel runs in the engine's thread, this one has time to clear away. */
  #during<T>(kernel: Promise<T>, tensors: readonly Tensor[] = []): Promise<T> {
    for (const { bytes } of tensors) this.#garbage += bytes.byteLength;
    if (this.#garbage >= GARBAGE_BYTES) {
      this.#garbage = 0;
      collectGarbage();
    }
    return kernel;
  }

  async #receive(chunk: Chunk, slip: Slip, coming: Promise<Tensor>, run: StepRun): Promise<void> {
    const { clock } = this.context;
    const asked = clock.now();
    const tensor = await coming;
    const came = clock.now();
    chunk.write(slip.microBatch, slip.value, tensor);
    this.#garbage += tensor.bytes.byteLength;
    run.waitMs += came - asked;
    run.copyMs += clock.now() - came;
  }

  /** What a chunk has made of a micro-batch goes to the stage's own chunk next to it, where there is one. */
  async #handOn(
    chunk: Chunk,
    step: 1 | -1,
    to: ByMicroBatch,
    microBatch: number,
    run: StepRun,
  ): Promise<void> {
    if (!this.#isOwn(to, microBatch)) return;
    const next = this.#chunks[this.#spec.program.positions.indexOf(chunk.position + step)]!;
    const { input, output } = chunk.spec;
    const name = step > 0 ? output! : gradientName(input!);
    if (step > 0) await next.claim(run.step, microBatch);
    const start = this.context.clock.now();
    next.write(microBatch, name, chunk.value(microBatch, name));
    run.copyMs += this.context.clock.now() - start;
  }

  /** Sends without waiting for it to arrive; a failure shows where the slot is claimed next, or at the scheduler. */
  async #send(chunk: Chunk, to: ByMicroBatch, slip: Slip, index: number): Promise<void> {
    const workers = to[slip.microBatch]!;
    const tensor = chunk.value(slip.microBatch, slip.value);
    const parts = this.#slots.last.has(index);
    const sent = parts
      ? (await this.#mail.giveCopy(workers, slip, tensor)).sent
      : this.#mail.send(workers, slip, tensor);
    sent.catch((error) => this.#fail(error));
    if (!parts) chunk.holdUntil(slip.microBatch, sent);
  }

  /** Whether the stage itself takes what a chunk makes of a micro-batch. */
  #isOwn(to: ByMicroBatch, microBatch: number): boolean {
    return to[microBatch % this.#spec.microBatches]?.includes(this.#spec.program.worker) ?? false;
  }
}
