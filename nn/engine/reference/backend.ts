/**
 * The reference backend: walks a graph's nodes in order, in the caller's thread.
 *
 * Outputs are computed aside and written at the end of a run, so an update in place is always right. A run starts
 * in a microtask of its own and is not interrupted.
 */

import type { Graph, Node } from "../../onnx/graph.ts";
import type { Backend, BoundTensor } from "../backend.ts";
import { type CompileOptions, EngineError, type OperatorTime } from "../engine.ts";
import { isSameShape, type NdArray, read, write } from "./ndarray.ts";
import { Call, type Operator } from "./operator.ts";
import { operatorOf } from "./operators.ts";

/** What a graph is compiled to. */
export interface Program {
  readonly constants: ReadonlyMap<string, NdArray>;
  readonly steps: readonly { readonly node: Node; readonly operator: Operator }[];
  readonly times: Map<string, { ms: number; calls: number }> | undefined;
}

/** A program, and the memory that it reads and writes. */
export interface Bound {
  readonly program: Program;
  readonly feeds: readonly BoundTensor[];
  readonly fetches: readonly BoundTensor[];
}

export class ReferenceBackend implements Backend<Graph> {
  private readonly now: () => number;
  private readonly programs = new Map<number, Program>();
  private readonly bindings = new Map<number, Bound>();
  private closed = false;

  /** `now` reads milliseconds; it times the kernels. */
  constructor(now: () => number) {
    this.now = now;
  }

  compile(executable: number, graph: Graph, options: CompileOptions): void {
    const constants = new Map([...graph.initializers].map(([name, tensor]) => [name, read(tensor)]));
    const steps = graph.nodes.map((node) => ({ node, operator: operatorOf(node) }));
    this.programs.set(executable, { constants, steps, times: options.profile ? new Map() : undefined });
  }

  createBinding(
    binding: number,
    executable: number,
    feeds: readonly BoundTensor[],
    fetches: readonly BoundTensor[],
  ): void {
    this.bindings.set(binding, { program: this.program(executable), feeds, fetches });
  }

  async run(binding: number): Promise<number> {
    const bound = this.bindings.get(binding);
    if (!bound) throw new EngineError("run of a released binding");
    await undefined;
    if (this.closed) throw new EngineError("the engine is closed");
    const start = this.now();
    this.execute(bound);
    return this.now() - start;
  }

  profile(executable: number): readonly OperatorTime[] {
    const { times } = this.program(executable);
    if (!times) throw new EngineError("profile() needs compile(graph, { profile: true })");
    return [...times].map(([op, time]) => ({ op, ...time })).sort((a, b) => b.ms - a.ms);
  }

  releaseBinding(binding: number): void {
    this.bindings.delete(binding);
  }

  releaseExecutable(executable: number): void {
    this.programs.delete(executable);
  }

  close(): void {
    this.closed = true;
    this.bindings.clear();
    this.programs.clear();
  }

  /** What a binding binds, until it is released. */
  protected bound(binding: number): Bound | undefined {
    return this.bindings.get(binding);
  }

  private program(executable: number): Program {
    const program = this.programs.get(executable);
    if (!program) throw new EngineError("the executable was released");
    return program;
  }

  /** What it leaves in the fetches follows from the program and the feeds, and from nothing else. */
  protected execute({ program, feeds, fetches }: Bound): void {
    const values = new Map(program.constants);
    const value = (name: string): NdArray => {
      const array = values.get(name);
      if (!array) throw new EngineError(`value "${name}" is used before it is computed`);
      return array;
    };
    for (const feed of feeds) values.set(feed.name, read(feed));
    for (const { node, operator } of program.steps) {
      const inputs = node.inputs.map((name) => (name === "" ? undefined : value(name)));
      const start = this.now();
      const outputs = this.apply(operator, new Call(node, inputs));
      if (program.times) this.record(program.times, node.op, this.now() - start);
      node.outputs.forEach((name, index) => {
        if (name !== "" && outputs[index]) values.set(name, outputs[index]);
      });
    }
    for (const { name, dtype, shape, bytes } of fetches) {
      const array = value(name);
      if (array.dtype !== dtype || !isSameShape(array.shape, shape)) {
        const came = `${array.dtype}[${array.shape}]`;
        throw new EngineError(`output "${name}" is declared ${dtype}[${shape}] and came out as ${came}`);
      }
      write(array, bytes);
    }
  }

  private apply(operator: Operator, call: Call): readonly NdArray[] {
    try {
      return operator(call);
    } catch (cause) {
      if (cause instanceof EngineError) throw cause;
      throw new EngineError(cause instanceof Error ? cause.message : String(cause), { cause });
    }
  }

  private record(times: Map<string, { ms: number; calls: number }>, op: string, ms: number): void {
    const time = times.get(op) ?? { ms: 0, calls: 0 };
    times.set(op, { ms: time.ms + ms, calls: time.calls + 1 });
  }
}
