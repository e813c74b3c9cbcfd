/**
 * One stage's training state in an engine's memory, and the runs over it: parameters, gradient accumulators,
 * optimiser state, frozen values, running statistics, and a fixed number of slots, each with room for one micro-batch
 * in flight.
 *
 * Everything is allocated and bound once, so a step allocates nothing and parameters are never copied. What runs
 * when is the caller's business; runs happen one at a time, in the order asked for.
 *
 * What only runs use stays where they run: on a device with memory of its own, what a micro-batch brings and what leaves
 * the stage is all that is carried there and back.
 *
 * Statistics are there twice: as the last update left them, which validation reads, and as the micro-batches since then
 * have moved them.
 */

import { type Tensor, TensorError } from "../protocols/tensor.ts";
import type { ChunkExecutor } from "./chunk-executor.ts";
import type { Binding, Engine, EngineTensor } from "./engine/engine.ts";
import { Arena, copyInto, type EngineTensors, requireType } from "./executor/arena.ts";
import type { Followed } from "./executor/follower.ts";
import { Outer } from "./executor/outer.ts";
import { type Run, Slots } from "./executor/slots.ts";
import { type Kept, type UpdateResult, Updater } from "./executor/updater.ts";
import type { OptimizerConfig } from "./optim/optimizer.ts";
import { type OuterConfig, startName } from "./optim/outer.ts";
import type { Collectives } from "./shards/collectives.ts";
import { gradientName, type StageGraphs } from "./training.ts";

export type { UpdateResult } from "./executor/updater.ts";

export interface ExecutorOptions {
  /** Micro-batches that may be in flight at once. */
  readonly slots: number;
  readonly optimizer: OptimizerConfig;
  /** Parameters of the whole model, all stages together. */
  readonly totalParameters: number;
  /** Micro-batches in a step, where the loss is scaled. */
  readonly microBatches?: number;
  /** What randomness in the graph is drawn from; 0 when left out. */
  readonly seed?: number;
  /** Where members train on their own and meet now and then, what they do when they meet. */
  readonly outer?: OuterConfig;
  /**
   * Memory of another executor on the same engine that takes the place of a slot's own, by slot and name: what goes in
   * where the chunk before this one has its output, see `outgoing`. It must be there as long as this one is.
   */
  readonly lent?: (slot: number) => ReadonlyMap<string, EngineTensor>;
  /** Collects operator times; see `profile`. */
  readonly profile?: boolean;
}

export class StageExecutor implements ChunkExecutor {
  readonly graphs: StageGraphs;
  readonly cuts: ChunkExecutor["cuts"] = new Map();
  private readonly options: ExecutorOptions;
  private readonly arena: Arena;
  private readonly updater: Updater;
  /** What all slots share, by name. */
  private readonly state: EngineTensors = new Map();
  /** Statistics as the last update left them. */
  private readonly committed: EngineTensors = new Map();
  /** Statistics as the micro-batches since then have moved them. */
  private readonly moving: EngineTensors = new Map();
  private readonly slots: Slots;
  private outer: Outer | undefined;
  private readonly evaluateTensors: EngineTensors = new Map();
  private evaluateRun: Binding | undefined;
  private readonly loaded = new Set<string>();

  private constructor(engine: Engine, graphs: StageGraphs, options: ExecutorOptions) {
    this.graphs = graphs;
    this.options = options;
    this.arena = new Arena(engine, options.profile ?? false);
    const { totalParameters, optimizer } = options;
    this.updater = new Updater(this.arena, graphs, totalParameters, optimizer, this.state);
    this.slots = new Slots(this.arena, graphs, this.state, this.moving);
  }

  /**
   * Compiles the stage's graphs and allocates its state, all zero; `load` fills the parameters.
   * @throws EngineError when the engine refuses a graph; nothing is left behind.
   */
  static async create(engine: Engine, graphs: StageGraphs, options: ExecutorOptions): Promise<StageExecutor> {
    const executor = new StageExecutor(engine, graphs, options);
    try {
      await executor.build();
    } catch (error) {
      executor.release();
      throw error;
    }
    return executor;
  }

