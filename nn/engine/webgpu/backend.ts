/**
 * A backend over onnxruntime-web's WebGPU kernels.
 *
 * Values whose place is the device are bound as its buffers, in and out, and stay there; the others are carried by
 * the package on each run. A kernel must not read and write one buffer (WebGPU forbids it in one dispatch), so an
 * update in place writes beside it and is copied over, on the device, when the run has ended.
 */

import type {
  InferenceSession,
  Tensor as OrtTensor,
  TensorConstructor,
  TensorFactory,
} from "onnxruntime-web";
import type { BackendTensor, BoundTensor, DeviceBackend } from "../backend.ts";
import { type CompileOptions, EngineError, type OperatorTime } from "../engine.ts";
import { ELEMENT } from "../javascript.ts";
import { DeviceTensors, type GpuBuffer, type GpuDevice } from "./device.ts";

/** What is used of the package. */
export interface OrtWebGpu {
  readonly InferenceSession: {
    create(model: Uint8Array, options: InferenceSession.SessionOptions): Promise<InferenceSession>;
  };
  readonly Tensor: TensorConstructor & TensorFactory;
}

/** Errors are thrown, so the log says only what ends the process. */
const LOG_FATAL = 4;
/** An update in place: the kernels write `from`, and `to` is what they read. */
interface Shadow {
  readonly from: GpuBuffer;
  readonly to: GpuBuffer;
  readonly bytes: number;
}

interface Bound {
  readonly executable: number;
  readonly feeds: Readonly<Record<string, OrtTensor>>;
  /** null: an output that the package hands out, copied to the host's tensor of that name. */
  readonly fetches: Readonly<Record<string, OrtTensor | null>>;
  readonly hosts: readonly BoundTensor[];
  readonly shadows: readonly Shadow[];
}

export class WebGpuBackend implements DeviceBackend<Uint8Array> {
  private readonly ort: OrtWebGpu;
  private readonly now: () => number;
  private readonly sessions = new Map<number, InferenceSession>();
  private readonly bindings = new Map<number, Bound | Error>();
  private readonly tensors: DeviceTensors;

  /** `now` reads milliseconds; it times the runs. The device is the backend's own from here on. */
  constructor(ort: OrtWebGpu, device: GpuDevice, now: () => number) {
    this.ort = ort;
    this.tensors = new DeviceTensors(device);
    this.now = now;
  }

  async compile(executable: number, model: Uint8Array, options: CompileOptions): Promise<void> {
    if (options.profile) {
      throw new EngineError("the webgpu engine has no profiler: compile without { profile: true }");
    }
    const session = await this.ort.InferenceSession.create(model, {
      executionProviders: [{ name: "webgpu", device: this.tensors.device as never }],
      graphOptimizationLevel: "all",
      enableMemPattern: false,
      logSeverityLevel: LOG_FATAL,
    });
    this.sessions.set(executable, session);
  }

  createBinding(
    binding: number,
    executable: number,
    feeds: readonly BoundTensor[],
    fetches: readonly BoundTensor[],
  ): void {
    const shadows: Shadow[] = [];
    try {
      const { tensors } = this;
      const read = new Set(feeds.map(({ id }) => id));
      const target = (fetch: BoundTensor): OrtTensor | null => {
        if (fetch.place === "host") return null;
        const to = tensors.bufferOf(fetch);
        if (!read.has(fetch.id)) return this.onDevice(fetch, to);
        const from = tensors.create(fetch.bytes.byteLength);
        shadows.push({ from, to, bytes: fetch.bytes.byteLength });
        return this.onDevice(fetch, from);
      };
      this.bindings.set(binding, {
        executable,
        feeds: Object.fromEntries(
          feeds.map((feed) => [
            feed.name,
            feed.place === "host" ? this.onHost(feed) : this.onDevice(feed, tensors.bufferOf(feed)),
          ]),
        ),
        fetches: Object.fromEntries(fetches.map((fetch) => [fetch.name, target(fetch)])),
        hosts: fetches.filter(({ place }) => place === "host"),
        shadows,
      });
    } catch (error) {
      for (const { from } of shadows) from.destroy();
      this.bindings.set(binding, error as Error);
    }
  }

  async run(binding: number): Promise<number> {
    const bound = this.bindings.get(binding);
    if (bound === undefined) throw new EngineError("run of a released binding");
    if (bound instanceof Error) throw bound;
    const session = this.session(bound.executable);
    const { tensors } = this;
    const start = this.now();
    const results = await session.run(bound.feeds, bound.fetches, { logSeverityLevel: LOG_FATAL });
    tensors.copy(bound.shadows);
    for (const { name, bytes } of bound.hosts) {
      const { buffer, byteOffset, byteLength } = (await results[name]!.getData()) as Uint8Array;
      bytes.set(new Uint8Array(buffer, byteOffset, byteLength));
    }
    await tensors.settled();
    return this.now() - start;
  }

  profile(executable: number): readonly OperatorTime[] {
    this.session(executable);
    throw new EngineError("the webgpu engine has no profiler");
  }

  writeTensor(tensor: BackendTensor): void {
    this.tensors.write(tensor);
  }

  readTensor(tensor: BackendTensor): Promise<void> {
    return this.tensors.read(tensor);
  }

  clearTensor(tensor: BackendTensor): void {
    this.tensors.clear(tensor);
  }

  copyTensor(from: BackendTensor, to: BackendTensor): void {
    const buffers = { from: this.tensors.bufferOf(from), to: this.tensors.bufferOf(to) };
    this.tensors.copy([{ ...buffers, bytes: to.bytes.byteLength }]);
  }

  releaseTensor(id: number): void {
    this.tensors.release(id);
  }

  releaseBinding(binding: number): void {
    const bound = this.bindings.get(binding);
    this.bindings.delete(binding);
    if (bound === undefined || bound instanceof Error) return;
    for (const { from } of bound.shadows) from.destroy();
  }

  async releaseExecutable(executable: number): Promise<void> {
    const session = this.sessions.get(executable);
    this.sessions.delete(executable);
    await session?.release();
  }

  async close(): Promise<void> {
    for (const id of [...this.bindings.keys()]) this.releaseBinding(id);
    for (const id of [...this.sessions.keys()]) await this.releaseExecutable(id);
    this.tensors.close();
  }

  private session(executable: number): InferenceSession {
    const session = this.sessions.get(executable);
    if (!session) throw new EngineError("the executable was released");
    return session;
  }

  private onHost({ name, dtype, shape, bytes }: BoundTensor): OrtTensor {
    const element = ELEMENT[dtype];
    if (!element) throw new EngineError(`input "${name}": the webgpu engine has no ${dtype} tensors`);
    const [type, Typed, size] = element;
    const data = new Typed(bytes.buffer, bytes.byteOffset, bytes.byteLength / size);
    return new this.ort.Tensor(type as "float32", data as Float32Array<ArrayBuffer>, shape);
  }

  private onDevice({ name, dtype, shape }: BoundTensor, buffer: GpuBuffer): OrtTensor {
    const element = ELEMENT[dtype];
    if (!element) throw new EngineError(`value "${name}": the webgpu engine has no ${dtype} tensors`);
    return this.ort.Tensor.fromGpuBuffer(buffer as never, {
      dataType: element[0] as "float32",
      dims: shape,
    }) as unknown as OrtTensor;
  }
}
