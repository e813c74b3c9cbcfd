/**
 * The end of a step on one stage: tied gradients are added, the squares of all are summed, and the optimiser updates
 * the parameters in place.
 *
 * Of parameters that are one, each has an accumulator of its own, here or on another stage, and their sum is formed
 * in the order of the group, so that every cut of the model comes to the same bits. Members on one stage share the
 * memory of their value; a group counts once in the norm of all gradients, where its owner is.
 */

import { type Tensor, TensorError } from "../../protocols/tensor.ts";
import type { Binding, EngineTensor } from "../engine/engine.ts";
import { GraphBuilder } from "../onnx/builder.ts";
import type { Graph, ValueInfo } from "../onnx/graph.ts";
import { diverged, firstNonFinite } from "../optim/finite.ts";
import { flushGraph, isFlushed } from "../optim/flush.ts";
import { LossScale } from "../optim/loss-scale.ts";
import { type OptimizerConfig, optimizerGraph, updatedName } from "../optim/optimizer.ts";
import { squareSumsGraph } from "../optim/square-sums.ts";
import { accumulatorName, sumName } from "../passes/accumulate.ts";
import type { Collectives } from "../shards/collectives.ts";
import type { StageGraphs } from "../training.ts";
import { type Arena, copyInto, type EngineTensors } from "./arena.ts";
import type { Followed } from "./follower.ts";
import { changedNames, groupsOf, statesOf } from "./groups.ts";

/** What a stage keeps between steps, in the engine or beside it. */
export type Kept = Pick<EngineTensor, "tensor" | "read" | "write">;

export interface UpdateResult {
  /** Of all gradients of the model, before clipping; 0 when `skipped`. */
  readonly gradNorm: number;
  readonly learningRate: number;
  /** The scaled gradients overflowed: nothing was updated, and the next step's loss scale is half. */
  readonly skipped: boolean;
}

/** What is updated; the name of its graph is for messages. */
type Updated = Pick<StageGraphs, "parameters" | "ties"> & { readonly evaluate: Pick<Graph, "name"> };

export class Updater {
  private readonly arena: Arena;
  private readonly graphs: Updated;
  private readonly total: number;
  private readonly config: OptimizerConfig;
  /** Parameters with memory of their own, and accumulators and optimiser state by name. */
  private readonly state: EngineTensors;
  private readonly lossScale: LossScale;
  private readonly sums: {
    readonly binding: Binding;
    readonly local: EngineTensors;
    readonly places: number[];
  }[] = [];
  private readonly tied: Binding[] = [];
  private readonly updates: Binding[] = [];
  private readonly flushes: Binding[] = [];
  private readonly local: EngineTensors = new Map();

  constructor(arena: Arena, graphs: Updated, total: number, config: OptimizerConfig, state: EngineTensors) {
    this.arena = arena;
    this.graphs = graphs;
    this.total = total;
    this.config = config;
    this.state = state;
    this.lossScale = new LossScale(config);
  }

  /** Allocates parameters, accumulators and optimiser state, and compiles what runs at the end of a step. */
  async build(): Promise<void> {
    const { arena, graphs, state, local } = this;
    const totals: EngineTensors = new Map();
    for (const info of graphs.parameters) {
      const { name } = info;
      const lead = this.leadOf(name);
      const accumulator = arena.allocate(info, "device");
      state.set(accumulatorName(name), accumulator);
      state.set(sumName(name), accumulator);
      const leads = this.stateOf({ ...info, name: lead });
      this.stateOf(info).forEach((key, i) => {
        const tensor = lead === name ? arena.allocate(info, "device") : state.get(leads[i]!)!;
        state.set(key, tensor);
        state.set(updatedName(key), tensor);
      });
    }
    for (const group of graphs.ties) {
      const info = graphs.parameters.find(({ name }) => group.includes(name))!;
      for (const name of group) {
        const key = accumulatorName(name);
        if (!state.has(key)) state.set(key, arena.allocate(info, "device"));
      }
      const executable = await arena.compile(tieGraph(group, info));
      this.tied.push(arena.bind(executable, totals, state, () => "device"));
      local.set(sumName(info.name), totals.get("total")!);
      totals.delete("total");
    }

    const counted = graphs.parameters.filter(({ name }) => this.isOwner(name));
    if (counted.length > 0) {
      const own: EngineTensors = new Map(
        [...local].filter(([name]) => counted.some((info) => sumName(info.name) === name)),
      );
      const binding = arena.bind(await arena.compile(squareSumsGraph(counted)), own, state);
      const places = counted.map((info) => graphs.parameters.indexOf(info));
      this.sums.push({ binding, local: own, places });
    }
    for (const group of groupsOf(this.leads())) {
      const update = await arena.compile(optimizerGraph(group, this.total, this.config));
      this.updates.push(arena.bind(update, local, state));
    }
  }