  private async build(): Promise<void> {
    const { graphs, arena, options } = this;
    await this.updater.build();
    for (const info of graphs.frozen) this.state.set(info.name, arena.allocate(info, "device"));
    for (const info of graphs.statistics) {
      this.committed.set(info.name, arena.allocate(info, "device"));
      this.moving.set(info.name, arena.allocate(info, "device"));
    }
    if (options.outer) {
      this.outer = new Outer(arena, graphs.parameters, this.state, options.outer);
      await this.outer.build();
    }
    await this.slots.build(options.slots, options.lent);
  }

  /** Makes room for so many micro-batches in flight, unless there is. @throws EngineError when the engine has none left. */
  grow(slots: number): void {
    this.slots.grow(slots, this.options.lent);
  }

  /** Says which micro-batch is about to be in `slot`: what is random in it is drawn from that. Both count from 0. */
  place(slot: number, step: number, microBatch: number): void {
    this.slots.place(slot, [this.options.seed ?? 0, step, microBatch]);
  }

  /** Runs the forward pass of the micro-batch in `slot`; resolves with kernel milliseconds. */
  forward(slot: number): Promise<number> {
    return this.run(slot, "forward");
  }

  /** Runs the backward pass: gradients are added to the accumulators, the input's gradient is in the slot. */
  backward(slot: number): Promise<number> {
    return this.run(slot, "backward");
  }

  /** The backward pass up to the input's gradient, where it is split; nothing to run where that is not wanted. */
  backwardInput(slot: number): Promise<number> {
    return this.graphs.backwardInput ? this.run(slot, "backwardInput") : Promise.resolve(0);
  }

  /** The rest of the backward pass, where it is split: gradients are added to the accumulators. */
  backwardWeights(slot: number): Promise<number> {
    return this.graphs.backwardWeights ? this.run(slot, "backwardWeights") : Promise.resolve(0);
  }

  /** Forward and backward in one run (last stage only); the loss is in the slot. */
  joint(slot: number): Promise<number> {
    return this.run(slot, "joint");
  }

  /**
   * A value of the micro-batch in `slot`: an input to be written before its run, or an output to be read after
   * it. The view stays valid; its content until the slot is used again.
   */
  value(slot: number, name: string): Tensor {
    return this.slots.value(slot, name).tensor;
  }

  /** The memory of what leaves a slot for the chunk behind, and of its gradient where that is wanted. */
  outgoing(slot: number): ReadonlyMap<string, EngineTensor> {
    const { output } = this.graphs;
    const names = output === null ? [] : [output, gradientName(output)].filter((name) => this.has(name));
    return new Map(names.map((name) => [name, this.slots.value(slot, name)]));
  }

  /** Whether micro-batches have a value of this name: training may have no use for an input of the forward graph. */
  has(name: string): boolean {
    return this.slots.has(name);
  }

  /** Whether validation reads a value of this name. */
  evaluates(name: string): boolean {
    return this.graphs.evaluate.inputs.some((input) => input.name === name);
  }

  /** Copies an input of the micro-batch in `slot` to where its runs read it. @throws TensorError for another type. */
  write(slot: number, name: string, tensor: Tensor): void {
    copyInto(this.value(slot, name), name, tensor);
  }

  /**
   * Runs the forward pass outside training, on its own memory; `inputs` are copied in, the result is a view that
   * the next run writes over.
   * @throws TensorError for an input that the stage does not have, or of another type.
   */
  async evaluate(inputs: Readonly<Record<string, Tensor>>): Promise<Tensor> {
    if (!this.evaluateRun) {
      const executable = await this.arena.compile(this.graphs.evaluate);
      const shared = new Map([...this.state, ...this.committed]);
      this.evaluateRun = this.arena.bind(executable, this.evaluateTensors, shared);
    }
    for (const [name, tensor] of Object.entries(inputs)) {
      const input = this.evaluateTensors.get(name);
      if (!input) throw new TensorError(`stage ${this.graphs.evaluate.name} has no input "${name}"`);
      copyInto(input.tensor, name, tensor);
    }
    await this.evaluateRun.run();
    return this.evaluateTensors.get(this.graphs.result)!.tensor;
  }

