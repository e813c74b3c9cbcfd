/**
 * The backward pass of one micro-batch on one rank: memory for the gradients of the values between phases, phases bound
 * to it from the last to the first, and the collectives between them.
 *
 * What several phases and transfers give gradients of has them added in the order in which they come; what one alone
 * does has its gradient where that is made.
 */

import { Tensor } from "../../../protocols/tensor.ts";
import type { Binding, EngineTensor, Executable } from "../../engine/engine.ts";
import type { Arena, EngineTensors } from "../../executor/arena.ts";
import { gradientName } from "../../training.ts";
import type { ShardChunk } from "../chunk.ts";
import type { Collectives } from "../collectives.ts";
import type { Transfer } from "../plan.ts";
import { viewPart } from "../slices.ts";
import { addInto } from "../sum.ts";
import { enterPart, type ForwardPass } from "./forward.ts";
import { collective, inOrder } from "./moves.ts";

/** What adds to the gradient of a value: a phase, a transfer, or whoever gives that of the segment's output. */
type Giver = number | Transfer | "outside";

export class BackwardPass {
  private readonly chunk: ShardChunk;
  private readonly arena: Arena;
  private readonly forward: ForwardPass;
  private readonly collectives: Collectives;
  private readonly givers: ReadonlyMap<string, readonly Giver[]>;
  private readonly gradients: EngineTensors = new Map();
  private readonly scratch: EngineTensors;
  private readonly bindings: readonly (Binding | null)[];
  /** Gradients that a phase makes, of values that others give gradients of too. */
  private readonly summands: readonly EngineTensors[];
  /** The gradient of the input whole, where ranks have parts of it. */
  private readonly whole: Tensor | undefined;
  /** Of which values there is something of this micro-batch in the memory of their gradients. */
  private readonly begun = new Set<string>();

  /**
   * @param executables of the phases; null where a phase has nothing trained up to it.
   * @param scratch memory of gradients that are of no use behind the pass, for all passes of the chunk.
   */
  constructor(
    arena: Arena,
    chunk: ShardChunk,
    executables: readonly (Executable | null)[],
    state: ReadonlyMap<string, EngineTensor>,
    scratch: EngineTensors,
    forward: ForwardPass,
    collectives: Collectives,
  ) {
    this.arena = arena;
    this.scratch = scratch;
    this.chunk = chunk;
    this.forward = forward;
    this.collectives = collectives;
    this.givers = giversOf(chunk);
    this.summands = chunk.phases.map(() => new Map());
    this.bindings = executables.map((executable, i) => {
      if (!executable) return null;
      const { inputGradients, outputGradients } = chunk.phases[i]!;
      const local: EngineTensors = new Map();
      for (const name of outputGradients) local.set(gradientName(name), this.memory(name));
      for (const name of inputGradients) {
        const memory = this.isAlone(name) ? this.memory(name) : this.allocate(name, `${name} of ${i}`);
        local.set(gradientName(name), memory);
        if (!this.isAlone(name)) this.summands[i]!.set(name, memory);
      }
      const shared = new Map([...state, ...forward.phases[i]!.tensors]);
      return arena.bind(executable, local, shared, () => "device");
    });
    const { input } = chunk.plan;
    this.whole = input?.cut && input.trained ? Tensor.zeros(input.dtype, input.shape) : undefined;
  }

  /** Copies the gradient of the output in, which comes whole. @throws TensorError for one of another type. */
  enter(tensor: Tensor): void {
    const { plan, rank } = this.chunk;
    const [{ name, cut }] = plan.outputs as [(typeof plan.outputs)[0]];
    enterPart(this.memory(name).tensor, cut, rank, gradientName(name), tensor);
  }

  /** The gradient of the input, whole. */
  get result(): Tensor {
    return this.whole ?? this.memory(this.chunk.plan.input!.name).tensor;
  }