  /** The gradient of the loss that the next micro-batch starts from, for `microBatches` of them. */
  lossGradient(microBatches: number): number {
    return this.lossScale.value / microBatches;
  }

  /** The gradients of a parameter that have added up so far: a view. */
  gradient(name: string): Promise<Tensor> {
    return this.memory(accumulatorName(name)).read();
  }

  /**
   * Adds gradients up over the members of a stage, all of them as one; those of a stage's chunk are always the same ones.
   * @throws what the collectives throw.
   */
  async addUp(names: readonly string[], key: string, collectives: Collectives): Promise<void> {
    const memories = names.map((name) => this.memory(accumulatorName(name)));
    if (memories.length === 0) return;
    const tensors = await Promise.all(memories.map((memory) => memory.read()));
    await collectives.allReduce(key, tensors, names[0]!);
    await Promise.all(memories.map((memory) => memory.write()));
  }

  /** Takes the gradient of a tied parameter that another stage holds. @throws TensorError for any other. */
  async putTied(name: string, tensor: Tensor): Promise<void> {
    const here = this.graphs.parameters.some((info) => info.name === name);
    if (here || !this.graphs.ties.some((group) => group.includes(name))) {
      throw new TensorError(`stage ${this.graphs.evaluate.name} waits for no gradient of ${name}`);
    }
    await this.putGradient(name, tensor);
  }

  /** Sets what has added up of a parameter's gradient. @throws TensorError for another type. */
  async putGradient(name: string, tensor: Tensor): Promise<void> {
    const memory = this.memory(accumulatorName(name));
    copyInto(memory.tensor, name, tensor);
    await memory.write();
  }

  /**
   * Sum of squares of each parameter's gradient, in the order of `graphs.parameters`. A tied group's is where its owner
   * is, 0 at its other members. Gradients that other stages hold members of have been put before.
   */
  async squareSums(): Promise<Float32Array> {
    await Promise.all(this.tied.map((binding) => binding.run()));
    const result = new Float32Array(this.graphs.parameters.length);
    for (const { binding, local, places } of this.sums) {
      await binding.run();
      const sums = local.get("square_sums")!.tensor.f32();
      places.forEach((place, i) => {
        result[place] = sums[i]!;
      });
    }
    return result;
  }

  /** @throws DivergedError when a sum of squares is not finite and no loss scale explains it; nothing has changed. */
  async update(step: number, squareSums: Float32Array): Promise<UpdateResult> {
    const tensors = this.local;
    if (squareSums.length !== this.total) {
      const expected = `one per parameter of the model, ${this.total}`;
      throw new TensorError(`square sums: expected ${expected}, got ${squareSums.length}`);
    }
    const broken = firstNonFinite(squareSums);
    if (broken !== undefined && !this.lossScale.canShrink) {
      const own =
        this.graphs.parameters.length === this.total ? this.graphs.parameters[broken.index] : undefined;
      throw diverged(`gradient of ${own?.name ?? `parameter ${broken.index}`}`, step + 1, broken.value);
    }
    tensors.get("step")!.tensor.i64()[0] = BigInt(step);
    tensors.get("square_sums")!.tensor.f32().set(squareSums);
    const scale = tensors.get("loss_scale");
    if (scale) scale.tensor.f32()[0] = this.lossScale.value;
    const skipped = broken !== undefined;
    this.lossScale.after(skipped);
    if (skipped) return { gradNorm: 0, learningRate: 0, skipped };
    await Promise.all(this.updates.map((update) => update.run()));
    if (isFlushed(step)) await this.flush();
    const scalar = (name: string) => tensors.get(name)!.tensor.f32()[0]!;
    return { gradNorm: scalar("grad_norm"), learningRate: scalar("learning_rate"), skipped };
  }

