/**
 * What a member keeps and runs for the meetings of low-communication data parallelism: parameters as they were at the
 * last one, and the outer momentum; see `optim/outer.ts`. What it has moved is put where gradients add up, which are
 * not in use at a meeting, so that the mean over members is taken as any gradients are.
 */

import type { Binding, EngineTensor } from "../engine/engine.ts";
import type { ValueInfo } from "../onnx/graph.ts";
import {
  type OuterConfig,
  outerGraph,
  outerStateNames,
  pseudoGradientGraph,
  startName,
} from "../optim/outer.ts";
import { updatedName } from "../optim/update.ts";
import type { Arena, EngineTensors } from "./arena.ts";
import { UPDATE_GROUP } from "./groups.ts";
import type { Kept } from "./updater.ts";

export class Outer {
  private readonly arena: Arena;
  /** All of them; of those that are one, each by its name. */
  private readonly parameters: readonly ValueInfo[];
  /** One of those that are one. */
  private readonly leads: readonly ValueInfo[];
  private readonly state: EngineTensors;
  private readonly config: OuterConfig;
  private readonly moved: Binding[] = [];
  private readonly steps: Binding[] = [];
  private readonly local: EngineTensors = new Map();

  /** @param state of the stage, by name, parameters and accumulators included; what is kept here is put there too. */
  constructor(arena: Arena, parameters: readonly ValueInfo[], state: EngineTensors, config: OuterConfig) {
    this.arena = arena;
    this.parameters = parameters;
    this.state = state;
    this.config = config;
    const first = new Map<EngineTensor, ValueInfo>();
    for (const info of parameters) {
      const memory = state.get(info.name)!;
      if (!first.has(memory)) first.set(memory, info);
    }
    this.leads = [...first.values()];
    for (const info of parameters) {
      const lead = first.get(state.get(info.name)!)!;
      for (const [i, key] of outerStateNames(info).entries()) {
        const tensor = lead === info ? arena.allocate(info, "device") : state.get(outerStateNames(lead)[i]!)!;
        state.set(key, tensor);
        state.set(updatedName(key), tensor);
      }
    }
  }

  async build(): Promise<void> {
    const { arena, state, local, leads } = this;
    for (let from = 0; from < leads.length; from += UPDATE_GROUP) {
      const group = leads.slice(from, from + UPDATE_GROUP);
      this.moved.push(arena.bind(await arena.compile(pseudoGradientGraph(group)), local, state));
      this.steps.push(arena.bind(await arena.compile(outerGraph(group, this.config)), local, state));
    }
  }

  async pseudoGradients(share: number): Promise<void> {
    const scalar = this.local.get("share");
    if (scalar) scalar.tensor.f32()[0] = share;
    await Promise.all(this.moved.map((binding) => binding.run()));
  }

  async step(): Promise<void> {
    await Promise.all(this.steps.map((binding) => binding.run()));
    await Promise.all(
      this.leads.map(({ name }) => this.state.get(name)!.copy(this.state.get(startName(name))!)),
    );
  }

  /** What is kept between meetings, by name. */
  kept(): Map<string, Kept> {
    const names = this.parameters.flatMap((info) => outerStateNames(info));
    return new Map(names.map((name) => [name, this.state.get(name)!]));
  }

  /** Where training begins with this parameter as it is now, that is what the first meeting starts from. */
  async begin(parameter: string): Promise<void> {
    const [start, now] = [this.state.get(startName(parameter))!, this.state.get(parameter)!];
    start.tensor.bytes.set(now.tensor.bytes);
    await start.write();
  }
}
