/**
 * Room for the micro-batches in flight on one stage, a slot for each, and the runs over them: bound once, to the slot's
 * own tensors and to what all of them share.
 *
 * Where statistics move, a run begins when the one before it has been heard of, and a slot keeps those that its
 * micro-batch began with. Where parameters change between a forward pass and its backward pass, the latter runs with
 * those of the former; see `versions.ts`.
 */

import { TensorError } from "../../protocols/tensor.ts";
import type { Binding, EngineTensor, Executable, Place } from "../engine/engine.ts";
import { COUNTERS } from "../model.ts";
import { gradientName, LOSS_GRADIENT, type StageGraphs } from "../training.ts";
import type { Arena, EngineTensors } from "./arena.ts";
import { Versions } from "./versions.ts";

const BACKWARD = ["backward", "backwardInput", "backwardWeights"] as const;
const RUNS = ["forward", ...BACKWARD, "joint"] as const;
export type Run = (typeof RUNS)[number];

/** Room for one micro-batch between its arrival and the end of its backward pass. */
interface Slot {
  readonly tensors: EngineTensors;
  readonly runs: Readonly<Record<Run, Binding | null>>;
}

type Lent = (slot: number) => ReadonlyMap<string, EngineTensor>;

export class Slots {
  private readonly arena: Arena;
  private readonly graphs: StageGraphs;
  private readonly state: EngineTensors;
  private readonly moving: EngineTensors;
  private readonly slots: Slot[] = [];
  private readonly compiled: Partial<Record<Run, Executable>> = {};
  private versions!: Versions<Run>;
  /** What ends a micro-batch's stay, where forward and backward pass are apart. */
  private readonly lastRun: Run | undefined;
  private last: Promise<unknown> = Promise.resolve();

  /** @param state what slots share, by name. @param moving statistics as micro-batches move them. */
  constructor(arena: Arena, graphs: StageGraphs, state: EngineTensors, moving: EngineTensors) {
    this.arena = arena;
    this.graphs = graphs;
    this.state = state;
    this.moving = moving;
    this.lastRun = BACKWARD.findLast((run) => graphs[run]);
  }

  /** @param lent what takes the place of a slot's own tensors. @throws EngineError when the engine refuses a graph. */
  async build(count: number, lent?: Lent) {
    const { arena, graphs, state, compiled } = this;
    for (const run of RUNS) {
      const graph = graphs[run];
      if (graph) compiled[run] = await arena.compile(graph);
    }
    this.grow(count, lent);
    const read = new Set(BACKWARD.flatMap((run) => graphs[run]?.inputs ?? []).map(({ name }) => name));
    const parameters = graphs.parameters.filter(({ name }) => read.has(name));
    this.versions = new Versions(arena, parameters, state, (slot, run, older) =>
      arena.bind(compiled[run]!, this.slots[slot]!.tensors, older),
    );
  }

  /** Makes room for so many micro-batches, unless there is. @throws EngineError when the engine has no memory for it. */
  grow(count: number, lent: Lent = () => new Map()): void {
    const { arena, graphs, state, compiled } = this;
    const place = placeIn(graphs);
    for (let i = this.slots.length; i < count; i++) {
      const tensors: EngineTensors = new Map(lent(i));
      const bind = (run: Run) => compiled[run] && arena.bind(compiled[run], tensors, state, place);
      const runs = Object.fromEntries(RUNS.map((run) => [run, bind(run) ?? null]));
      this.slots.push({ tensors, runs: runs as Slot["runs"] });
    }
  }

  /** Says what is random in the micro-batch that is about to be in `slot`. */
  place(slot: number, counts: readonly number[]): void {
    COUNTERS.forEach((name, i) => {
      const tensor = this.slots[slot]?.tensors.get(name);
      if (tensor) tensor.tensor.i64()[0] = BigInt(counts[i]!);
    });
  }

  /** @throws TensorError for a value that there is not. */
  value(slot: number, name: string): EngineTensor {
    const tensor = this.slots[slot]?.tensors.get(name);
    if (!tensor) throw new TensorError(`${this.text(slot)} has no value "${name}"`);
    return tensor;
  }

  has(name: string): boolean {
    return this.slots[0]?.tensors.has(name) ?? false;
  }

  /** Resolves with kernel milliseconds. @param lossGradient what the backward pass starts from, where that is an input. */
  async run(slot: number, kind: Run, lossGradient: number): Promise<number> {
    const { runs, tensors } = this.slots[slot] ?? { runs: null, tensors: null };
    const binding = this.versions.binding(slot, kind) ?? runs?.[kind];
    if (!binding) throw new TensorError(`${this.text(slot)} has no ${kind} run`);
    if (kind === "forward" && this.lastRun) this.versions.began(slot);
    if (kind === this.lastRun) this.versions.ended(slot);
    const gradient = tensors!.get(LOSS_GRADIENT);
    if (gradient) gradient.tensor.f32()[0] = lossGradient;
    if (this.moving.size === 0 || (kind !== "forward" && kind !== "joint")) return binding.run();
    const turn = this.last.then(async () => {
      const { moving } = this;
      for (const { name } of this.graphs.statistics) await tensors!.get(name)?.copy(moving.get(name)!);
      const ms = await binding.run();
      for (const { name, output } of this.graphs.statistics) {
        await moving.get(name)!.copy(tensors!.get(output)!);
      }
      return ms;
    });
    this.last = turn.catch(() => {});
    return turn;
  }

  /** Before parameters change: keeps them as they are for the backward passes of those in flight. */
  keepParameters(): Promise<void> {
    return this.versions.keep();
  }

  private text(slot: number): string {
    return `slot ${slot} of ${this.slots.length} of stage ${this.graphs.evaluate.name}`;
  }
}

/** The host brings and takes what a micro-batch reads, what travels between stages, and the loss; the rest is the runs'. */
function placeIn({ data, input, output, result }: StageGraphs): (name: string) => Place {
  const travelling = [input, output].flatMap((name) => (name === null ? [] : [name, gradientName(name)]));
  const hosts = new Set([...data.map(({ name }) => name), ...travelling, result, ...COUNTERS, LOSS_GRADIENT]);
  return (name) => (hosts.has(name) ? "host" : "device");
}
