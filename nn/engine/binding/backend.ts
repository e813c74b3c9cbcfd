/**
 * A backend over the JavaScript API that onnxruntime-node and onnxruntime-web share (onnxruntime-common).
 *
 * That API hands every output out in memory of its own (the web one even says it fills preallocated outputs and
 * does not), so results are copied into the bound tensors after each run. Inputs are read where they are.
 */

import type { InferenceSession, Tensor as OrtTensor, TensorConstructor } from "onnxruntime-web";
import type { Backend, BoundTensor } from "../backend.ts";
import { type CompileOptions, EngineError, type OperatorTime } from "../engine.ts";
import { ELEMENT } from "../javascript.ts";
import type { OperatorTimes } from "../profile.ts";

/** What the two packages have in common, as far as it is used. */
export interface OrtModule {
  readonly InferenceSession: {
    create(model: Uint8Array, options: InferenceSession.SessionOptions): Promise<InferenceSession>;
  };
  readonly Tensor: TensorConstructor;
}

/** Errors are thrown, so the log says only what ends the process. */
const LOG_FATAL = 4;

interface Session {
  session: InferenceSession;
  readonly profiling?: { readonly times: OperatorTimes; readonly reopen: () => Promise<InferenceSession> };
}

/** An input whose memory the runtime does not take: copied to memory of its own before each run. */
interface Staged {
  readonly from: Uint8Array;
  readonly to: Uint8Array;
}

interface Bound {
  readonly executable: number;
  readonly staged: readonly Staged[];
  readonly feeds: Readonly<Record<string, OrtTensor>>;
  readonly names: readonly string[];
  readonly fetches: readonly BoundTensor[];
}

export class SessionBackend implements Backend<Uint8Array> {
  private readonly ort: OrtModule;
  private readonly now: () => number;
  private readonly takesShared: boolean;
  private readonly profiler: (() => OperatorTimes) | undefined;
  private readonly sessions = new Map<number, Session>();
  private readonly bindings = new Map<number, Bound | Error>();

  /**
   * `now` reads milliseconds; it times the kernels. `takesShared` says whether the runtime takes tensors in shared
   * memory as they are; they are copied before each run where it does not. `profiler` makes the collector of a profiled executable;
   * without one, compiling with `profile` is refused.
   */
  constructor(ort: OrtModule, now: () => number, takesShared: boolean, profiler?: () => OperatorTimes) {
    this.ort = ort;
    this.now = now;
    this.takesShared = takesShared;
    this.profiler = profiler;
  }

  async compile(executable: number, model: Uint8Array, options: CompileOptions): Promise<void> {
    const threads = options.threads ?? 1;
    if (!options.profile) {
      this.sessions.set(executable, { session: await this.open(model, threads) });
      return;
    }
    if (!this.profiler)
      throw new EngineError("this engine has no profiler: compile without { profile: true }");
    const times = this.profiler();
    const reopen = () => this.open(model, threads, times.begin());
    try {
      this.sessions.set(executable, { session: await reopen(), profiling: { times, reopen } });
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
    try {
      const staged: Staged[] = [];
      const inputs = Object.fromEntries(feeds.map((feed) => [feed.name, this.view(feed, staged)]));
      const names = fetches.map((fetch) => fetch.name);
      this.bindings.set(binding, { executable, staged, feeds: inputs, names, fetches });
    } catch (error) {
      this.bindings.set(binding, error as Error);
    }
  }

  async run(binding: number): Promise<number> {
    const bound = this.bindings.get(binding);
    if (bound === undefined) throw new EngineError("run of a released binding");
    if (bound instanceof Error) throw bound;
    const { session } = this.session(bound.executable);
    for (const { from, to } of bound.staged) to.set(from);
    const start = this.now();
    const results = await session.run(bound.feeds, bound.names, { logSeverityLevel: LOG_FATAL });
    const elapsed = this.now() - start;
    for (const { name, bytes } of bound.fetches) {
      const { buffer, byteOffset, byteLength } = results[name]!.data as Uint8Array;
      bytes.set(new Uint8Array(buffer, byteOffset, byteLength));
    }
    return elapsed;
  }

  async profile(executable: number): Promise<readonly OperatorTime[]> {
    const open = this.session(executable);
    if (!open.profiling) throw new EngineError("profile() needs compile(graph, { profile: true })");
    await this.closeSession(open);
    open.session = await open.profiling.reopen();
    return open.profiling.times.sorted();
  }

  releaseBinding(binding: number): void {
    this.bindings.delete(binding);
  }

  async releaseExecutable(executable: number): Promise<void> {
    const open = this.sessions.get(executable);
    this.sessions.delete(executable);
    if (open) await this.closeSession(open);
  }

  async close(): Promise<void> {
    this.bindings.clear();
    for (const id of [...this.sessions.keys()]) await this.releaseExecutable(id);
  }

  private session(executable: number): Session {
    const session = this.sessions.get(executable);
    if (!session) throw new EngineError("the executable was released");
    return session;
  }

  private open(model: Uint8Array, threads: number, profilePrefix?: string): Promise<InferenceSession> {
    return this.ort.InferenceSession.create(model, {
      executionProviders: ["cpu"],
      graphOptimizationLevel: "disabled",
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      enableMemPattern: false,
      logSeverityLevel: LOG_FATAL,
      ...(profilePrefix !== undefined && { enableProfiling: true, profileFilePrefix: profilePrefix }),
    });
  }

  private async closeSession({ session, profiling }: Session): Promise<void> {
    if (profiling) session.endProfiling();
    await session.release();
    profiling?.times.end();
  }

  private view({ name, dtype, shape, bytes }: BoundTensor, staged: Staged[]): OrtTensor {
    const element = ELEMENT[dtype];
    if (!element) throw new EngineError(`input "${name}": this engine has no ${dtype} tensors`);
    const [type, Typed, size] = element;
    let memory = bytes;
    if (!this.takesShared && !(bytes.buffer instanceof ArrayBuffer)) {
      memory = new Uint8Array(bytes.byteLength);
      staged.push({ from: bytes, to: memory });
    }
    const data = new Typed(memory.buffer, memory.byteOffset, memory.byteLength / size);
    return new this.ort.Tensor(type as "float32", data as Float32Array<ArrayBuffer>, shape);
  }
}
