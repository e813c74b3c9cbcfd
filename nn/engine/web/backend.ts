/**
 * ONNX Runtime in WebAssembly, on tensors that live in the module's heap: bindings whose values and pointer arrays
 * are made once, and runs that copy nothing.
 */

import { DATA_TYPE } from "../../onnx/datatype.ts";
import type { Backend, BoundTensor } from "../backend.ts";
import { type CompileOptions, EngineError, type OperatorTime } from "../engine.ts";
import { LOG_FATAL, type WebModule } from "./module.ts";

/** See `Engine.compile`. */
const OPTIMISE_NOTHING = 0;
/** OrtDataLocation of `onnxruntime_c_api`'s JavaScript side: none, cpu, cpu-pinned, … */
const CPU = 1;

interface Bound {
  readonly executable: number;
  readonly inputs: Side;
  readonly outputs: Side;
}

/** Names and values of a binding's inputs or outputs, as arrays in the heap. */
interface Side {
  readonly count: number;
  readonly names: number;
  readonly values: number;
  release(): void;
}

export class WebBackend implements Backend<Uint8Array> {
  private readonly module: WebModule;
  private readonly now: () => number;
  private readonly sessions = new Map<number, number>();
  private readonly bindings = new Map<number, Bound | Error>();

  /** `now` reads milliseconds; it times the kernels. */
  constructor(module: WebModule, now: () => number) {
    this.module = module;
    this.now = now;
  }

  async compile(executable: number, model: Uint8Array, options: CompileOptions): Promise<void> {
    if (options.profile) {
      throw new EngineError("the web engine has no profiler: compile without { profile: true }");
    }
    const { module } = this;
    const { api } = module;
    const session = api._OrtCreateSessionOptions(OPTIMISE_NOTHING, 1, 0, 0, 0, 0, 0, LOG_FATAL, 0, 0);
    module.made(session);
    let bytes = 0;
    try {
      bytes = module.place(model);
      const handle = await api._OrtCreateSession(bytes, model.byteLength, session);
      this.sessions.set(executable, module.made(handle));
    } finally {
      if (bytes) api._free(bytes);
      api._OrtReleaseSessionOptions(session);
    }
  }

  createBinding(
    binding: number,
    executable: number,
    feeds: readonly BoundTensor[],
    fetches: readonly BoundTensor[],
  ): void {
    let inputs: Side | undefined;
    try {
      inputs = this.side(feeds);
      this.bindings.set(binding, { executable, inputs, outputs: this.side(fetches) });
    } catch (error) {
      inputs?.release();
      this.bindings.set(binding, error as Error);
    }
  }

  async run(binding: number): Promise<number> {
    const bound = this.bindings.get(binding);
    if (bound === undefined) throw new EngineError("run of a released binding");
    if (bound instanceof Error) throw bound;
    const { inputs, outputs } = bound;
    const session = this.session(bound.executable);
    const { module } = this;
    const start = this.now();
    module.check(
      await module.api._OrtRun(
        session,
        inputs.names,
        inputs.values,
        inputs.count,
        outputs.names,
        outputs.count,
        outputs.values,
        0,
      ),
    );
    return this.now() - start;
  }

  profile(executable: number): readonly OperatorTime[] {
    this.session(executable);
    throw new EngineError("the web engine has no profiler");
  }

  releaseBinding(binding: number): void {
    const bound = this.bindings.get(binding);
    this.bindings.delete(binding);
    if (bound === undefined || bound instanceof Error) return;
    bound.inputs.release();
    bound.outputs.release();
  }

  releaseExecutable(executable: number): void {
    const session = this.sessions.get(executable);
    if (session === undefined) return;
    this.sessions.delete(executable);
    this.module.check(this.module.api._OrtReleaseSession(session));
  }

  close(): void {
    for (const id of [...this.bindings.keys()]) this.releaseBinding(id);
    for (const id of [...this.sessions.keys()]) this.releaseExecutable(id);
  }

  private session(executable: number): number {
    const session = this.sessions.get(executable);
    if (session === undefined) throw new EngineError("the executable was released");
    return session;
  }

  private side(tensors: readonly BoundTensor[]): Side {
    const { module } = this;
    const { api } = module;
    const [blocks, values]: [number[], number[]] = [[], []];
    const keep = (address: number) => {
      blocks.push(address);
      return address;
    };
    const release = () => {
      for (const value of values.splice(0)) api._OrtReleaseTensor(value);
      for (const block of blocks.splice(0)) api._free(block);
    };
    try {
      for (const tensor of tensors) values.push(this.value(tensor));
      const names = keep(module.words(tensors.map(({ name }) => keep(module.text(name)))));
      return { count: tensors.length, names, values: keep(module.words(values)), release };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** A value over the tensor's own bytes in the heap. */
  private value({ dtype, shape, bytes }: BoundTensor): number {
    const { module } = this;
    const dims = module.words(shape);
    try {
      // ONNXTensorElementDataType has the numbers of TensorProto.DataType.
      const type = DATA_TYPE[dtype];
      return module.made(
        module.api._OrtCreateTensor(type, bytes.byteOffset, bytes.byteLength, dims, shape.length, CPU),
      );
    } finally {
      module.api._free(dims);
    }
  }
}
