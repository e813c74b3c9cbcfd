/**
 * The reference engine as a simulated machine has it: kernels and compilers take the world's time, stand still with their
 * machine and never end on one that is gone. One kind keeps what runs use in a memory of its own, as a graphics card does.
 */

import type { BackendTensor, BoundTensor, DeviceBackend } from "../../../../nn/engine/backend.ts";
import { DTYPES } from "../../../../nn/engine/dtypes.ts";
import { type CompileOptions, type Engine, EngineError } from "../../../../nn/engine/engine.ts";
import { HostEngine } from "../../../../nn/engine/host.ts";
import { type Bound, ReferenceBackend } from "../../../../nn/engine/reference/backend.ts";
import type { Graph } from "../../../../nn/onnx/graph.ts";
import { Tensor } from "../../../../protocols/tensor.ts";
import type { Host } from "../../../sim/host.ts";
import { Outcomes } from "./outcomes.ts";

/** Milliseconds that a kernel takes now. */
export type Pace = () => number;

/** Worlds of one shape compute the same, each what the one before it has computed. */
const outcomes = new Outcomes();

/** A graph takes as long to compile as to run so many times. */
const COMPILING = 20;

class PacedBackend extends ReferenceBackend implements DeviceBackend<Graph> {
  private readonly host: Host;
  private readonly pace: Pace;
  /** What is on the device, by tensor, where that is not the caller's memory. */
  private readonly far = new Map<number, Uint8Array>();
  private last: Promise<unknown> = Promise.resolve();

  constructor(host: Host, pace: Pace) {
    super(() => host.now());
    this.host = host;
    this.pace = pace;
  }

  override async compile(id: number, graph: Graph, options: CompileOptions): Promise<void> {
    await this.host.sleep(COMPILING * this.pace());
    super.compile(id, graph, options);
  }

  override createBinding(id: number, program: number, feeds: BoundTensor[], fetches: BoundTensor[]): void {
    const seen = (bound: BoundTensor) => ({ ...bound, bytes: this.bytesOf(bound) });
    super.createBinding(id, program, feeds.map(seen), fetches.map(seen));
  }

  override run(binding: number): Promise<number> {
    return this.inTurn(async () => {
      const ms = this.pace();
      const end = begun(this.bound(binding));
      await this.host.sleep(ms);
      end();
      await super.run(binding);
      return ms;
    });
  }

  protected override execute(bound: Bound): void {
    outcomes.of(bound, () => super.execute(bound));
  }

  override releaseBinding(binding: number): Promise<void> {
    return this.inTurn(async () => super.releaseBinding(binding));
  }

  writeTensor(tensor: BackendTensor): Promise<void> {
    const written = tensor.bytes.slice();
    return this.inTurn(async () => this.bytesOf(tensor).set(written));
  }

  readTensor(tensor: BackendTensor): Promise<void> {
    return this.inTurn(async () => {
      await this.host.sleep(this.pace());
      tensor.bytes.set(this.bytesOf(tensor));
    });
  }

  clearTensor(tensor: BackendTensor): Promise<void> {
    return this.inTurn(async () => void this.bytesOf(tensor).fill(0));
  }

  copyTensor(from: BackendTensor, to: BackendTensor): Promise<void> {
    return this.inTurn(async () => this.bytesOf(to).set(this.bytesOf(from)));
  }

  releaseTensor(id: number): void {
    this.far.delete(id);
  }

  private bytesOf({ id, place, bytes }: BackendTensor): Uint8Array<ArrayBuffer> {
    if (place === "host") return bytes as Uint8Array<ArrayBuffer>;
    const known = this.far.get(id) ?? new Uint8Array(bytes.byteLength);
    this.far.set(id, known);
    return known as Uint8Array<ArrayBuffer>;
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.last.then(work);
    this.last = done.catch(() => {});
    return done;
  }
}

/**
 * As long as kernels run, they read what they are fed and write what they give, in no order that anybody knows: what is in
 * their fetches meanwhile is of no use, and nobody is to change their feeds.
 * @returns what is called at their end. It throws where somebody has.
 */
function begun(bound: Bound | undefined): () => void {
  if (!bound) return () => {};
  const { feeds, fetches } = bound;
  const before = feeds.map(({ bytes }) => bytes.slice());
  for (const { bytes } of fetches) bytes.fill(0xff);
  const memory = new Set(fetches.map(({ bytes }) => bytes.buffer));
  return () => {
    for (const [i, { name, bytes }] of feeds.entries()) {
      if (memory.has(bytes.buffer)) bytes.set(before[i]!);
      else if (!Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).equals(before[i]!)) {
        throw new EngineError(`somebody has changed ${name} while a kernel read it`);
      }
    }
  };
}

/** @param far whether it has a memory of its own. */
export function simulatedEngine(host: Host, pace: Pace, far: boolean): Engine {
  const backend = new PacedBackend(host, pace);
  return new HostEngine({
    ...{ name: "reference", backend, dtypes: DTYPES },
    allocator: (dtype, shape) => ({ tensor: Tensor.zeros(dtype, shape), free: () => {} }),
    ...(far && { device: backend, onDevice: DTYPES }),
  });
}
