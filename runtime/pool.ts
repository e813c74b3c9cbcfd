/**
 * A pool of memory for received tensors: what is released serves again, without a page fault for every 4 KiB and
 * without work for the garbage collector. It is handed to a node as its `allocate`:
 *
 *     const pool = new MemoryPool();
 *     const node = new NodeRuntime({ name: "a", allocate: pool.allocate });
 *     …
 *     pool.release(tensor); // when a method has made its last use of a tensor it received
 *
 * A pipe within one process that passes memory on instead of copying it needs no pool and asks for none.
 *
 * To release is a favour, not a duty: memory that is not released is garbage like any other. To release twice, or
 * what is not of this pool, does nothing: a pool knows memory by the very view it handed out, and forgets the view
 * when it comes back.
 *
 * Memory comes in sizes of 4, 5, 6, 7, 8, 10, 12, 14, 16, … KiB, so at most a fifth is wasted, each in an
 * ArrayBuffer of its own, which engines place at multiples of 64 bytes (the width of a cache line and of the widest
 * vector registers). Smaller pieces are not worth keeping. Contents are whatever was there before.
 */

import type { Tensor } from "../protocols/tensor.ts";

/** Below a page an allocation costs less than the bookkeeping. */
const LEAST_BYTES = 4096;
const DEFAULT_KEPT_BYTES = 256 * 2 ** 20;

/** What a pool may keep. */
export interface PoolOptions {
  /** The most bytes that wait in the pool to serve again. Default 256 MiB. */
  readonly keptBytes?: number;
}

/** Where the memory of a pool is. */
export interface PoolCounts {
  /** Pieces handed out and not released; what nobody releases is counted for good. */
  readonly lent: number;
  /** Their sizes, rounded up as the pool does. */
  readonly lentBytes: number;
  /** Pieces that wait to serve again. */
  readonly kept: number;
  /** Their sizes; at most `PoolOptions.keptBytes`. */
  readonly keptBytes: number;
  /** Pieces that have served again. */
  readonly reused: number;
}

/** Memory that serves again, for received tensors. */
export class MemoryPool {
  private readonly mostKept: number;
  /** Pieces that wait, by their size. */
  private readonly free = new Map<number, ArrayBuffer[]>();
  /** Views that are out, and the size of their memory. Weak: a view that is dropped takes its memory along. */
  private readonly lent = new WeakMap<Uint8Array, number>();
  private readonly count = { lent: 0, lentBytes: 0, kept: 0, keptBytes: 0, reused: 0 };

  /** It holds no memory until something is released. */
  constructor(options: PoolOptions = {}) {
    this.mostKept = options.keptBytes ?? DEFAULT_KEPT_BYTES;
  }

  /** Memory of this many bytes; its contents are undefined. It may be kept, passed on, and dropped. */
  readonly allocate = (byteLength: number): Uint8Array => {
    if (byteLength < LEAST_BYTES) return new Uint8Array(byteLength);
    const size = sizeClass(byteLength);
    const again = this.free.get(size)?.pop();
    if (again) {
      this.count.reused++;
      this.count.kept--;
      this.count.keptBytes -= size;
    }
    const view = new Uint8Array(again ?? new ArrayBuffer(size), 0, byteLength);
    this.lent.set(view, size);
    this.count.lent++;
    this.count.lentBytes += size;
    return view;
  };

  /**
   * Gives memory back. Whoever releases makes no further use of it, and nobody else may.
   * @param memory a tensor that was received, or what `allocate` returned.
   * @returns whether it was taken: false for memory of another origin, released before, or given away since.
   */
  release(memory: Tensor | Uint8Array): boolean {
    const view = memory instanceof Uint8Array ? memory : memory.bytes;
    const size = this.lent.get(view);
    if (size === undefined) return false;
    this.lent.delete(view);
    this.count.lent--;
    this.count.lentBytes -= size;
    // Transferred to another thread since: the memory is there now.
    if (view.buffer.byteLength === 0) return false;
    if (this.count.keptBytes + size > this.mostKept) return true;
    const same = this.free.get(size);
    if (same) same.push(view.buffer as ArrayBuffer);
    else this.free.set(size, [view.buffer as ArrayBuffer]);
    this.count.kept++;
    this.count.keptBytes += size;
    return true;
  }

  /** Lets go of all that waits. */
  clear(): void {
    this.free.clear();
    this.count.kept = 0;
    this.count.keptBytes = 0;
  }

  /** Where its memory is now. */
  get counts(): PoolCounts {
    return { ...this.count };
  }
}

/** The next of four sizes between powers of two. */
function sizeClass(byteLength: number): number {
  const step = 2 ** Math.max(10, Math.floor(Math.log2(byteLength - 1)) - 2);
  return Math.ceil(byteLength / step) * step;
}
