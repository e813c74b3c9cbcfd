/**
 * One rank's part of a chunk whose work inside a micro-batch is shared, in an engine's memory: the counterpart of
 * `StageExecutor`, with the same methods. A pass is a few runs, with collectives between them; activations and gradients
 * come in whole and leave whole, on every rank.
 *
 * All ranks do the same things in the same order. Of sums of squares each rank says those of its own parts, and the first
 * those of what all have: added up they are the whole chunk's. Optimisers update element by element, so a rank updates
 * what it holds by itself.
 */

import { Tensor, TensorError } from "../../protocols/tensor.ts";
import type { ChunkExecutor, ChunkValues } from "../chunk-executor.ts";
import type { Engine, Executable } from "../engine/engine.ts";
import { Arena, type EngineTensors, requireType } from "../executor/arena.ts";
import type { Followed } from "../executor/follower.ts";
import { type Kept, type UpdateResult, Updater } from "../executor/updater.ts";
import type { ExecutorOptions } from "../executor.ts";
import { COUNTERS } from "../model.ts";
import { GraphError } from "../onnx/graph.ts";
import { stateNames } from "../optim/optimizer.ts";
import { gradientName } from "../training.ts";
import { requireElementwise, type ShardChunk } from "./chunk.ts";
import type { Collectives } from "./collectives.ts";
import { BackwardPass } from "./executor/backward.ts";
import { ForwardPass } from "./executor/forward.ts";
import { type Cut, cutLength } from "./layout.ts";
import { sliceTensor } from "./slices.ts";

/** Room for one micro-batch, from its arrival to the end of its backward pass. Passes run one at a time. */
interface Slot {
  readonly forward: ForwardPass;
  readonly backward: BackwardPass;
  /** Where in the run its micro-batch is: collectives of several are told apart by it. */
  place: string;
}

export class ShardExecutor implements ChunkExecutor {
  readonly graphs: ChunkValues;
  readonly cuts: ReadonlyMap<string, Cut>;
  private readonly chunk: ShardChunk;
  private readonly options: ExecutorOptions;
  private readonly collectives: Collectives;
  /** Tells the chunks of a stage apart. */
  private readonly name: string;
  private readonly arena: Arena;
  private readonly updater: Updater;
  private readonly state: EngineTensors = new Map();
  private readonly slots: Slot[] = [];
  private readonly loaded = new Set<string>();
  private last: Promise<unknown> = Promise.resolve();
  private evaluation: ForwardPass | undefined;
  private evaluations = 0;

  private constructor(engine: Engine, chunk: ShardChunk, collectives: Collectives, options: ExecutorOptions) {
    const { values, plan } = chunk;
    this.chunk = chunk;
    this.graphs = values;
    this.collectives = collectives;
    this.options = options;
    this.name = values.result;
    this.arena = new Arena(engine, options.profile ?? false);
    const { totalParameters, optimizer } = options;
    const updated = { ...values, evaluate: { name: plan.name } };
    this.updater = new Updater(this.arena, updated, totalParameters, optimizer, this.state);
    const cuts = new Map<string, Cut>();
    for (const info of [...values.parameters, ...values.frozen]) {
      const { cut } = plan.holdings[info.name]!;
      const trained = values.parameters.includes(info);
      for (const name of cut ? [info.name, ...(trained ? stateNames(optimizer, info) : [])] : []) {
        cuts.set(name, cut!);
      }
    }
    this.cuts = cuts;
  }

  /**
   * Compiles the graphs of this rank's phases and allocates its state, all zero; `load` fills the parameters.
   * @param collectives of the ranks of the chunk, in the order of the plan's.
   * @throws GraphError for an optimiser that wants whole matrices, EngineError when the engine refuses a graph; nothing
   * is left behind.
   */
  static async create(
    engine: Engine,
    chunk: ShardChunk,
    collectives: Collectives,
    options: ExecutorOptions,
  ): Promise<ShardExecutor> {
    const { plan, rank } = chunk;
    if (collectives.rank !== rank || collectives.ranks !== plan.ranks) {
      throw new GraphError(
        `rank ${rank} of ${plan.ranks} of graph ${plan.name} was given collectives of rank ${collectives.rank} of ${collectives.ranks}`,
      );
    }
    requireElementwise(plan, options.optimizer);
    const executor = new ShardExecutor(engine, chunk, collectives, options);
    try {
      await executor.build();
    } catch (error) {
      executor.release();
      throw error;
    }
    return executor;
  }

