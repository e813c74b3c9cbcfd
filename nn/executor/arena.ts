/** What a stage holds in an engine: everything is made through here, and given back together. */

import type { Tensor } from "../../protocols/tensor.ts";
import { TensorError } from "../../protocols/tensor.ts";
import type { Binding, Engine, EngineTensor, Executable, Place } from "../engine/engine.ts";
import type { Graph, ValueInfo } from "../onnx/graph.ts";
import { typeText } from "../onnx/shapes.ts";

export type EngineTensors = Map<string, EngineTensor>;

export class Arena {
  private readonly engine: Engine;
  private readonly profiled: boolean;
  private readonly executables: Executable[] = [];
  private readonly bindings: Binding[] = [];
  private readonly tensors: EngineTensor[] = [];

  constructor(engine: Engine, profiled: boolean) {
    this.engine = engine;
    this.profiled = profiled;
  }

  /** @throws EngineError when the engine refuses the graph. */
  async compile(graph: Graph): Promise<Executable> {
    const executable = await this.engine.compile(graph, { profile: this.profiled });
    this.executables.push(executable);
    return executable;
  }

  /** A tensor of zeros. */
  allocate({ dtype, shape }: Omit<ValueInfo, "name">, place: Place): EngineTensor {
    const tensor = this.engine.allocate(dtype, shape, place);
    this.tensors.push(tensor);
    return tensor;
  }

  /**
   * Binds every value by name: to what is in `local`, else in `shared`, else to a new tensor, kept in `local`. Who uses
   * that, `place` says; the host, when left out.
   */
  bind(
    executable: Executable,
    local: EngineTensors,
    shared: ReadonlyMap<string, EngineTensor>,
    place: (name: string) => Place = () => "host",
  ): Binding {
    const tie = (values: readonly ValueInfo[]) =>
      Object.fromEntries(
        values.map((info) => {
          let tensor = local.get(info.name) ?? shared.get(info.name);
          if (!tensor) {
            tensor = this.allocate(info, place(info.name));
            local.set(info.name, tensor);
          }
          return [info.name, tensor];
        }),
      );
    const binding = executable.bind(tie(executable.inputs), tie(executable.outputs));
    this.bindings.push(binding);
    return binding;
  }

  /** Kernel milliseconds by operator of all runs so far, when made to be profiled. */
  async profile(): Promise<Map<string, number>> {
    const totals = new Map<string, number>();
    for (const executable of this.executables) {
      for (const { op, ms } of await executable.profile()) totals.set(op, (totals.get(op) ?? 0) + ms);
    }
    return totals;
  }

  release(): void {
    for (const held of [...this.bindings, ...this.executables, ...this.tensors]) held.release();
  }
}

/** @throws TensorError, naming the value, when it is of another type than the memory it belongs in. */
export function requireType(memory: Tensor, name: string, tensor: Tensor): void {
  if (typeText(tensor) === typeText(memory)) return;
  throw new TensorError(`${name}: expected ${typeText(memory)}, got ${typeText(tensor)}`);
}

/** Copies a tensor in. @throws TensorError as `requireType`. */
export function copyInto(memory: Tensor, name: string, tensor: Tensor): void {
  requireType(memory, name, tensor);
  memory.bytes.set(tensor.bytes);
}
