/**
 * Tensors in the heap of the WebAssembly module, handed out by the thread that uses the engine.
 *
 * The module runs in a worker and only the worker can ask its allocator for memory; yet `allocate` answers at
 * once. So the caller's side keeps arenas: large blocks of the heap that the worker gave, divided here, first fit.
 * When they are full, the caller waits for the worker to give another; that is rare, and takes as long as the run
 * in flight. The heap is shared memory, whose pages never move: a view stays valid however the heap grows.
 */

import { byteLength, type DType, type Shape, Tensor } from "../../../protocols/tensor.ts";
import { EngineError } from "../engine.ts";
import { ALIGNMENT, type Allocation } from "../memory.ts";

/** Bytes of an arena; a larger tensor has one of its own. Untouched pages take no memory. */
const ARENA_BYTES = 64 * 2 ** 20;

/** The worker's allocator, as the caller's thread reaches it. */
export interface ArenaSource {
  /** The memory of the module. */
  readonly memory: WebAssembly.Memory;
  /** Waits for a block of this many bytes; its address, 0 where the heap cannot grow any more. */
  take(bytes: number): number;
  /** Gives a block back. */
  give(address: number): void;
}

interface Range {
  start: number;
  end: number;
}

interface Arena extends Readonly<Range> {
  /** The block as the worker gave it, before alignment. */
  readonly address: number;
  /** In order, never empty, never touching one another. */
  readonly free: Range[];
}

const aligned = (value: number) => Math.ceil(value / ALIGNMENT) * ALIGNMENT;

export class Heap {
  private readonly source: ArenaSource;
  private readonly arenas: Arena[] = [];

  constructor(source: ArenaSource) {
    this.source = source;
  }

  /** Bytes of all arenas. */
  get reserved(): number {
    return this.arenas.reduce((sum, { start, end }) => sum + end - start, 0);
  }

  /** @throws EngineError when WebAssembly's memory is exhausted. */
  allocate(dtype: DType, shape: Shape): Allocation {
    const size = byteLength(dtype, shape);
    const taken = Math.max(ALIGNMENT, aligned(size));
    const arena = this.arenas.find(({ free }) => free.some(({ start, end }) => end - start >= taken));
    const start = carve(arena ?? this.open(taken, `${dtype}[${shape}]`), taken);
    const bytes = new Uint8Array(this.source.memory.buffer, start, size).fill(0);
    const free = () => this.release({ start, end: start + taken });
    return { tensor: new Tensor(dtype, shape, bytes), free };
  }

  private open(atLeast: number, what: string): Arena {
    const bytes = Math.max(ARENA_BYTES, atLeast);
    const address = this.source.take(bytes + ALIGNMENT);
    if (address === 0) {
      throw new EngineError(
        `no memory for ${what}: WebAssembly's 4 GiB are used up; release tensors or use the native engine`,
      );
    }
    const start = aligned(address);
    const arena = { address, start, end: start + bytes, free: [{ start, end: start + bytes }] };
    this.arenas.push(arena);
    return arena;
  }

  private release(range: Range): void {
    const arena = this.arenas.find(({ start, end }) => start <= range.start && range.end <= end)!;
    const { free } = arena;
    const at = free.findIndex(({ start }) => start > range.start);
    const index = at < 0 ? free.length : at;
    const [before, after] = [free[index - 1], free[index]];
    const joinsAfter = after?.start === range.end;
    if (before?.end === range.start) {
      before.end = joinsAfter ? after!.end : range.end;
      if (joinsAfter) free.splice(index, 1);
    } else if (joinsAfter) after!.start = range.start;
    else free.splice(index, 0, { ...range });
    // One empty arena is kept for what comes next.
    const empty = ({ start, end, free }: Arena) => free[0]?.start === start && free[0].end === end;
    if (!empty(arena) || this.arenas.filter(empty).length === 1) return;
    this.arenas.splice(this.arenas.indexOf(arena), 1);
    this.source.give(arena.address);
  }
}

/** Takes the start of the first range that is long enough. */
function carve({ free }: Arena, bytes: number): number {
  const index = free.findIndex(({ start, end }) => end - start >= bytes);
  const range = free[index]!;
  const { start } = range;
  range.start += bytes;
  if (range.start === range.end) free.splice(index, 1);
  return start;
}
