/**
 * ONNX Runtime through its C API: sessions, and bindings whose values and pointer arrays are made once.
 *
 * A run is one foreign call on numbers that do not change, so nothing is allocated or copied on the way: the
 * kernels read and write the bound tensors themselves. `Run` blocks, which is why this lives in a worker.
 */

import process from "node:process";
import { DATA_TYPE } from "../../onnx/datatype.ts";
import type { Backend, BoundTensor } from "../backend.ts";
import { type CompileOptions, EngineError, type OperatorTime } from "../engine.ts";
import { OperatorTimes } from "../profile.ts";
import type { Foreign, Pointer } from "./ffi.ts";
import { check, type OrtApi, type OrtLibrary } from "./library.ts";
import { cString, pointers } from "./pointers.ts";

/** OrtLoggingLevel: errors come back as statuses, so the log says only what ends the process. */
const LOG_FATAL = 4;
/** See `Engine.compile`. */
const OPTIMISE_NOTHING = 0;
/** OrtDeviceAllocator, OrtMemTypeDefault. */
const [DEVICE_ALLOCATOR, DEFAULT_MEMORY] = [0, 0];

interface Session {
  handle: Pointer;
  /** Present when compiled with `profile`. */
  readonly profiling?: { readonly times: OperatorTimes; readonly reopen: () => Pointer };
}

interface Bound {
  readonly executable: number;
  readonly inputs: Side;
  readonly outputs: Side;
}

/** Names and values of a binding's inputs or outputs, as C wants them. */
interface Side {
  readonly count: number;
  readonly names: Pointer;
  readonly values: Pointer;
  release(): void;
}

export class NativeBackend implements Backend<Uint8Array> {
  private readonly api: OrtApi;
  private readonly foreign: Foreign;
  private readonly env: Pointer;
  private readonly memory: Pointer;
  private readonly sessions = new Map<number, Session>();
  private readonly bindings = new Map<number, Bound | Error>();
  private readonly now: () => number;

  /** `now` reads milliseconds; it times the kernels. */
  constructor(library: OrtLibrary, foreign: Foreign, now: () => number) {
    const api = library.api;
    this.api = api;
    this.foreign = foreign;
    this.now = now;
    this.env = this.withText("troupe", (name) =>
      this.out((slot) => check(api, api.CreateEnv(LOG_FATAL, name, slot))),
    );
    check(api, api.DisableTelemetryEvents(this.env));
    this.memory = this.out((slot) =>
      check(api, api.CreateCpuMemoryInfo(DEVICE_ALLOCATOR, DEFAULT_MEMORY, slot)),
    );
  }