  private async build(): Promise<void> {
    const { arena, chunk, state, collectives, options } = this;
    await this.updater.build();
    for (const info of chunk.values.frozen) state.set(info.name, arena.allocate(info, "device"));
    const forward: Executable[] = [];
    const backward: (Executable | null)[] = [];
    for (const phase of chunk.phases) {
      forward.push(await arena.compile(phase.forward));
      backward.push(phase.backward && (await arena.compile(phase.backward)));
    }
    const [values, gradients]: EngineTensors[] = [new Map(), new Map()];
    for (let i = 0; i < options.slots; i++) {
      const pass = new ForwardPass(arena, chunk, forward, state, values!, collectives);
      const back = new BackwardPass(arena, chunk, backward, state, gradients!, pass, collectives);
      this.slots.push({ forward: pass, backward: back, place: "0/0" });
    }
  }

  place(slot: number, step: number, microBatch: number): void {
    const counts = [this.options.seed ?? 0, step, microBatch];
    const room = this.slot(slot);
    COUNTERS.forEach((name, i) => {
      const counter = room.forward.values.get(name);
      if (counter) counter.tensor.i64()[0] = BigInt(counts[i]!);
    });
    room.place = `${step}/${microBatch}`;
  }

  forward(slot: number): Promise<number> {
    const { forward, place } = this.slot(slot);
    return this.inTurn(() => forward.run(`${this.name}/${place}/forward`));
  }

  backward(slot: number): Promise<number> {
    const { backward, place } = this.slot(slot);
    if (this.graphs.output === null) {
      const seed = this.updater.lossGradient(this.options.microBatches ?? 1);
      backward.enter(Tensor.f32([], [seed]));
    }
    return this.inTurn(() => backward.run(`${this.name}/${place}/backward`));
  }

  /** There are no halves. @throws TensorError always. */
  async backwardInput(slot: number): Promise<number> {
    throw new TensorError(`${this.slotText(slot)}: the backward pass of a shared chunk is not split`);
  }

  /** There are no halves. @throws TensorError always. */
  backwardWeights(slot: number): Promise<number> {
    return this.backwardInput(slot);
  }

  async joint(slot: number): Promise<number> {
    const forward = await this.forward(slot);
    return forward + (await this.backward(slot));
  }

  value(slot: number, name: string): Tensor {
    const { forward, backward } = this.slot(slot);
    const { input, result } = this.graphs;
    if (name === result) return forward.result;
    if (input !== null && name === gradientName(input) && this.graphs.inputGradient) return backward.result;
    const value = this.has(name) && forward.values.get(name);
    if (!value) throw new TensorError(`${this.slotText(slot)} has no value "${name}"`);
    return value.tensor;
  }

  has(name: string): boolean {
    const { input, output, outputGradient, data } = this.graphs;
    if (output !== null && name === gradientName(output)) return outputGradient;
    const comes = name === input || data.some((info) => info.name === name);
    return comes && (this.slots[0]?.forward.values.has(name) ?? false);
  }

  evaluates(name: string): boolean {
    // An incoming activation is read under another name where it goes through a collective first.
    if (name === this.graphs.input) return true;
    return this.chunk.phases.some(({ evaluate }) => evaluate.inputs.some((input) => input.name === name));
  }

  write(slot: number, name: string, tensor: Tensor): void {
    const { forward, backward } = this.slot(slot);
    if (!this.has(name)) throw new TensorError(`${this.slotText(slot)} has no value "${name}"`);
    const { output } = this.graphs;
    if (output !== null && name === gradientName(output)) backward.enter(tensor);
    else forward.enter(name, tensor);
  }

  async evaluate(inputs: Readonly<Record<string, Tensor>>, key = `${this.evaluations++}`): Promise<Tensor> {
    const { arena, chunk, state, collectives } = this;
    if (!this.evaluation) {
      const executables: Executable[] = [];
      for (const { evaluate } of chunk.phases) executables.push(await arena.compile(evaluate));
      this.evaluation = new ForwardPass(arena, chunk, executables, state, new Map(), collectives);
    }
    for (const [name, tensor] of Object.entries(inputs)) {
      if (!this.evaluates(name)) throw new TensorError(`stage ${chunk.plan.name} has no input "${name}"`);
      this.evaluation.enter(name, tensor);
    }
    await this.evaluation.run(`${this.name}/evaluate/${key}`);
    return this.evaluation.result;
  }

