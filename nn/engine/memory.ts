/**
 * Memory for engine tensors: zero-filled, and aligned to cache lines so that vector kernels take their fast path.
 *
 * Shared memory lets a worker thread compute on the very bytes the caller reads and writes. Where an address can
 * be asked for (through a foreign function interface) the start is moved to the next 64-byte boundary; elsewhere
 * the runtime's own allocation is taken as it is.
 */

import { byteLength, type DType, type Shape, Tensor } from "../../protocols/tensor.ts";

/** One cache line, and the widest vector register of today's processors (AVX-512). */
export const ALIGNMENT = 64;

/** A tensor's memory, until it is freed: once, and after the last run that uses it. */
export interface Allocation {
  readonly tensor: Tensor;
  free(): void;
}

/** @throws EngineError when there is no memory left. */
export type Allocator = (dtype: DType, shape: Shape) => Allocation;

/** Allocates in memory that worker threads see too. `addressOf` gives the address a buffer starts at. */
export function sharedAllocator(addressOf: (buffer: SharedArrayBuffer) => number = () => 0): Allocator {
  return (dtype, shape) => {
    const size = byteLength(dtype, shape);
    const buffer = new SharedArrayBuffer(size + ALIGNMENT);
    const offset = (ALIGNMENT - (addressOf(buffer) % ALIGNMENT)) % ALIGNMENT;
    const tensor = new Tensor(dtype, shape, new Uint8Array(buffer, offset, size));
    // The platform's garbage collector does it.
    return { tensor, free: () => {} };
  };
}