  /** Adds all gradients up over the members of a stage to which micro-batches are dealt. */
  reduce(key: string, collectives: Collectives): Promise<void> {
    const names = this.graphs.parameters.map(({ name }) => name);
    return this.updater.addUp(names, key, collectives);
  }

  /** The gradients of a parameter that have added up so far, a view; what other stages with a tied one ask for. */
  gradient(name: string): Promise<Tensor> {
    return this.updater.gradient(name);
  }

  /** Statistics as the micro-batches since the last update have moved them; an update keeps them so. */
  movingStatistics(): ReadonlyMap<string, Kept> {
    return this.moving;
  }

  /** Takes the gradient of a tied parameter that another stage holds, before `squareSums`. @throws TensorError for others. */
  putTied(name: string, tensor: Tensor): Promise<void> {
    return this.updater.putTied(name, tensor);
  }

  /** Sets what has accumulated of a parameter's gradient, in place of what has. @throws TensorError for another type. */
  putGradient(name: string, tensor: Tensor): Promise<void> {
    return this.updater.putGradient(name, tensor);
  }

  /** Sum of squares of each parameter's accumulated gradient, in the order of `graphs.parameters`. */
  squareSums(): Promise<Float32Array> {
    return this.updater.squareSums();
  }

  /**
   * Updates parameters and optimiser state in place, keeps the statistics as they have moved, and clears the
   * accumulators.
   * @param step 0-based.
   * @param squareSums of all parameters of the model, in the model's order.
   * @throws DivergedError when one of them is not finite: then nothing has been updated.
   */
  async update(step: number, squareSums: Float32Array): Promise<UpdateResult> {
    const result = await this.updater.update(step, squareSums);
    if (!result.skipped) await copyAll(this.moving, this.committed);
    await this.clearGradients();
    return result;
  }

  followed(): Followed | null {
    return this.outer || this.graphs.statistics.length > 0 ? null : this.updater.followed();
  }

  summed(): Promise<ReadonlyMap<string, Tensor>> {
    return this.updater.summed();
  }

  /**
   * The update of an asynchronous schedule: at once, from the gradients of the one micro-batch that has just had its
   * backward pass; those of others in flight still run with the parameters that their forward passes had, see
   * `executor/versions.ts`. Clipping is by the norm of this stage's own gradients: nobody waits for the others'. The
   * stage's graphs and options are made for one micro-batch in a step, and its optimiser by `perMicroBatch`.
   * @param update counts them, from 0.
   * @throws TensorError for a parameter that is tied to another stage's, whose gradient would have to be waited for.
   * @throws DivergedError as `update`.
   */
  async updateNow(update: number): Promise<UpdateResult> {
    const { parameters, ties, evaluate } = this.graphs;
    const own = new Set(parameters.map(({ name }) => name));
    const foreign = ties.flat().find((name) => !own.has(name));
    if (foreign !== undefined) {
      throw new TensorError(
        `stage ${evaluate.name} updates alone, and another one holds ${foreign}, which is tied to its own: use 1f1b`,
      );
    }
    const squareSums = new Float32Array(this.options.totalParameters);
    squareSums.set(await this.squareSums());
    await this.slots.keepParameters();
    return this.update(update, squareSums);
  }

  /**
   * At a meeting of members that have trained on their own, after an update: puts what this one's parameters have moved
   * since the last meeting, times its share (all members' add up to 1), where gradients add up. `reduce` makes the mean of
   * it, and `outerStep` the members one again. Not without `outer`, see `ExecutorOptions`.
   */
  pseudoGradients(share: number): Promise<void> {
    return this.atMeeting().pseudoGradients(share);
  }

