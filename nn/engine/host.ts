/**
 * The caller's side of every engine: checks what is asked, counts what is alive, and hands numbers to a backend.
 *
 * It knows nothing of threads or runtimes. All promises it gives settle: with the backend's answer, or with an
 * EngineError when the engine is closed first.
 */

import type { DType, Shape } from "../../protocols/tensor.ts";
import type { Graph, ValueInfo } from "../onnx/graph.ts";
import type { Backend, BackendTensor, BoundTensor, DeviceBackend } from "./backend.ts";
import {
  type Binding,
  type CompileOptions,
  type Engine,
  EngineError,
  type EngineTensor,
  type EngineUsage,
  type Executable,
  type OperatorTime,
  type Place,
} from "./engine.ts";
import type { Allocator } from "./memory.ts";

/** Memory of a tensor, held by its owner and by every binding that uses it. */
interface Held {
  readonly seen: BackendTensor;
  readonly free: () => void;
  holders: number;
}

/** What an engine is made of. */
export interface EngineParts {
  readonly name: Engine["name"];
  readonly backend: Backend<Graph>;
  readonly allocator: Allocator;
  /** Element types that a tensor may have. */
  readonly dtypes: readonly DType[];
  /** Threads of a run unless it says otherwise; default 1. */
  readonly threads?: number;
  /** The same backend, where its kernels do not reach the caller's memory. */
  readonly device?: DeviceBackend<Graph>;
  /** Element types that may be kept there; others stay with the host, wherever they are said to be used. */
  readonly onDevice?: readonly DType[];
}

function drop(held: Held): void {
  if (--held.holders === 0) held.free();
}

export class HostEngine implements Engine {
  readonly name: Engine["name"];
  private readonly backend: Backend<Graph>;
  private readonly device: DeviceBackend<Graph> | undefined;
  private readonly onDevice: readonly DType[];
  private readonly allocator: Allocator;
  private readonly dtypes: readonly DType[];
  private readonly threads: number;
  private readonly tensors = new Map<EngineTensor, Held>();
  private readonly executables = new Set<Executable>();
  private readonly bindings = new Set<Binding>();
  /** Rejects each promise that has not settled yet. */
  private readonly pending = new Set<(reason: EngineError) => void>();
  /** Resolves when the run that was asked for last has ended, well or not. */
  private lastRun: Promise<void> = Promise.resolve();
  private tensorBytes = 0;
  private nextId = 1;
  private closing: Promise<void> | undefined;

  constructor({ name, backend, allocator, dtypes, threads = 1, device, onDevice = [] }: EngineParts) {
    this.name = name;
    this.backend = backend;
    this.allocator = allocator;
    this.dtypes = dtypes;
    this.threads = threads;
    this.device = device;
    this.onDevice = onDevice;
  }

  allocate(dtype: DType, shape: Shape, wanted: Place = "host"): EngineTensor {
    this.expectOpen();
    this.expectDtype("a tensor", { dtype, shape });
    const { tensor, free } = this.allocator(dtype, shape);
    const { device } = this;
    const place = this.onDevice.includes(dtype) ? wanted : "host";
    const id = this.nextId++;
    const seen = { id, place, dtype, shape, bytes: tensor.bytes };
    const held: Held = {
      seen,
      holders: 1,
      free: () => {
        free();
        if (device) this.forget(() => device.releaseTensor(id));
      },
    };
    const carry = (tell: (device: DeviceBackend<Graph>) => void | Promise<void>): Promise<void> => {
      if (!this.tensors.has(owned)) return Promise.reject(new EngineError("a tensor used after its release"));
      return device && place === "device" ? this.settle(() => tell(device)) : Promise.resolve();
    };
    const owned: EngineTensor = {
      tensor,
      write: () => carry((device) => device.writeTensor(seen)),
      read: async () => {
        await this.lastRun;
        await carry((device) => device.readTensor(seen));
        return tensor;
      },
      clear: () => {
        if (place === "host") tensor.bytes.fill(0);
        return carry((device) => device.clearTensor(seen));
      },
      copy: async (from) => {
        const source = this.tensors.get(from)?.seen;
        if (!source) throw new EngineError("a copy from a tensor that was released or is another engine's");
        const texts = [seen, source].map((one) => `${one.dtype}[${one.shape}], place ${one.place}`);
        if (texts[0] !== texts[1]) throw new EngineError(`a copy from ${texts[1]} to ${texts[0]}`);
        if (place === "host") tensor.bytes.set(source.bytes);
        await carry((device) => device.copyTensor(source, seen));
      },
      release: () => {
        if (!this.tensors.delete(owned)) return;
        this.tensorBytes -= tensor.bytes.byteLength;
        drop(held);
      },
    };
    this.tensors.set(owned, held);
    this.tensorBytes += tensor.bytes.byteLength;
    return owned;
  }

