/**
 * What an engine is made of behind its interface: a backend compiles, binds and runs, by number, in the thread
 * it lives in. `HostEngine` keeps the books on the caller's side; `worker.ts` carries a backend across a thread.
 *
 * A backend is told everything in order and may answer later; it does one thing after the other. Identifiers are
 * chosen by the caller, so that nothing has to wait for an answer before it names what it made.
 */

import type { DType, Shape } from "../../protocols/tensor.ts";
import type { CompileOptions, OperatorTime, Place } from "./engine.ts";

/** An engine's tensor as a backend sees it. */
export interface BackendTensor {
  /** The same for the same tensor, wherever it is bound. */
  readonly id: number;
  readonly place: Place;
  readonly dtype: DType;
  readonly shape: Shape;
  readonly bytes: Uint8Array;
}

/** A named value tied to memory. The bytes are borrowed until the binding is released. */
export interface BoundTensor extends BackendTensor {
  readonly name: string;
}

type Answer<T> = T | Promise<T>;

/** `Model` is a `Graph` on the caller's side and in the reference engine, `.onnx` bytes for the ONNX runtimes. */
export interface Backend<Model> {
  compile(executable: number, model: Model, options: CompileOptions): Answer<void>;
  createBinding(
    binding: number,
    executable: number,
    feeds: readonly BoundTensor[],
    fetches: readonly BoundTensor[],
  ): Answer<void>;
  /** Runs once; milliseconds spent in kernels. */
  run(binding: number): Answer<number>;
  profile(executable: number): Answer<readonly OperatorTime[]>;
  releaseBinding(binding: number): Answer<void>;
  releaseExecutable(executable: number): Answer<void>;
  /** Releases everything that is left. Nothing is called afterwards. */
  close(): Answer<void>;
}

/** A backend whose kernels do not reach the caller's memory. */
export interface DeviceBackend<Model> extends Backend<Model> {
  /** Carries the caller's bytes to the device. */
  writeTensor(tensor: BackendTensor): Answer<void>;
  /** Carries the device's bytes to the caller's. */
  readTensor(tensor: BackendTensor): Answer<void>;
  /** Makes it all zero on the device. */
  clearTensor(tensor: BackendTensor): Answer<void>;
  /** Copies on the device; both are of one type. */
  copyTensor(from: BackendTensor, to: BackendTensor): Answer<void>;
  /** The last binding that used the tensor has been released, and its owner has. */
  releaseTensor(id: number): Answer<void>;
}
