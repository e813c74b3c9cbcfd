import { afterEach, expect, test } from "bun:test";
import { Tensor } from "../../protocols/tensor.ts";
import { Actor } from "../../runtime/actor.ts";
import { MemoryPool } from "../../runtime/pool.ts";
import type { Ref } from "../../runtime/ref.ts";
import { World } from "./world.ts";

const KIB = 1024;

test("released memory serves again, for anything of its size", () => {
  const pool = new MemoryPool();
  const first = pool.allocate(100 * KIB);
  expect(first.byteLength).toBe(100 * KIB);
  const { buffer } = first;
  expect(pool.release(first)).toBe(true);
  const second = pool.allocate(98 * KIB);
  expect(second.byteLength).toBe(98 * KIB);
  expect(second.buffer).toBe(buffer);
  expect(pool.counts).toMatchObject({ lent: 1, kept: 0, keptBytes: 0, reused: 1 });
});

test("to release twice does not take memory from its next owner", () => {
  const pool = new MemoryPool();
  const first = pool.allocate(64 * KIB);
  pool.release(first);
  const second = pool.allocate(64 * KIB);
  expect(pool.release(first)).toBe(false);
  expect(pool.allocate(64 * KIB).buffer).not.toBe(second.buffer);
  expect(pool.release(new Uint8Array(64 * KIB))).toBe(false);
  expect(pool.release(new Uint8Array(second.buffer))).toBe(false); // not the view that was handed out
});

test("sizes waste a fifth at most, and every piece is aligned", () => {
  const pool = new MemoryPool();
  for (let bytes = 4 * KIB; bytes < 2 ** 24; bytes = Math.ceil(bytes * 1.13)) {
    const view = pool.allocate(bytes);
    expect(view.byteLength).toBe(bytes);
    expect(view.byteOffset).toBe(0);
    expect(view.buffer.byteLength).toBeLessThanOrEqual(bytes * 1.25);
    expect(view.buffer.byteLength % 64).toBe(0);
  }
});

test("what waits is bounded in bytes", () => {
  const pool = new MemoryPool({ keptBytes: 256 * KIB });
  const views = Array.from({ length: 10 }, () => pool.allocate(64 * KIB));
  for (const view of views) expect(pool.release(view)).toBe(true);
  expect(pool.counts).toMatchObject({ lent: 0, lentBytes: 0, kept: 4, keptBytes: 256 * KIB });
  pool.clear();
  expect(pool.counts).toMatchObject({ kept: 0, keptBytes: 0 });
});

test("small pieces are not of the pool, and memory that was transferred is no longer", () => {
  const pool = new MemoryPool();
  expect(pool.release(pool.allocate(100))).toBe(false);
  const moved = pool.allocate(8 * KIB);
  structuredClone(moved, { transfer: [moved.buffer as ArrayBuffer] });
  expect(pool.release(moved)).toBe(false);
  expect(pool.counts).toMatchObject({ lent: 0, lentBytes: 0, kept: 0 });
});

const world = new World();
afterEach(() => world.close());

test("a node receives into it, and an actor that releases what it received leaks nothing", async () => {
  const pool = new MemoryPool();
  class Sum extends Actor {
    async of(tensor: Tensor) {
      const sum = tensor.f32().reduce((a, b) => a + b, 0);
      pool.release(tensor);
      return sum;
    }
  }
  const server = world.node("server", { allocate: pool.allocate });
  await server.spawn(Sum, [], { name: "sum" });
  await server.listen("memory://pool");
  const client = world.node("client");
  const peer = await client.connect("memory://pool");
  const sum = (await client.lookup<Sum>(peer.id, "sum")) as Ref<Sum>;
  for (let i = 1; i <= 5; i++) {
    expect(await sum.ask.of(Tensor.f32([2 ** 18], new Float32Array(2 ** 18).fill(i)))).toBe(2 ** 18 * i);
  }
  expect(pool.counts).toMatchObject({ lent: 0, kept: 1, reused: 4 });
});