  async clearGradients(): Promise<void> {
    await Promise.all(this.graphs.parameters.map(({ name }) => this.memory(accumulatorName(name)).clear()));
  }

  /** What updates change, by name: parameters, optimiser state, the loss scale. */
  kept(): Map<string, Kept> {
    const names = this.graphs.parameters.flatMap((info) => this.stateOf(info));
    const own = names.map((name): [string, Kept] => [name, this.memory(name)]);
    const scale = this.lossScale.tensors().map(([name, tensor]): [string, Kept] => {
      return [name, { tensor, read: async () => tensor, write: async () => {} }];
    });
    return new Map([...own, ...scale]);
  }

  /** What the update is made from, for whoever makes it elsewhere as well. */
  followed(): Followed {
    const { total, config, graphs } = this;
    const tied = graphs.parameters.filter(({ name }) => this.leadOf(name) !== name);
    const aliases = tied.flatMap((info) => {
      const leads = this.stateOf({ ...info, name: this.leadOf(info.name) });
      return this.stateOf(info).map((name, i) => [name, leads[i]!]);
    });
    return { parameters: this.leads(), aliases: Object.fromEntries(aliases), total, optimizer: config };
  }

  /** Gradients as the update goes by them, behind `squareSums`: of the parameters of `followed`, by name; views. */
  async summed(): Promise<Map<string, Tensor>> {
    const own = this.leads().map(async ({ name }): Promise<[string, Tensor]> => {
      const memory = this.local.get(sumName(name)) ?? this.memory(sumName(name));
      return [name, await memory.read()];
    });
    return new Map(await Promise.all(own));
  }

  /** Compiles what flushes when it is first needed: most executors are there for a few steps, to measure them. */
  private async flush(): Promise<void> {
    if (this.flushes.length === 0) {
      for (const group of groupsOf(this.leads())) {
        const states = statesOf(group, this.config);
        if (states.length === 0) continue;
        const executable = await this.arena.compile(flushGraph(states));
        this.flushes.push(this.arena.bind(executable, new Map(), this.state));
      }
    }
    await Promise.all(this.flushes.map((binding) => binding.run()));
  }

  /** Parameters with memory of their own. */
  private leads(): readonly ValueInfo[] {
    return this.graphs.parameters.filter(({ name }) => this.leadOf(name) === name);
  }

  /** A parameter and what the optimiser keeps of it. */
  private stateOf(info: ValueInfo): string[] {
    return changedNames(info, this.config);
  }

  private memory(name: string): EngineTensor {
    return this.state.get(name)!;
  }

  /** The first member of its group that this stage holds: the one whose memory all of them use. */
  private leadOf(name: string): string {
    const group = this.graphs.ties.find((members) => members.includes(name));
    const held = new Set(this.graphs.parameters.map((info) => info.name));
    return group?.find((member) => held.has(member)) ?? name;
  }

  private isOwner(name: string): boolean {
    return this.graphs.ties.every((group) => group[0] === name || !group.includes(name));
  }
}

/** `acc.<name>` of every member in, their sum `total` out, added in the order given. */
function tieGraph(members: readonly string[], { dtype, shape }: ValueInfo): Graph {
  const b = new GraphBuilder("ties");
  const parts = members.map((name) => b.input(accumulatorName(name), dtype, shape));
  const last = parts.pop()!;
  const before = parts.reduce((sum, part) => b.op("Add", [sum, part]));
  b.op("Add", [before, last], {}, "total");
  b.output("total");
  return b.build();
}
