/**
 * The forward pass of one micro-batch on one rank: memory for the values that phases read and hand on, phases bound to
 * it, and the collectives between them.
 *
 * A value that goes through a transfer unchanged, or is added up and read nowhere else, keeps its memory.
 */

import { type Shape, Tensor } from "../../../protocols/tensor.ts";
import type { Binding, EngineTensor, Executable } from "../../engine/engine.ts";
import { type Arena, copyInto, type EngineTensors } from "../../executor/arena.ts";
import { COUNTERS } from "../../model.ts";
import type { ValueInfo } from "../../onnx/graph.ts";
import type { ShardChunk } from "../chunk.ts";
import type { Collectives } from "../collectives.ts";
import { type Cut, cutLength, rangesLength } from "../layout.ts";
import type { End, ShardPlan, Transfer } from "../plan.ts";
import { viewPart } from "../slices.ts";
import { collective, inOrder } from "./moves.ts";

export interface ForwardPhase {
  readonly binding: Binding;
  /** What the phase reads, hands on and stashes, by name. */
  readonly tensors: EngineTensors;
}

export class ForwardPass {
  /** What phases read and hand on, by name; each of this rank's size. */
  readonly values: EngineTensors = new Map();
  readonly phases: readonly ForwardPhase[];
  private readonly plan: ShardPlan;
  private readonly rank: number;
  private readonly collectives: Collectives;
  /** The output whole, where ranks have parts of it. */
  private readonly whole: Tensor | undefined;

  /**
   * @param executables of the phases.
   * @param state what is held.
   * @param scratch memory of values that are of no use behind the pass, for all passes of the chunk.
   */
  constructor(
    arena: Arena,
    chunk: ShardChunk,
    executables: readonly Executable[],
    state: ReadonlyMap<string, EngineTensor>,
    scratch: EngineTensors,
    collectives: Collectives,
  ) {
    const { plan, rank } = chunk;
    const { values } = this;
    this.plan = plan;
    this.rank = rank;
    this.collectives = collectives;
    const { lasting, passing } = lifeOf(chunk);
    const allocate = (name: string, type: Pick<ValueInfo, "dtype" | "shape">) => {
      const known = lasting.has(name) ? undefined : scratch.get(name);
      const memory = known ?? arena.allocate(type, "host");
      if (!lasting.has(name)) scratch.set(name, memory);
      values.set(name, memory);
    };
    const take = (transfer: Transfer) => {
      const { name, value, dtype } = transfer;
      if (passing.has(transfer)) values.set(name, this.memory(value));
      else allocate(name, { dtype, shape: resultShape(transfer, rank) });
    };
    if (plan.input) allocate(plan.input.name, partType(plan.input, rank));
    this.phases = plan.phases.map((phase, i): ForwardPhase => {
      phase.transfers.forEach(take);
      const executable = executables[i]!;
      const { inputs, outputs } = phase.graphs[rank]!;
      const tensors: EngineTensors = new Map();
      const known = (info: ValueInfo) => {
        if (state.has(info.name)) return;
        if (!values.has(info.name)) allocate(info.name, info);
        tensors.set(info.name, values.get(info.name)!);
      };
      for (const info of inputs) known(info);
      for (const info of executable.inputs) if (isCounter(info.name)) known(info);
      for (const info of outputs) known(info);
      return { binding: arena.bind(executable, tensors, state, () => "device"), tensors };
    });
    plan.transfers.forEach(take);
    const [{ cut, dtype, shape }] = plan.outputs as [End];
    this.whole = cut ? Tensor.zeros(dtype, shape) : undefined;
  }

  /** Copies an input in, which comes whole. @throws TensorError for one of another type. */
  enter(name: string, tensor: Tensor): void {
    const { input } = this.plan;
    enterPart(this.memory(name).tensor, input?.name === name ? input.cut : null, this.rank, name, tensor);
  }

  /** The first output, whole. */
  get result(): Tensor {
    return this.whole ?? this.memory(this.plan.outputs[0]!.name).tensor;
  }

  /** Runs all phases; resolves with kernel milliseconds. */
  async run(key: string): Promise<number> {
    const { plan } = this;
    let ms = 0;
    for (const [i, { transfers }] of plan.phases.entries()) {
      await this.move(transfers, key);
      ms += await this.phases[i]!.binding.run();
    }
    await this.move(plan.transfers, key);
    const [{ name, cut }] = plan.outputs as [End];
    if (this.whole) {
      const part = this.memory(name).tensor;
      await collective("all-gather", `${key}/out`, this.collectives, cut, part, this.whole);
    }
    return ms;
  }

  private async move(transfers: readonly Transfer[], key: string): Promise<void> {
    const follows = (transfer: Transfer, earlier: Transfer) => earlier.name === transfer.value;
    await inOrder(transfers, follows, async ({ name, value, forward, cut }) => {
      const [from, to] = [this.memory(value).tensor, this.memory(name).tensor];
      if (forward) await collective(forward, `${key}/${name}`, this.collectives, cut, from, to);
    });
  }

  private memory(name: string): EngineTensor {
    return this.values.get(name)!;
  }
}

/**
 * Which transfers hand on the memory of their value, and which values' memory is that of one micro-batch until its backward
 * pass is over: what that reads, what comes in and what goes out.
 */
function lifeOf({ plan, phases, rank, values }: ShardChunk) {
  const stashed = new Set(phases.flatMap(({ stash }) => stash.map(({ name }) => name)));
  const read = new Set(plan.phases.flatMap(({ graphs }) => graphs[rank]!.inputs.map(({ name }) => name)));
  const transfers = [...plan.phases.flatMap((phase) => phase.transfers), ...plan.transfers];
  const passing = new Set(
    transfers.filter(({ value, forward }) => {
      const alone = transfers.filter((other) => other.value === value).length === 1;
      return (
        forward === null || (forward === "all-reduce" && alone && !read.has(value) && !stashed.has(value))
      );
    }),
  );
  const lasting = new Set([
    ...phases.flatMap(({ backward }) => (backward?.inputs ?? []).map(({ name }) => name)),
    ...[...values.data, ...plan.outputs, ...(plan.input ? [plan.input] : [])].map(({ name }) => name),
    ...COUNTERS,
  ]);
  for (const transfer of [...transfers].reverse()) {
    if (passing.has(transfer) && lasting.has(transfer.name)) lasting.add(transfer.value);
  }
  return { lasting, passing };
}

const isCounter = (name: string) => (COUNTERS as readonly string[]).includes(name);

/** What a rank has of an end. */
function partType({ dtype, shape, cut }: End, rank: number): { dtype: End["dtype"]; shape: Shape } {
  return { dtype, shape: cut ? shape.with(cut.axis, rangesLength(cut.ranges[rank]!)) : shape };
}

/** Copies a rank's part of a whole value in. @throws TensorError for one of another type. */
export function enterPart(memory: Tensor, cut: Cut | null, rank: number, name: string, tensor: Tensor): void {
  copyInto(
    memory,
    name,
    cut && tensor.shape[cut.axis] === cutLength(cut) ? viewPart(tensor, cut, rank) : tensor,
  );
}

/** What a rank has of what comes out of a transfer. */
export function resultShape({ forward, shape, cut }: Transfer, rank: number): Shape {
  return forward === "reduce-scatter" ? shape.with(cut!.axis, rangesLength(cut!.ranges[rank]!)) : shape;
}
