/**
 * A stage: a range of segments on one device, and the actor that runs its program.
 *
 * In a step it goes through an ordered list of operations, starting each as soon as its input is there. Receives
 * wait, kernels run one at a time in the engine, sends go out while the next kernel runs. At the end of the list
 * it has all gradients of the step and says so; the update happens only when the scheduler, having heard that of
 * every stage, commits the step (the commit gate, as in torchft).
 *
 * A tensor's way through here: off the link into memory of its own, once from there into the slot its kernels are
 * bound to, out of a slot to the next stage. A slot is not used again before its sends have settled. To a stage on
 * the same node, which would otherwise hold the slot's own memory, a copy goes.
 */

import type { Engine } from "../nn/engine/engine.ts";
import { StageExecutor, type UpdateResult } from "../nn/executor.ts";
import type { Roles } from "../nn/model.ts";
import { decodeModel } from "../nn/onnx/proto.ts";
import { isScaled } from "../nn/optim/loss-scale.ts";
import type { OptimizerConfig } from "../nn/optim/optimizer.ts";
import { gradientName, type StageGraphs, trainingGraphs } from "../nn/training.ts";
import { Tensor } from "../protocols/tensor.ts";
import { Actor, type Down, type Ref } from "../runtime/index.ts";
import { collectGarbage } from "../runtime/platform/garbage.ts";
import { Inbox, type Slip } from "./inbox.ts";
import {
  isOfMicroBatch,
  type MicroBatchOperation,
  peakInFlight,
  type StageProgram,
} from "./scheduler/program.ts";
import { StepRun } from "./step-run.ts";

/** Everything a stage is made from. Plain data, sent to the device that hosts it. */
export interface StageSpec {
  readonly generation: number;
  readonly program: StageProgram;
  readonly microBatches: number;
  /** The stage's forward graph: the bytes of an ONNX file, u8. */
  readonly graph: Tensor;
  /** What the graph's inputs are. */
  readonly roles: Roles;
  /** Activation that comes in, and that goes out; null at the model's ends. */
  readonly input: string | null;
  readonly output: string | null;
  /** Whether the stage before wants a gradient. */
  readonly inputGradient: boolean;
  readonly recompute: boolean;
  /** With `recompute`, bytes of each micro-batch to keep all the same. */
  readonly stashBytes: number;
  readonly optimizer: OptimizerConfig;
  /** Parameters of the whole model. */
  readonly totalParameters: number;
  /** What randomness in the graph is drawn from. */
  readonly seed: number;
}

/**
 * When an operation ran, in milliseconds of the device's clock. A forward pass that reads data of its own waits for
 * it within its span. "update" is there twice: the sums of squares before the commit gate, the update behind it.
 */
export interface OperationSpan {
  readonly op: MicroBatchOperation["op"] | "update";
  readonly microBatch: number;
  readonly start: number;
  readonly end: number;
  /** Of that in kernels; 0 for messages. */
  readonly kernelMs: number;
}

/** An update, and when it ran. */
export interface CommitReport extends UpdateResult {
  readonly span: OperationSpan;
}

/** What a stage has to say when it has all gradients of a step. */
export interface StepReport {
  /** One per parameter of the stage. */
  readonly squareSums: Tensor;
  /** Loss of every micro-batch, on the last stage. */
  readonly losses: readonly number[] | null;
  /** Where the time went, in milliseconds: in kernels, copying tensors, waiting for inputs, all in all. */
  readonly kernelMs: number;
  readonly copyMs: number;
  readonly waitMs: number;
  readonly totalMs: number;
  readonly spans: readonly OperationSpan[];
}

/** Received tensors that have been copied, after which they are cleared away. */
const GARBAGE_BYTES = 64 * 2 ** 20;

export class Stage extends Actor {
  static override readonly reentrant: readonly string[] = ["deliver", "abandon"];

  readonly #spec: StageSpec;
  readonly #engine: Engine;
  readonly #inbox = new Inbox();
  readonly #graphs: StageGraphs;
  #executor!: StageExecutor;
  #previous: Ref<Stage> | null = null;
  #next: Ref<Stage> | null = null;
  #tied: Readonly<Record<string, readonly Ref<Stage>[]>> = {};
  /** Sends of a slot that have not settled. */
  readonly #sending: Promise<unknown>[][] = [];
  /** Bytes of tensors that have been copied since garbage was last collected. */
  #garbage = 0;

  constructor(spec: StageSpec, engine: Engine) {
    super();
    this.#spec = spec;
    this.#engine = engine;
    const split = spec.program.operations.some(({ op }) => op.startsWith("backward-"));
    const options = { ...spec, split, scaledLoss: isScaled(spec.optimizer) };
    this.#graphs = trainingGraphs(decodeModel(spec.graph.bytes), spec.roles, options);
  }

