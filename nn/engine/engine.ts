/**
 * An engine runs ONNX graphs: one small interface over the native ONNX Runtime library, onnxruntime-web (on
 * WebAssembly and on WebGPU) and the plain TypeScript reference. Who implements it passes `test/contract/engine.contract.ts`.
 *
 * Memory is the point of the interface. Tensors are allocated once, by the engine, where its kernels can reach
 * them; a `Binding` ties an executable to such tensors once; a run then names the binding and nothing else, so
 * that parameters are never copied and outputs land where the next run reads them.
 */

import type { DType, Shape, Tensor } from "../../protocols/tensor.ts";
import type { Graph, ValueInfo } from "../onnx/graph.ts";

export interface Engine {
  readonly name: "native" | "node-binding" | "web" | "webgpu" | "reference";
  /**
   * A zero-filled tensor in the engine's memory. Owned by the caller, who releases it.
   * `place` says who uses it most, default "host"; it matters to engines with memory of their own (webgpu) alone, and
   * to those for the types that their kernels can keep there.
   * @throws EngineError for a dtype that the engine does not have, and when there is no memory left.
   */
  allocate(dtype: DType, shape: Shape, place?: Place): EngineTensor;
  /**
   * Compiles a graph as it is written: the runtime's own optimiser is off on processors. Our passes have written the
   * fast spelling already, a training step takes as long and gives the same bits, and compiling takes a quarter of
   * the time (ResNet-18's forward and backward pass 0.12 s and not 0.53).
   * @throws EngineError naming the operator or node the engine refuses. */
  compile(graph: Graph, options?: CompileOptions): Promise<Executable>;
  /** What is alive now; all zero after everything has been released. */
  usage(): EngineUsage;
  /** Releases everything, ends the worker thread. Idempotent. Runs in flight are rejected. */
  close(): Promise<void>;
}

export interface EngineUsage {
  readonly tensors: number;
  readonly tensorBytes: number;
  readonly executables: number;
  readonly bindings: number;
}

export interface CompileOptions {
  /** Threads a single run may use; default 1. */
  readonly threads?: number;
  /** Collects per-operator kernel times; see `Executable.profile`. Default false. */
  readonly profile?: boolean;
}

/**
 * Who uses a tensor. "host": the caller, between runs; `tensor` is always what the runs see and have written, at
 * the price of a copy per run on a device with memory of its own. "device": the runs, as parameters and the
 * optimiser's state are; it stays where the kernels are, and `write` and `read` carry it there and back.
 */
export type Place = "host" | "device";

export interface EngineTensor {
  /**
   * A live view: it may be read and written, without copying, whenever no run that uses it is in flight. Where
   * `place` is "device" and the engine has memory of its own, it is the host's copy, brought in line by `write`
   * and `read` alone.
   */
  readonly tensor: Tensor;
  /** Carries `tensor` to where the runs asked for from now on see it; at once where that is the host's memory. */
  write(): Promise<void>;
  /** Carries what the runs asked for so far have written to `tensor`, and gives it. */
  read(): Promise<Tensor>;
  /** Makes what runs see all zero, after the runs asked for so far; `tensor` too, where that is the same. */
  clear(): Promise<void>;
  /**
   * Makes what runs see the content of `from`, after the runs asked for so far and without a way over the host; at once
   * where that is the host's memory.
   * @throws EngineError for a tensor of another engine, type or place.
   */
  copy(from: EngineTensor): Promise<void>;
  release(): void;
}

export interface Executable {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  /**
   * Ties every input and every output to a tensor of this engine. Dtype and shape must match exactly.
   * One tensor may be both an input and an output (an update in place): allowed when the graph's last reader of
   * that input is the node that writes the output.
   * @throws EngineError naming a missing, unknown or mismatched value.
   */
  bind(
    feeds: Readonly<Record<string, EngineTensor>>,
    fetches: Readonly<Record<string, EngineTensor>>,
  ): Binding;
  /** Time per operator type in milliseconds and calls since compilation, when compiled with `profile`. */
  profile(): Promise<readonly OperatorTime[]>;
  /** Releases the executable and its bindings, after the runs asked for so far. */
  release(): void;
}

export interface OperatorTime {
  readonly op: string;
  readonly ms: number;
  readonly calls: number;
}

export interface Binding {
  /**
   * Runs once and resolves when the outputs are written, with the time spent in kernels in milliseconds.
   * Runs of one engine execute one at a time, in the order they were asked for.
   * @throws EngineError with the runtime's own message.
   */
  run(): Promise<number>;
  release(): void;
}

/** What the engine refuses or fails at; the message names the value, node or operator. */
export class EngineError extends Error {
  readonly code = "ENGINE";
  override readonly name = "EngineError";
}