  compile(executable: number, model: Uint8Array, options: CompileOptions): void {
    if (!options.profile) {
      this.sessions.set(executable, { handle: this.open(model, options.threads ?? 1) });
      return;
    }
    const times = new OperatorTimes();
    const reopen = () => this.open(model, options.threads ?? 1, times.begin());
    try {
      this.sessions.set(executable, { handle: reopen(), profiling: { times, reopen } });
    } catch (error) {
      times.cancel();
      throw error;
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

  run(binding: number): number {
    const bound = this.bindings.get(binding);
    if (bound === undefined) throw new EngineError("run of a released binding");
    if (bound instanceof Error) throw bound;
    const { inputs, outputs } = bound;
    const session = this.session(bound.executable);
    const start = this.now();
    check(
      this.api,
      this.api.Run(
        session.handle,
        0,
        inputs.names,
        inputs.values,
        inputs.count,
        outputs.names,
        outputs.count,
        outputs.values,
      ),
    );
    return this.now() - start;
  }

  /** Ends ONNX Runtime's own profile to read it, and goes on with a new session under the same number. */
  profile(executable: number): readonly OperatorTime[] {
    const session = this.session(executable);
    if (!session.profiling) throw new EngineError("profile() needs compile(graph, { profile: true })");
    const { times, reopen } = session.profiling;
    this.closeSession(session);
    session.handle = reopen();
    return times.sorted();
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
    if (!session) return;
    this.sessions.delete(executable);
    this.closeSession(session);
  }

  close(): void {
    for (const id of [...this.bindings.keys()]) this.releaseBinding(id);
    for (const id of [...this.sessions.keys()]) this.releaseExecutable(id);
    this.api.ReleaseMemoryInfo(this.memory);
    this.api.ReleaseEnv(this.env);
  }

  private session(executable: number): Session {
    const session = this.sessions.get(executable);
    if (!session) throw new EngineError("the executable was released");
    return session;
  }

  private open(model: Uint8Array, threads: number, profilePrefix?: string): Pointer {
    const { api, env } = this;
    const options = this.out((slot) => check(api, api.CreateSessionOptions(slot)));
    try {
      check(api, api.SetSessionLogSeverityLevel(options, LOG_FATAL));
      check(api, api.SetSessionGraphOptimizationLevel(options, OPTIMISE_NOTHING));
      check(api, api.SetIntraOpNumThreads(options, threads));
      check(api, api.SetInterOpNumThreads(options, 1));
      // Planning one block for all intermediate values costs a GPT step 30 % more memory at its peak, and wins no time.
      check(api, api.DisableMemPattern(options));
      // Devices share their processors with people: a thread that waits must sleep.
      this.configure(options, "session.intra_op.allow_spinning", "0");
      if (profilePrefix !== undefined) {
        const encoding = process.platform === "win32" ? "utf16le" : "utf8";
        this.withText(profilePrefix, (path) => check(api, api.EnableProfiling(options, path)), encoding);
      }
      return this.out((slot) =>
        check(
          api,
          api.CreateSessionFromArray(env, this.foreign.addressOf(model), model.byteLength, options, slot),
        ),
      );
    } finally {
      api.ReleaseSessionOptions(options);
    }
  }

  private configure(options: Pointer, key: string, value: string): void {
    this.withText(key, (name) =>
      this.withText(value, (setting) =>
        check(this.api, this.api.AddSessionConfigEntry(options, name, setting)),
      ),
    );
  }

  /** Calls C with a text, which stays reachable until C returns. */
  private withText<T>(text: string, call: (at: Pointer) => T, encoding?: "utf8" | "utf16le"): T {
    const kept = [cString(text, encoding)];
    try {
      return call(this.foreign.addressOf(kept[0]!));
    } finally {
      kept.length = 0;
    }
  }

  /** Calls C with an out-parameter and gives the pointer it wrote. */
  private out(call: (slot: Pointer) => void): Pointer {
    const slot = pointers(1);
    call(this.foreign.addressOf(slot));
    return Number(slot[0]);
  }

  private side(tensors: readonly BoundTensor[]): Side {
    const { api, foreign } = this;
    const names = pointers(tensors.length);
    const values = pointers(tensors.length);
    // Held by the closure: C keeps addresses into all of these until the release.
    const kept = tensors.map((tensor) => ({ name: cString(tensor.name), bytes: tensor.bytes }));
    const release = () => {
      for (const value of values) if (value !== 0n) api.ReleaseValue(Number(value));
      values.fill(0n);
      kept.length = 0;
    };
    try {
      tensors.forEach((tensor, index) => {
        names[index] = BigInt(foreign.addressOf(kept[index]!.name));
        values[index] = BigInt(this.value(tensor));
      });
    } catch (error) {
      release();
      throw error;
    }
    return {
      count: tensors.length,
      names: foreign.addressOf(names),
      values: foreign.addressOf(values),
      release: () => {
        names.fill(0n);
        release();
      },
    };
  }

  /** An OrtValue over the tensor's own bytes. */
  private value({ dtype, shape, bytes }: BoundTensor): Pointer {
    const { api, memory, foreign } = this;
    const dims = pointers(shape.length);
    shape.forEach((dim, index) => {
      dims[index] = BigInt(dim);
    });
    // ONNXTensorElementDataType has the numbers of TensorProto.DataType.
    const type = DATA_TYPE[dtype];
    // An empty view has no address of its own.
    const data = foreign.addressOf(bytes.byteLength > 0 ? bytes : bytes.buffer);
    return this.out((slot) =>
      check(
        api,
        api.CreateTensorWithDataAsOrtValue(
          memory,
          data,
          bytes.byteLength,
          foreign.addressOf(dims),
          shape.length,
          type,
          slot,
        ),
      ),
    );
  }

  private closeSession({ handle, profiling }: Session): void {
    const { api } = this;
    if (profiling) {
      const allocator = this.out((slot) => check(api, api.GetAllocatorWithDefaultOptions(slot)));
      const path = this.out((slot) => check(api, api.SessionEndProfiling(handle, allocator, slot)));
      check(api, api.AllocatorFree(allocator, path));
      profiling.times.end();
    }
    api.ReleaseSession(handle);
  }
}
