/**
 * One stage's training state in an engine's memory, and the runs over it: parameters, gradient accumulators,
 * moments, and a fixed number of slots, each with room for one micro-batch in flight.
 *
 * Everything is allocated and bound once, so a step allocates nothing and parameters are never copied. What runs
 * when is the caller's business; runs happen one at a time, in the order asked for.
 */

import { type Tensor, TensorError } from "../protocols/tensor.ts";
import type { Binding, Engine, EngineTensor, Executable } from "./engine/engine.ts";
import type { Graph, ValueInfo } from "./onnx/graph.ts";
import { typeText } from "./onnx/shapes.ts";
import {
  type AdamWConfig,
  adamwGraph,
  firstMomentName,
  secondMomentName,
  squareSumsGraph,
  updatedName,
} from "./optim/adamw.ts";
import { accumulatorName, sumName } from "./passes/accumulate.ts";
import type { StageGraphs } from "./training.ts";

/** Room for one micro-batch between its arrival and the end of its backward pass. */
interface Slot {
  readonly tensors: ReadonlyMap<string, EngineTensor>;
  readonly forward: Binding | null;
  readonly backward: Binding | null;
  readonly joint: Binding | null;
}

type Tensors = Record<string, EngineTensor>;

export interface ExecutorOptions {
  /** Micro-batches that may be in flight at once. */
  readonly slots: number;
  readonly optimizer: AdamWConfig;
  /** Parameters of the whole model, all stages together. */
  readonly totalParameters: number;
  /** Collects operator times; see `profile`. */
  readonly profile?: boolean;
}

/**
 * Parameters that one update graph holds. They all read the same few scalars, and ONNX Runtime takes time in the
 * square of their number to compile that: for 640 parameters in one graph, 17 s. Fewer would cost runs and memory.
 */
const UPDATE_GROUP = 128;

export interface UpdateResult {
  readonly gradNorm: number;
  readonly learningRate: number;
}

export class StageExecutor {
  readonly graphs: StageGraphs;
  private readonly engine: Engine;
  private readonly options: ExecutorOptions;
  private readonly state: Tensors = {};
  private readonly executables: Executable[] = [];
  private readonly bindings: Binding[] = [];
  private readonly allocated: EngineTensor[] = [];
  private readonly slots: Slot[] = [];
  private readonly optimizerTensors = new Map<string, EngineTensor>();
  private squareSumsRun!: Binding;
  private readonly updateRuns: Binding[] = [];
  private evaluateRun: Binding | undefined;
  private readonly squareSumsTensors = new Map<string, EngineTensor>();
  private readonly evaluateTensors = new Map<string, EngineTensor>();

  private constructor(engine: Engine, graphs: StageGraphs, options: ExecutorOptions) {
    this.engine = engine;
    this.graphs = graphs;
    this.options = options;
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
    const { graphs, state, options } = this;
    for (const { name, dtype, shape } of graphs.parameters) {
      for (const key of [name, accumulatorName(name), firstMomentName(name), secondMomentName(name)]) {
        state[key] = this.allocate({ name: key, dtype, shape });
      }
      state[sumName(name)] = state[accumulatorName(name)]!;
      for (const key of [name, firstMomentName(name), secondMomentName(name)]) {
        state[updatedName(key)] = state[key]!;
      }
    }
    const forward = graphs.forward && (await this.compile(graphs.forward));
    const backward = graphs.backward && (await this.compile(graphs.backward));
    const joint = graphs.joint && (await this.compile(graphs.joint));
    for (let i = 0; i < options.slots; i++) {
      const tensors = new Map<string, EngineTensor>();
      const bind = (executable: Executable | null) => executable && this.bind(executable, tensors);
      this.slots.push({ tensors, forward: bind(forward), backward: bind(backward), joint: bind(joint) });
    }

    const sums = await this.compile(squareSumsGraph(graphs.parameters));
    this.squareSumsRun = this.bind(sums, this.squareSumsTensors);
    for (let from = 0; from === 0 || from < graphs.parameters.length; from += UPDATE_GROUP) {
      const group = graphs.parameters.slice(from, from + UPDATE_GROUP);
      const update = await this.compile(adamwGraph(group, options.totalParameters, options.optimizer));
      this.updateRuns.push(this.bind(update, this.optimizerTensors));
    }
  }

  /** Runs the forward pass of the micro-batch in `slot`; resolves with kernel milliseconds. */
  forward(slot: number): Promise<number> {
    return this.run(slot, "forward");
  }

  /** Runs the backward pass: gradients are added to the accumulators, the input's gradient is in the slot. */
  backward(slot: number): Promise<number> {
    return this.run(slot, "backward");
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
    const tensor = this.slots[slot]?.tensors.get(name);
    if (!tensor) throw new TensorError(`${this.slotText(slot)} has no value "${name}"`);
    return tensor.tensor;
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
    this.evaluateRun ??= this.bind(await this.compile(this.graphs.evaluate), this.evaluateTensors);
    for (const [name, tensor] of Object.entries(inputs)) {
      const input = this.evaluateTensors.get(name);
      if (!input) throw new TensorError(`stage ${this.graphs.evaluate.name} has no input "${name}"`);
      copyInto(input.tensor, name, tensor);
    }
    await this.evaluateRun.run();
    return this.evaluateTensors.get(this.graphs.evaluate.outputs[0]!.name)!.tensor;
  }

