import { beforeEach, describe, expect, test } from "bun:test";
import { EngineError } from "../../../../nn/engine/engine.ts";
import { ALIGNMENT, type Allocation } from "../../../../nn/engine/memory.ts";
import { Heap } from "../../../../nn/engine/web/heap.ts";
import { Chance } from "../operator-cases.ts";

const ARENA = 64 * 2 ** 20;

describe("the heap of tensors", () => {
  let memory: WebAssembly.Memory;
  /** Blocks that were taken and not given back, by address. */
  let blocks: Map<number, number>;
  let heap: Heap;
  beforeEach(() => {
    memory = new WebAssembly.Memory({ initial: 1, maximum: 8192, shared: true });
    blocks = new Map();
    heap = new Heap({
      memory,
      // Blocks need not be aligned to cache lines.
      take(bytes) {
        const address = memory.buffer.byteLength + 8;
        try {
          memory.grow(Math.ceil((bytes + 8) / 65536));
        } catch {
          return 0;
        }
        blocks.set(address, bytes);
        return address;
      },
      give: (address) => blocks.delete(address),
    });
  });
  const spanOf = ({ tensor: { bytes } }: Allocation) => [
    bytes.byteOffset,
    bytes.byteOffset + bytes.byteLength,
  ];

  test("tensors are aligned, zero-filled, and share an arena", () => {
    const [a, b] = [heap.allocate("f32", [3]), heap.allocate("i8", [100])];
    for (const { tensor } of [a, b]) expect(tensor.bytes.byteOffset % ALIGNMENT).toBe(0);
    a.tensor.bytes.fill(255);
    a.free();
    expect(heap.allocate("f32", [3]).tensor.bytes.every((byte) => byte === 0)).toBe(true);
    expect(blocks.size).toBe(1);
    expect(b.tensor.bytes.buffer).toBeInstanceOf(SharedArrayBuffer);
  });

  test("a tensor larger than an arena has one of its own, which is given back", () => {
    const small = heap.allocate("f32", [1]);
    const large = heap.allocate("f32", [ARENA / 4 + 1]);
    expect(blocks.size).toBe(2);
    expect(heap.reserved).toBeGreaterThan(2 * ARENA);
    small.free();
    large.free();
    expect(blocks.size).toBe(1);
  });

  test("views stay valid when the heap grows", () => {
    const first = heap.allocate("f32", [1]).tensor.f32();
    heap.allocate("f32", [ARENA / 4]);
    first[0] = 5;
    expect(new Float32Array(memory.buffer, first.byteOffset, 1)[0]).toBe(5);
  });

  test("live tensors never overlap, and freed neighbours become one", () => {
    const chance = new Chance(11);
    const live: Allocation[] = [];
    for (let i = 0; i < 400; i++) {
      if (live.length > 0 && chance.int(0, 2) === 0)
        live.splice(chance.int(0, live.length - 1), 1)[0]!.free();
      else live.push(heap.allocate("u8", [chance.int(0, 3000)]));
      const spans = live.map(spanOf).sort(([a], [b]) => a! - b!);
      spans.forEach(([start], j) => {
        if (j > 0) expect(start!).toBeGreaterThanOrEqual(spans[j - 1]![1]!);
      });
    }
    for (const one of live) one.free();
    // All in one piece again: a tensor of the arena's size fits.
    heap.allocate("u8", [ARENA]);
    expect(blocks.size).toBe(1);
  });

  test("says so when there is no memory", () => {
    expect(() => heap.allocate("f32", [2 ** 29])).toThrow(EngineError);
    expect(() => heap.allocate("f32", [2 ** 29])).toThrow(/f32\[536870912\].*4 GiB/);
    heap.allocate("f32", [1]);
  });
});
