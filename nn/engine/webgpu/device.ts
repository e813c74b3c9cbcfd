/** Tensors in buffers of a WebGPU device, and the ways between them and the caller's memory. */

import type { BackendTensor } from "../backend.ts";
import { EngineError } from "../engine.ts";

/** What is used of WebGPU (https://www.w3.org/TR/webgpu/), whose types are a browser's. */
export interface GpuBuffer {
  mapAsync(mode: number): Promise<void>;
  getMappedRange(): ArrayBuffer;
  destroy(): void;
}
interface CommandEncoder {
  clearBuffer(buffer: GpuBuffer): void;
  copyBufferToBuffer(from: GpuBuffer, fromAt: number, to: GpuBuffer, toAt: number, bytes: number): void;
  finish(): object;
}
export interface GpuDevice {
  addEventListener(type: "uncapturederror", heard: (event: { error: { message: string } }) => void): void;
  readonly lost: Promise<{ readonly message: string }>;
  destroy(): void;
  createBuffer(descriptor: { readonly size: number; readonly usage: number }): GpuBuffer;
  createCommandEncoder(): CommandEncoder;
  readonly queue: {
    submit(commands: readonly object[]): void;
    writeBuffer(buffer: GpuBuffer, at: number, data: Uint8Array): void;
    onSubmittedWorkDone(): Promise<void>;
  };
}

/** GPUBufferUsage and GPUMapMode. */
const [MAP_READ, COPY_SRC, COPY_DST, STORAGE] = [1, 4, 8, 128];
const MODE_READ = 1;
/** Kernels read vectors of four 32-bit numbers. */
const GRANULE = 16;

interface Adapter {
  readonly features: ReadonlySet<string>;
  readonly limits: Readonly<Record<string, number>>;
  requestDevice(descriptor: {
    readonly requiredFeatures: readonly string[];
    readonly requiredLimits: Readonly<Record<string, number>>;
  }): Promise<GpuDevice>;
}

/** What kernels use where there is it. */
const FEATURES = ["shader-f16", "subgroups"];
/** Asked for as large as the adapter has them: a model's matrices are large. */
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupsPerDimension",
];

/** The browser's device. @throws EngineError where it has none. */
export async function openDevice(): Promise<GpuDevice> {
  const { gpu } = navigator as unknown as { gpu?: { requestAdapter(): Promise<Adapter | null> } };
  const adapter = await gpu?.requestAdapter();
  if (!adapter) throw new EngineError("this browser has no graphics adapter");
  return adapter.requestDevice({
    requiredFeatures: FEATURES.filter((feature) => adapter.features.has(feature)),
    requiredLimits: Object.fromEntries(LIMITS.map((limit) => [limit, adapter.limits[limit]!])),
  });
}

export class DeviceTensors {
  readonly device: GpuDevice;
  private readonly buffers = new Map<number, GpuBuffer>();
  /** WebGPU reports mistakes and a lost device beside the calls that failed. */
  private failure: string | undefined;

  constructor(device: GpuDevice) {
    this.device = device;
    device.addEventListener("uncapturederror", ({ error }) => {
      this.failure ??= error.message;
    });
    device.lost.then(({ message }) => {
      this.failure ??= `the device was lost: ${message}`;
    });
  }

  /** The buffer of a tensor; zero-filled when it is new. */
  bufferOf({ id, bytes }: BackendTensor): GpuBuffer {
    let buffer = this.buffers.get(id);
    if (!buffer) {
      buffer = this.create(bytes.byteLength);
      this.buffers.set(id, buffer);
    }
    return buffer;
  }

  /** A buffer that nobody else knows; who asked for it destroys it. */
  create(bytes: number): GpuBuffer {
    return this.device.createBuffer({ size: padded(bytes), usage: STORAGE | COPY_SRC | COPY_DST });
  }

  write(tensor: BackendTensor): void {
    const content = new Uint8Array(padded(tensor.bytes.byteLength));
    content.set(tensor.bytes);
    this.device.queue.writeBuffer(this.bufferOf(tensor), 0, content);
  }

  async read(tensor: BackendTensor): Promise<void> {
    const size = padded(tensor.bytes.byteLength);
    const staging = this.device.createBuffer({ size, usage: MAP_READ | COPY_DST });
    try {
      this.copy([{ from: this.bufferOf(tensor), to: staging, bytes: tensor.bytes.byteLength }]);
      await staging.mapAsync(MODE_READ);
      tensor.bytes.set(new Uint8Array(staging.getMappedRange(), 0, tensor.bytes.byteLength));
    } finally {
      staging.destroy();
    }
  }

  clear(tensor: BackendTensor): void {
    const encoder = this.device.createCommandEncoder();
    encoder.clearBuffer(this.bufferOf(tensor));
    this.device.queue.submit([encoder.finish()]);
  }

  /** Copies on the device, after what has been submitted so far. */
  copy(pairs: readonly { readonly from: GpuBuffer; readonly to: GpuBuffer; readonly bytes: number }[]): void {
    if (pairs.length === 0) return;
    const encoder = this.device.createCommandEncoder();
    for (const { from, to, bytes } of pairs) encoder.copyBufferToBuffer(from, 0, to, 0, padded(bytes));
    this.device.queue.submit([encoder.finish()]);
  }

  /** Resolves when all that was submitted is done. @throws EngineError when some of it failed. */
  async settled(): Promise<void> {
    await this.device.queue.onSubmittedWorkDone();
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw new EngineError(`WebGPU: ${failure}`);
  }

  release(id: number): void {
    this.buffers.get(id)?.destroy();
    this.buffers.delete(id);
  }

  close(): void {
    for (const id of [...this.buffers.keys()]) this.release(id);
    this.device.destroy();
  }
}

function padded(bytes: number): number {
  return Math.max(GRANULE, Math.ceil(bytes / GRANULE) * GRANULE);
}