  /** Adds up the gradients of which each rank has summands. */
  reduce(key: string, collectives: Collectives): Promise<void> {
    const { holdings } = this.chunk.plan;
    const names = this.graphs.parameters.map(({ name }) => name);
    const summed = names.filter((name) => holdings[name]!.gradient === "sum");
    return this.updater.addUp(summed, key, collectives);
  }

  gradient(name: string): Promise<Tensor> {
    return this.updater.gradient(name);
  }

  putTied(name: string, tensor: Tensor): Promise<void> {
    return this.updater.putTied(name, tensor);
  }

  async squareSums(): Promise<Float32Array> {
    const sums = await this.updater.squareSums();
    if (this.chunk.rank === 0) return sums;
    return sums.map((sum, i) => (this.cuts.has(this.graphs.parameters[i]!.name) ? sum : 0));
  }

  async update(step: number, squareSums: Float32Array): Promise<UpdateResult> {
    const result = await this.updater.update(step, squareSums);
    await this.clearGradients();
    return result;
  }

  followed(): Followed | null {
    return this.graphs.statistics.length > 0 ? null : this.updater.followed();
  }

  summed(): Promise<ReadonlyMap<string, Tensor>> {
    return this.updater.summed();
  }

  clearGradients(): Promise<void> {
    return this.updater.clearGradients();
  }

  async tensors(names?: readonly string[]): Promise<Map<string, Tensor>> {
    const wanted = names && new Set(names);
    const tensors = new Map<string, Tensor>();
    for (const [name, kept] of this.updater.kept()) {
      if (wanted?.has(name) ?? true) tensors.set(name, await kept.read());
    }
    return tensors;
  }

  async load(values: ReadonlyMap<string, Tensor>): Promise<void> {
    this.requireNames((name) => values.has(name));
    await this.put(values);
  }

  async put(values: ReadonlyMap<string, Tensor>): Promise<void> {
    const frozen = this.graphs.frozen.map(({ name }): [string, Kept] => [name, this.state.get(name)!]);
    const given = [...this.updater.kept(), ...frozen].flatMap(([name, kept]) => {
      const value = values.get(name) ?? values.get(this.ownerOf(name));
      return value ? [{ name, kept, value: this.partOf(name, value) }] : [];
    });
    for (const { name, kept, value } of given) requireType(kept.tensor, name, value);
    for (const { name, kept, value } of given) {
      kept.tensor.bytes.set(value.bytes);
      await kept.write();
      this.loaded.add(name);
    }
  }

  requireLoaded(): void {
    this.requireNames((name) => this.loaded.has(name));
  }

  profile(): Promise<Map<string, number>> {
    return this.arena.profile();
  }

  release(): void {
    this.arena.release();
  }

  /** This rank's part of a value, which comes whole or is that part. */
  private partOf(name: string, value: Tensor): Tensor {
    const cut = this.cuts.get(name);
    return cut && value.shape[cut.axis] === cutLength(cut) ? sliceTensor(value, cut, this.chunk.rank) : value;
  }

  private requireNames(has: (name: string) => boolean): void {
    const { parameters, frozen } = this.graphs;
    for (const [what, infos] of Object.entries({ parameter: parameters, "frozen value": frozen })) {
      for (const { name } of infos) {
        if (!has(name) && !has(this.ownerOf(name))) throw new TensorError(`${what} ${name} is missing`);
      }
    }
  }

  private ownerOf(name: string): string {
    return this.graphs.ties.find((group) => group.includes(name))?.[0] ?? name;
  }

  /** Passes share memory, and all ranks have them in the same order. */
  private inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.last.then(run);
    this.last = turn.catch(() => {});
    return turn;
  }

  private slot(slot: number): Slot {
    const found = this.slots[slot];
    if (!found) throw new TensorError(`there is no ${this.slotText(slot)}`);
    return found;
  }

  private slotText(slot: number): string {
    return `slot ${slot} of ${this.slots.length} of stage ${this.chunk.plan.name}`;
  }
}