  async compile(graph: Graph, options: CompileOptions = {}): Promise<Executable> {
    for (const [kind, values] of Object.entries({ input: graph.inputs, output: graph.outputs })) {
      for (const value of values) this.expectDtype(`graph ${graph.name}, ${kind} "${value.name}"`, value);
    }
    const id = this.nextId++;
    await this.settle(() => this.backend.compile(id, graph, { threads: this.threads, ...options }));
    const own = new Set<Binding>();
    const executable: Executable = {
      inputs: graph.inputs,
      outputs: graph.outputs,
      bind: (feeds, fetches) => {
        const binding = this.bind(executable, id, graph.name, feeds, fetches, () => own.delete(binding));
        own.add(binding);
        return binding;
      },
      profile: () => this.profile(executable, id, graph.name),
      release: () => {
        if (!this.executables.delete(executable)) return;
        for (const binding of own) binding.release();
        this.forget(() => this.backend.releaseExecutable(id));
      },
    };
    this.executables.add(executable);
    return executable;
  }

  usage(): EngineUsage {
    return {
      tensors: this.tensors.size,
      tensorBytes: this.tensorBytes,
      executables: this.executables.size,
      bindings: this.bindings.size,
    };
  }

  close(): Promise<void> {
    this.closing ??= this.shutDown();
    return this.closing;
  }

  private async shutDown(): Promise<void> {
    for (const reject of this.pending) reject(this.closedError());
    for (const owned of [this.tensors, this.executables, this.bindings]) owned.clear();
    this.tensorBytes = 0;
    await this.backend.close();
  }

  private bind(
    executable: Executable,
    executableId: number,
    graph: string,
    feeds: Readonly<Record<string, EngineTensor>>,
    fetches: Readonly<Record<string, EngineTensor>>,
    onRelease: () => void,
  ): Binding {
    this.expectOpen();
    if (!this.executables.has(executable)) throw new EngineError(`graph ${graph}: bind after release`);
    const inputs = this.match(`graph ${graph}, input`, executable.inputs, feeds);
    const outputs = this.match(`graph ${graph}, output`, executable.outputs, fetches);
    const id = this.nextId++;
    const used = [...Object.values(feeds), ...Object.values(fetches)].map(
      (owned) => this.tensors.get(owned)!,
    );
    for (const held of used) held.holders++;
    // The backend remembers a binding it failed to make and says why when it is run.
    this.forget(() => this.backend.createBinding(id, executableId, inputs, outputs));
    const binding: Binding = {
      run: () =>
        this.bindings.has(binding) || this.closing
          ? this.ran(this.settle(() => this.backend.run(id)))
          : Promise.reject(new EngineError(`graph ${graph}: run after release of the binding`)),
      release: () => {
        if (!this.bindings.delete(binding)) return;
        onRelease();
        this.forget(async () => {
          // Runs that were asked for come first.
          await this.backend.releaseBinding(id);
          for (const held of used) drop(held);
        });
      },
    };
    this.bindings.add(binding);
    return binding;
  }

  private ran(run: Promise<number>): Promise<number> {
    const ended = () => {};
    this.lastRun = run.then(ended, ended);
    return run;
  }

  private profile(executable: Executable, id: number, graph: string): Promise<readonly OperatorTime[]> {
    if (!this.executables.has(executable) && !this.closing) {
      return Promise.reject(new EngineError(`graph ${graph}: profile after release`));
    }
    return this.settle(() => this.backend.profile(id));
  }

  /** The tensors in the order of the declared values. @throws EngineError naming the value that does not fit. */
  private match(
    kind: string,
    declared: readonly ValueInfo[],
    given: Readonly<Record<string, EngineTensor>>,
  ): BoundTensor[] {
    const names = new Set(declared.map((value) => value.name));
    for (const name of Object.keys(given)) {
      if (!names.has(name)) {
        throw new EngineError(`${kind} "${name}" does not exist; there are: ${[...names].join(", ")}`);
      }
    }
    return declared.map(({ name, dtype, shape }) => {
      const owned = given[name];
      if (!owned) throw new EngineError(`${kind} "${name}" (${dtype}[${shape}]) is not bound`);
      const held = this.tensors.get(owned);
      if (!held) {
        throw new EngineError(`${kind} "${name}": the tensor was released or belongs to another engine`);
      }
      const { tensor } = owned;
      if (tensor.dtype !== dtype || tensor.shape.join() !== shape.join()) {
        const came = `${tensor.dtype}[${tensor.shape}]`;
        throw new EngineError(`${kind} "${name}": expected ${dtype}[${shape}], got ${came}`);
      }
      return { name, ...held.seen };
    });
  }

  /** The backend's answer, or a rejection when the engine closes first. */
  private settle<T>(ask: () => T | Promise<T>): Promise<T> {
    if (this.closing) return Promise.reject(this.closedError());
    return new Promise<T>((resolve, reject) => {
      this.pending.add(reject);
      Promise.try(ask)
        .then(resolve, reject)
        .finally(() => this.pending.delete(reject));
    });
  }

  /** Tells the backend something whose failure, if any, shows elsewhere. */
  private forget(tell: () => void | Promise<void>): void {
    if (!this.closing) Promise.try(tell).catch(() => {});
  }

  private expectDtype(what: string, { dtype, shape }: { dtype: DType; shape: Shape }): void {
    if (this.dtypes.includes(dtype)) return;
    throw new EngineError(
      `${what} is ${dtype}[${shape}], which the ${this.name} engine does not have: ` +
        `cast it to one of ${this.dtypes.join(", ")}, or choose another engine`,
    );
  }

  private expectOpen(): void {
    if (this.closing) throw this.closedError();
  }

  private closedError(): EngineError {
    return new EngineError(`the ${this.name} engine is closed`);
  }
}