  /** Runs all phases, the last first, after `enter`; resolves with kernel milliseconds. */
  async run(key: string): Promise<number> {
    const { plan, phases } = this.chunk;
    this.begun.clear();
    this.begun.add(plan.outputs[0]!.name);
    let ms = 0;
    await this.move(plan.transfers, key);
    for (let i = plan.phases.length - 1; i >= 0; i--) {
      ms += (await this.bindings[i]?.run()) ?? 0;
      for (const name of this.bindings[i] ? phases[i]!.inputGradients : []) {
        const summand = this.summands[i]!.get(name);
        if (summand) this.add(name, summand.tensor);
        else this.begun.add(name);
      }
      await this.move(plan.phases[i]!.transfers, key);
    }
    const { input } = plan;
    if (this.whole) {
      const part = this.memory(input!.name).tensor;
      await collective("all-gather", `${key}/in`, this.collectives, input!.cut, part, this.whole);
    }
    return ms;
  }

  private async move(transfers: readonly Transfer[], key: string): Promise<void> {
    const moved = transfers
      .filter((transfer) => this.givers.get(transfer.value)?.includes(transfer))
      .reverse();
    const follows = (transfer: Transfer, earlier: Transfer) =>
      earlier.value === transfer.name || earlier.value === transfer.value;
    await inOrder(moved, follows, (transfer) => this.give(transfer, key));
  }

  private async give(transfer: Transfer, key: string): Promise<void> {
    const { name, value, forward, backward, cut } = transfer;
    const [from, total] = [this.memory(name).tensor, this.memory(value).tensor];
    if (backward === null) {
      const own = forward === "all-gather" ? viewPart(from, cut!, this.chunk.rank) : from;
      return this.add(value, own);
    }
    const isFirst = !this.begun.has(value);
    const to = isFirst ? total : Tensor.zeros(total.dtype, total.shape);
    await collective(backward, `${key}/${name}`, this.collectives, cut, from, to);
    if (isFirst) this.begun.add(value);
    else this.add(value, to);
  }

  private add(name: string, gradient: Tensor): void {
    const { tensor } = this.memory(name);
    if (this.begun.has(name)) addInto(tensor.f32(), gradient.f32());
    else if (tensor !== gradient) tensor.bytes.set(gradient.bytes);
    this.begun.add(name);
  }

  private isAlone(name: string): boolean {
    return this.givers.get(name)?.length === 1;
  }

  /** Where the gradient of a value is. */
  private memory(name: string): EngineTensor {
    const owner = this.ownerOf(name);
    let memory = this.gradients.get(owner);
    if (!memory) {
      memory = this.allocate(owner, this.isEnd(owner) ? undefined : owner);
      this.gradients.set(owner, memory);
    }
    return memory;
  }

  /** The value whose gradient has the memory: another, where this one's is the same or is made from it in place. */
  private ownerOf(name: string): string {
    const [giver] = this.isAlone(name) ? this.givers.get(name)! : [];
    const keeps = typeof giver === "object" && (giver.forward === null || giver.forward === "all-reduce");
    return keeps ? this.ownerOf(giver.name) : name;
  }

  /** Whether the gradient in a memory comes from outside or goes there. */
  private isEnd(owner: string): boolean {
    const { input, outputs } = this.chunk.plan;
    return [input, outputs[0]].some((end) => end && this.ownerOf(end.name) === owner);
  }

  /** @param key under which other passes find the same memory. */
  private allocate(name: string, key: string | undefined): EngineTensor {
    const known = key === undefined ? undefined : this.scratch.get(key);
    const memory = known ?? this.arena.allocate(this.forward.values.get(name)!.tensor, "host");
    if (key !== undefined) this.scratch.set(key, memory);
    return memory;
  }
}

/** What gives gradients of each value. */
function giversOf({ plan, phases }: ShardChunk): Map<string, Giver[]> {
  const givers = new Map<string, Giver[]>();
  const give = (name: string, giver: Giver) => givers.set(name, [...(givers.get(name) ?? []), giver]);
  const through = (transfers: readonly Transfer[]) => {
    for (const transfer of [...transfers].reverse()) {
      if (transfer.trained && givers.has(transfer.name)) give(transfer.value, transfer);
    }
  };
  const [output] = plan.outputs;
  if (output?.trained) give(output.name, "outside");
  through(plan.transfers);
  for (let i = plan.phases.length - 1; i >= 0; i--) {
    const { backward, inputGradients } = phases[i]!;
    if (backward) for (const name of inputGradients) give(name, i);
    through(plan.phases[i]!.transfers);
  }
  return givers;
}