  /** Sum of squares of each parameter's accumulated gradient, in the order of `graphs.parameters`. */
  async squareSums(): Promise<Float32Array> {
    await this.squareSumsRun.run();
    return this.squareSumsTensors.get("square_sums")!.tensor.f32().slice();
  }

  /**
   * Updates parameters and moments in place and clears the accumulators.
   * @param step 0-based.
   * @param squareSums of all parameters of the model, in the model's order.
   */
  async update(step: number, squareSums: Float32Array): Promise<UpdateResult> {
    const tensors = this.optimizerTensors;
    if (squareSums.length !== this.options.totalParameters) {
      const expected = `one per parameter of the model, ${this.options.totalParameters}`;
      throw new TensorError(`square sums: expected ${expected}, got ${squareSums.length}`);
    }
    tensors.get("step")!.tensor.i64()[0] = BigInt(step);
    tensors.get("square_sums")!.tensor.f32().set(squareSums);
    await Promise.all(this.updateRuns.map((update) => update.run()));
    this.clearGradients();
    const scalar = (name: string) => tensors.get(name)!.tensor.f32()[0]!;
    return { gradNorm: scalar("grad_norm"), learningRate: scalar("learning_rate") };
  }

  /** Forgets what has been accumulated since the last update. */
  clearGradients(): void {
    for (const { name } of this.graphs.parameters) this.state[accumulatorName(name)]!.tensor.bytes.fill(0);
  }

  /** Live views of the training state: each parameter, and its moments under their own names. */
  tensors(): Map<string, Tensor> {
    const names = this.graphs.parameters.flatMap(({ name }) => [
      name,
      firstMomentName(name),
      secondMomentName(name),
    ]);
    return new Map(names.map((name) => [name, this.state[name]!.tensor]));
  }

  /**
   * Copies parameters and, where given, moments in; names of other stages are passed over.
   * @throws TensorError for a missing parameter or a tensor of another type; then nothing has been copied.
   */
  load(values: ReadonlyMap<string, Tensor>): void {
    const own = this.tensors();
    for (const { name } of this.graphs.parameters) {
      if (!values.has(name)) throw new TensorError(`parameter ${name} is missing`);
    }
    const given = [...own].flatMap(([name, tensor]) => {
      const value = values.get(name);
      return value ? [{ name, tensor, value }] : [];
    });
    for (const { name, tensor, value } of given) requireType(tensor, name, value);
    for (const { name, tensor, value } of given) copyInto(tensor, name, value);
  }

  /** Kernel time by operator of all runs so far, when created with `profile`. */
  async profile(): Promise<Map<string, number>> {
    const totals = new Map<string, number>();
    for (const executable of this.executables) {
      for (const { op, ms } of await executable.profile()) totals.set(op, (totals.get(op) ?? 0) + ms);
    }
    return totals;
  }

  /** Gives back everything the stage holds in the engine. No run may be in flight. */
  release(): void {
    for (const held of [...this.bindings, ...this.executables, ...this.allocated]) held.release();
  }

  private async run(slot: number, kind: "forward" | "backward" | "joint"): Promise<number> {
    const binding = this.slots[slot]?.[kind];
    if (!binding) throw new TensorError(`${this.slotText(slot)} has no ${kind} run`);
    return binding.run();
  }

  private slotText(slot: number): string {
    return `slot ${slot} of ${this.slots.length} of stage ${this.graphs.evaluate.name}`;
  }

  private async compile(graph: Graph): Promise<Executable> {
    const executable = await this.engine.compile(graph, { profile: this.options.profile ?? false });
    this.executables.push(executable);
    return executable;
  }

  /** Binds state by name, and everything else to `local`, allocating there what is missing. */
  private bind(executable: Executable, local: Map<string, EngineTensor>): Binding {
    const tie = (values: readonly ValueInfo[]): Tensors =>
      Object.fromEntries(
        values.map(({ name, dtype, shape }) => {
          let tensor = this.state[name] ?? local.get(name);
          if (!tensor) {
            tensor = this.allocate({ name, dtype, shape });
            local.set(name, tensor);
          }
          return [name, tensor];
        }),
      );
    const binding = executable.bind(tie(executable.inputs), tie(executable.outputs));
    this.bindings.push(binding);
    return binding;
  }

  private allocate({ dtype, shape }: ValueInfo): EngineTensor {
    const tensor = this.engine.allocate(dtype, shape);
    this.allocated.push(tensor);
    return tensor;
  }
}

function copyInto(memory: Tensor, name: string, tensor: Tensor): void {
  requireType(memory, name, tensor);
  memory.bytes.set(tensor.bytes);
}

function requireType(memory: Tensor, name: string, tensor: Tensor): void {
  if (typeText(tensor) === typeText(memory)) return;
  throw new TensorError(`${name}: expected ${typeText(memory)}, got ${typeText(tensor)}`);
}
