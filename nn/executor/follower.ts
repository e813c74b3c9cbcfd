/**
 * The optimiser's part of a chunk, elsewhere: whoever has the values that a step began with makes what the step leaves of
 * them, by the gradients that the chunk has added up and the scalars that its own update went by. The graphs are those of
 * `Updater`, so on an engine of the same kind it comes to the same bits.
 *
 * It holds compiled graphs and room for gradients; the values are the caller's.
 */

import type { Engine, EngineTensor, Executable } from "../engine/engine.ts";
import type { ValueInfo } from "../onnx/graph.ts";
import { firstNonFinite } from "../optim/finite.ts";
import { flushGraph, isFlushed } from "../optim/flush.ts";
import { LossScale } from "../optim/loss-scale.ts";
import { type OptimizerConfig, optimizerGraph, updatedName } from "../optim/optimizer.ts";
import { sumName } from "../passes/accumulate.ts";
import { Arena, type EngineTensors } from "./arena.ts";
import { changedNames, groupsOf, statesOf } from "./groups.ts";

/** What an update is made from, besides values and gradients. Plain data. */
export interface Followed {
  /** Those with memory of their own, in the order of the update's graphs. */
  readonly parameters: readonly ValueInfo[];
  /** Names of values that are the same as others: of tied parameters, and of what the optimiser keeps of them. */
  readonly aliases: Readonly<Record<string, string>>;
  /** Parameters of the whole model. */
  readonly total: number;
  readonly optimizer: OptimizerConfig;
}

type Memory = ReadonlyMap<string, EngineTensor>;

export class Follower {
  /** Where gradients are put, by parameter. */
  readonly gradients: EngineTensors = new Map();
  private readonly followed: Followed;
  private readonly arena: Arena;
  private readonly scalars: EngineTensors = new Map();
  private readonly sums: EngineTensors = new Map();
  private readonly updates: Executable[] = [];
  private flushes: Executable[] | undefined;

  private constructor(engine: Engine, followed: Followed) {
    this.followed = followed;
    this.arena = new Arena(engine, false);
  }

  /** @throws EngineError when the engine refuses a graph, or has no memory for gradients; nothing is left behind. */
  static async create(engine: Engine, followed: Followed): Promise<Follower> {
    const follower = new Follower(engine, followed);
    try {
      await follower.build();
    } catch (error) {
      follower.release();
      throw error;
    }
    return follower;
  }

  private async build(): Promise<void> {
    const { arena, followed, scalars, sums, gradients } = this;
    const { parameters, total, optimizer } = followed;
    for (const info of parameters) {
      const gradient = arena.allocate(info, "host");
      gradients.set(info.name, gradient);
      sums.set(sumName(info.name), gradient);
    }
    for (const group of groupsOf(parameters)) {
      const update = await arena.compile(optimizerGraph(group, total, optimizer));
      const own = new Set(group.flatMap((info) => [sumName(info.name), ...changedNames(info, optimizer)]));
      for (const info of [...update.inputs, ...update.outputs]) {
        const isScalar = !own.has(info.name) && !own.has(replaced(info.name));
        if (isScalar && !scalars.has(info.name)) scalars.set(info.name, arena.allocate(info, "host"));
      }
      this.updates.push(update);
    }
  }

  /**
   * Makes what a step left: of the values that it began with, the gradients that have been put, and what the chunk's own
   * update was told. Of a step that the chunk has left out, gradients are not read.
   * @param step 0-based. @param squareSums of all parameters of the model.
   * @param before all that training changes, placed with the host. @param after of the same names: the same memory, or other.
   */
  async update(step: number, squareSums: Float32Array, before: Memory, after: Memory): Promise<void> {
    const { followed, scalars } = this;
    const isSkipped = firstNonFinite(squareSums) !== undefined;
    const factor = this.scale(isSkipped, before, after);
    if (isSkipped) {
      for (const name of this.changed()) copyOf(before, after, name);
      return;
    }
    scalars.get("step")!.tensor.i64()[0] = BigInt(step);
    scalars.get("square_sums")!.tensor.f32().set(squareSums);
    const scale = scalars.get("loss_scale");
    if (scale) scale.tensor.f32()[0] = factor;
    await this.run(this.updates, before, after);
    if (isFlushed(step)) await this.run(await this.flushing(), after, after);
    for (const [name, value] of Object.entries(followed.aliases)) {
      after.get(name)!.tensor.bytes.set(after.get(value)!.tensor.bytes);
    }
  }

  /** Gives back everything it holds in the engine, behind what runs. */
  release(): void {
    this.arena.release();
  }

  /** Moves a dynamic scale as the chunk's own has moved. @returns what the step's loss was multiplied by. */
  private scale(isSkipped: boolean, before: Memory, after: Memory): number {
    const scale = new LossScale(this.followed.optimizer);
    const kept = scale.tensors();
    for (const [name, { bytes }] of kept) bytes.set(before.get(name)!.tensor.bytes);
    const { value } = scale;
    scale.after(isSkipped);
    for (const [name, { bytes }] of kept) after.get(name)!.tensor.bytes.set(bytes);
    return value;
  }

  private async run(executables: readonly Executable[], before: Memory, after: Memory): Promise<void> {
    const { scalars, sums } = this;
    const tied = (infos: readonly ValueInfo[], find: (name: string) => EngineTensor | undefined) =>
      Object.fromEntries(infos.map(({ name }) => [name, (scalars.get(name) ?? find(name))!]));
    const bindings = executables.map((executable) =>
      executable.bind(
        tied(executable.inputs, (name) => sums.get(name) ?? before.get(name)),
        tied(executable.outputs, (name) => after.get(replaced(name))),
      ),
    );
    try {
      await Promise.all(bindings.map((binding) => binding.run()));
    } finally {
      for (const binding of bindings) binding.release();
    }
  }

  /** Compiles what flushes when it is first needed. */
  private async flushing(): Promise<readonly Executable[]> {
    if (this.flushes) return this.flushes;
    this.flushes = [];
    const { parameters, optimizer } = this.followed;
    for (const group of groupsOf(parameters)) {
      const states = statesOf(group, optimizer);
      if (states.length > 0) this.flushes.push(await this.arena.compile(flushGraph(states)));
    }
    return this.flushes;
  }

  private changed(): string[] {
    const { parameters, optimizer, aliases } = this.followed;
    return [...parameters.flatMap((info) => changedNames(info, optimizer)), ...Object.keys(aliases)];
  }
}

/** The value that an output replaces. */
const NEW = updatedName("");
const replaced = (name: string) => (name.startsWith(NEW) ? name.slice(NEW.length) : name);

function copyOf(from: Memory, to: Memory, name: string): void {
  const [source, memory] = [from.get(name)!.tensor.bytes, to.get(name)!.tensor.bytes];
  if (source !== memory) memory.set(source);
}