  override async onStart(): Promise<void> {
    const { program, optimizer, totalParameters, microBatches, seed } = this.#spec;
    const slots = peakInFlight(program);
    for (let i = 0; i < slots; i++) this.#sending.push([]);
    this.#executor = await StageExecutor.create(this.#engine, this.#graphs, {
      slots,
      ...{ optimizer, totalParameters, microBatches, seed },
    });
  }

  override onStop(): void {
    this.abandon();
    this.#executor.release();
  }

  /** A neighbour is gone: what it would have sent will never come. */
  override onDown(down: Down): void {
    this.#inbox.fail(new Error(`a neighbouring stage is gone: ${down.reason.message}`));
  }

  /**
   * Names the stages before and behind; null at the ends. `tied` are those that hold a parameter which is one with one of
   * this stage's, by its name here.
   * @throws TensorError when something that the stage holds has not been loaded.
   */
  connect(
    previous: Ref<Stage> | null,
    next: Ref<Stage> | null,
    tied: Readonly<Record<string, readonly Ref<Stage>[]>> = {},
  ): void {
    this.#executor.requireLoaded();
    this.#previous = previous;
    this.#next = next;
    this.#tied = tied;
    const others = [previous, next, ...Object.values(tied).flat()];
    const known = new Map(others.flatMap((other) => (other ? [[other.key, other] as const] : [])));
    for (const other of known.values()) this.context.monitor(other);
  }

  /**
   * Copies some of what the stage holds into it: parameters, frozen values, statistics, optimiser state.
   * @throws TensorError when they do not fit.
   */
  async load(values: Readonly<Record<string, Tensor>>): Promise<void> {
    await this.#executor.put(new Map(Object.entries(values)));
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
    const taken = this.#inbox.put(slip, tensor);
    return slip.phase === "evaluate" ? taken : undefined;
  }

  /** Gives up what is under way: nothing more will be delivered. */
  abandon(): void {
    this.#inbox.fail(new Error("the run is over"));
  }

  /** Answered when nothing is under way any more: one message is handled at a time, and this one does nothing. */
  idle(): void {}

  /** Runs the program of one step, up to the commit gate. */
  async train(step: number): Promise<StepReport> {
    const { clock } = this.context;
    const { program, microBatches } = this.#spec;
    const run = new StepRun(microBatches);
    const began = clock.now();
    // A step that failed before it was committed has left its gradients behind.
    await this.#executor.clearGradients();
    for (const operation of program.operations) {
      if (!isOfMicroBatch(operation)) continue;
      const start = clock.now();
      const before = run.kernelMs;
      await this.#perform(operation, step, run);
      run.spans.push({ ...operation, start, end: clock.now(), kernelMs: run.kernelMs - before });
    }
    const start = clock.now();
    await this.#exchangeTied(step);
    const squareSums = await this.#executor.squareSums();
    const squares = this.#updateSpan(start);
    run.spans.push(squares);
    run.kernelMs += squares.kernelMs;
    return {
      squareSums: Tensor.f32([squareSums.length], squareSums),
      losses: this.#spec.output === null ? run.losses : null,
      kernelMs: run.kernelMs,
      copyMs: run.copyMs,
      waitMs: run.waitMs,
      totalMs: clock.now() - began,
      spans: run.spans,
    };
  }

  /** Updates the parameters: every stage has all gradients of `step`. `squareSums` is of the whole model. */
  async commit(step: number, squareSums: Tensor): Promise<CommitReport> {
    const start = this.context.clock.now();
    const result = await this.#executor.update(step, squareSums.f32());
    return { ...result, span: this.#updateSpan(start) };
  }

  /**
   * Takes `count` micro-batches through the forward pass. Resolves with their losses on the last stage, with
   * nothing on others.
   */
  async evaluate(step: number, count: number): Promise<number[]> {
    const losses: number[] = [];
    const { evaluate, data, input, output } = this.#graphs;
    const names = [...data.map(({ name }) => name), ...(input === null ? [] : [input])];
    // All that is sent has to be taken; validation may have no use for some of it.
    const read = new Set(evaluate.inputs.map(({ name }) => name));
    for (let microBatch = 0; microBatch < count; microBatch++) {
      const inputs: Record<string, Tensor> = {};
      for (const name of names) {
        const tensor = await this.#inbox.take(this.#slip("evaluate", step, microBatch, name));
        this.#garbage += tensor.bytes.byteLength;
        if (read.has(name)) inputs[name] = tensor;
      }
      const result = await this.#during(this.#executor.evaluate(inputs));
      if (output === null) losses.push(result.f32()[0]!);
      else await this.#give(this.#next!, this.#slip("evaluate", step, microBatch, output), result);
    }
    return losses;
  }

  /**
   * What training changes, by name: parameters, the optimiser's state, statistics; all of it, or those of `names` that
   * there are. Views of the stage's memory: they are borrowed, by a link until they have been sent and by whoever asks on
   * the same node until the next step.
   */
  async state(names: readonly string[] | null = null): Promise<Record<string, Tensor>> {
    return Object.fromEntries(await this.#executor.tensors(names ?? undefined));
  }

  /**
   * Gradients of parameters that are one with another stage's, given and taken, before the gate: each stage adds all of
   * them in the same order.
   */
  async #exchangeTied(step: number): Promise<void> {
    const { ties, parameters } = this.#graphs;
    const own = new Set(parameters.map(({ name }) => name));
    const slip = (name: string) => this.#slip("train", step, this.#spec.microBatches, gradientName(name));
    const given = Object.entries(this.#tied).flatMap(([name, others]) =>
      others.map(async (other) => this.#give(other, slip(name), await this.#executor.gradient(name))),
    );
    const taken = ties.flat().filter((name) => !own.has(name));
    await Promise.all([
      ...given,
      ...taken.map(async (name) => this.#executor.putTied(name, await this.#inbox.take(slip(name)))),
    ]);
  }

  /** A run of the optimiser's graphs that began at `start` and ends now. */
  #updateSpan(start: number): OperationSpan {
    const end = this.context.clock.now();
    return { op: "update", microBatch: 0, start, end, kernelMs: end - start };
  }

  async #perform(operation: MicroBatchOperation, step: number, run: StepRun): Promise<void> {
    const { op, microBatch } = operation;
    const { input, output, inputGradient, outputGradient, result } = this.#graphs;
    const slip = (value: string) => this.#slip("train", step, microBatch, value);
    switch (op) {
      case "receive-activation":
        return this.#receive(slip(input!), await this.#slotFor(microBatch, step, run), run);
      case "forward":
      case "forward-backward": {
        const slot = await this.#slotFor(microBatch, step, run);
        for (const { name } of this.#graphs.data) await this.#receive(slip(name), slot, run);
        const kernel = op === "forward" ? this.#executor.forward(slot) : this.#executor.joint(slot);
        run.kernelMs += await this.#during(kernel);
        if (output === null) run.losses[microBatch] = this.#executor.value(slot, result).f32()[0]!;
        if (op === "forward-backward" && !inputGradient) run.freeSlot(microBatch);
        return;
      }
      case "send-activation":
        this.#send(this.#next!, slip(output!), run.slotOf(microBatch));
        if (!outputGradient) run.freeSlot(microBatch);
        return;
      case "receive-gradient":
        return this.#receive(slip(gradientName(output!)), run.slotOf(microBatch), run);
      case "backward":
        run.kernelMs += await this.#during(this.#executor.backward(run.slotOf(microBatch)));
        if (!inputGradient) run.freeSlot(microBatch);
        return;
      case "backward-input":
        run.kernelMs += await this.#during(this.#executor.backwardInput(run.slotOf(microBatch)));
        return;
      case "backward-weight":
        run.kernelMs += await this.#during(this.#executor.backwardWeights(run.slotOf(microBatch)));
        if (!inputGradient || run.halfDone(microBatch)) run.freeSlot(microBatch);
        return;
      case "send-gradient":
        this.#send(this.#previous!, slip(gradientName(input!)), run.slotOf(microBatch));
        if (!this.#graphs.backwardWeights || run.halfDone(microBatch)) run.freeSlot(microBatch);
        return;
      default:
        throw new RangeError(`a stage cannot perform "${op}"`);
    }
  }

  /** While a kernel runs in the engine's thread, this one has time to clear away. */
  #during<T>(kernel: Promise<T>): Promise<T> {
    if (this.#garbage >= GARBAGE_BYTES) {
      this.#garbage = 0;
      collectGarbage();
    }
    return kernel;
  }

  /** The slot a micro-batch is in, given to it when it comes, after earlier sends from there have settled. */
  async #slotFor(microBatch: number, step: number, run: StepRun): Promise<number> {
    const slot = run.claimSlot(microBatch);
    const sends = this.#sending[slot]!.splice(0);
    if (sends.length > 0) await Promise.all(sends);
    this.#executor.place(slot, step, microBatch);
    return slot;
  }

  async #receive(slip: Slip, slot: number, run: StepRun): Promise<void> {
    const { clock } = this.context;
    const asked = clock.now();
    const tensor = await this.#inbox.take(slip);
    const came = clock.now();
    // Training may have no use for what the forward graph reads.
    if (this.#executor.has(slip.value)) this.#executor.write(slot, slip.value, tensor);
    this.#garbage += tensor.bytes.byteLength;
    run.waitMs += came - asked;
    run.copyMs += clock.now() - came;
  }

  /** Sends without waiting; a failure shows where the slot is claimed next, or at the scheduler. */
  #send(to: Ref<Stage>, slip: Slip, slot: number): void {
    const sent = this.#give(to, slip, this.#executor.value(slot, slip.value));
    sent.catch((error) => this.#inbox.fail(error));
    this.#sending[slot]!.push(sent);
  }

  /** Delivers a tensor of the executor's, which is free to be written over when this has settled. */
  #give(to: Ref<Stage>, slip: Slip, tensor: Tensor): Promise<void> {
    const here = to.address.node === this.context.node.id;
    const { dtype, shape, bytes } = tensor;
    return to.ask.deliver(slip, here ? new Tensor(dtype, shape, bytes.slice()) : tensor);
  }

  #slip(phase: Slip["phase"], step: number, microBatch: number, value: string): Slip {
    return { generation: this.#spec.generation, phase, step, microBatch, value };
  }
}