  /** Goes the outer optimiser's step by what has been added up, takes its result for parameters, and clears that. */
  async outerStep(): Promise<void> {
    await this.atMeeting().step();
    await this.updater.clearGradients();
  }

  /** Forgets what has been accumulated since the last update, statistics included. */
  async clearGradients(): Promise<void> {
    await this.updater.clearGradients();
    await copyAll(this.committed, this.moving);
  }

  /**
   * What training changes: each parameter, the optimiser's state under its own names, and statistics; or those of
   * `names` that there are. Views, live where runs use the host's memory and else as of now. Tied parameters of one
   * stage are views of the same memory.
   */
  async tensors(names?: readonly string[]): Promise<Map<string, Tensor>> {
    const wanted = names && new Set(names);
    const tensors = new Map<string, Tensor>();
    for (const [name, kept] of this.kept()) {
      if (wanted?.has(name) ?? true) tensors.set(name, await kept.read());
    }
    return tensors;
  }

  /**
   * Copies parameters, frozen values, statistics and, where given, optimiser state in; names of other stages are
   * passed over. A tied parameter may be given under its owner's name.
   * @throws TensorError for one that is missing or of another type; then nothing has been copied.
   */
  async load(values: ReadonlyMap<string, Tensor>): Promise<void> {
    this.requireNames((name) => values.has(name));
    await this.put(values);
  }

  /** As `load`, of a part of what the stage holds. @throws TensorError for a tensor of another type. */
  async put(values: ReadonlyMap<string, Tensor>): Promise<void> {
    const frozen = this.graphs.frozen.map(({ name }): [string, Kept] => [name, this.state.get(name)!]);
    const given = [...this.kept(), ...frozen].flatMap(([name, kept]) => {
      const value = values.get(name) ?? values.get(this.ownerOf(name));
      return value ? [{ name, kept, value }] : [];
    });
    for (const { name, kept, value } of given) requireType(kept.tensor, name, value);
    for (const { name, kept, value } of given) {
      for (const memory of [kept, this.moving.get(name)]) {
        memory?.tensor.bytes.set(value.bytes);
        await memory?.write();
      }
      this.loaded.add(name);
    }
    for (const { name } of this.outer ? this.graphs.parameters : []) {
      const isGiven = given.some((value) => value.name === name);
      if (isGiven && !this.loaded.has(startName(name))) await this.outer!.begin(name);
    }
  }

  /** @throws TensorError naming a parameter, frozen value or statistic that has not been loaded. */
  requireLoaded(): void {
    this.requireNames((name) => this.loaded.has(name));
  }

  /** Kernel time by operator of all runs so far, when created with `profile`. */
  profile(): Promise<Map<string, number>> {
    return this.arena.profile();
  }

  /** Gives back everything the stage holds in the engine. No run may be in flight. */
  release(): void {
    this.arena.release();
  }

  private kept(): Map<string, Kept> {
    return new Map([...this.updater.kept(), ...(this.outer?.kept() ?? []), ...this.committed]);
  }

  private atMeeting(): Outer {
    if (this.outer) return this.outer;
    throw new TensorError(
      `stage ${this.graphs.evaluate.name} has no outer optimiser: give it one when it is made`,
    );
  }

  private requireNames(has: (name: string) => boolean): void {
    const { parameters, frozen, statistics } = this.graphs;
    for (const [what, infos] of Object.entries({
      parameter: parameters,
      "frozen value": frozen,
      statistic: statistics,
    })) {
      for (const { name } of infos) {
        if (!has(name) && !has(this.ownerOf(name))) throw new TensorError(`${what} ${name} is missing`);
      }
    }
  }

  private ownerOf(name: string): string {
    return this.graphs.ties.find((group) => group.includes(name))?.[0] ?? name;
  }

  private run(slot: number, kind: Run): Promise<number> {
    return this.slots.run(slot, kind, this.updater.lossGradient(this.options.microBatches ?? 1));
  }
}

async function copyAll(from: EngineTensors, to: EngineTensors): Promise<void> {
  for (const [name, tensor] of to) await tensor.copy(from.get(name)!);
}
