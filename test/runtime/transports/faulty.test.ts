import { expect, test } from "bun:test";
import { VirtualClock } from "../../../runtime/clock.ts";
import { seededRandom } from "../../../runtime/random.ts";
import { type Faults, faulty } from "../../../runtime/transports/faulty.ts";
import { MemoryNetwork, memory } from "../../../runtime/transports/memory.ts";
import { connected } from "./ends.ts";

function bad(time: VirtualClock, seed: number, faults: Omit<Faults, "clock" | "random">) {
  return faulty(memory(new MemoryNetwork()), { clock: time, random: seededRandom(seed), ...faults });
}

test("connections are refused as often as asked, naming the address", async () => {
  const time = new VirtualClock();
  const transport = bad(time, 1, { refuse: 0.5 });
  let refused = 0;
  for (let i = 0; i < 200; i++) {
    await connected(time, transport).catch((error) => {
      expect(error).toMatchObject({ code: "CONNECT_FAILED", message: expect.stringContaining("memory://") });
      refused++;
    });
  }
  expect(refused).toBeGreaterThan(70);
  expect(refused).toBeLessThan(130);
});

test("a cut closes both ends once; what was under way is lost", async () => {
  const time = new VirtualClock();
  const { near, far } = await connected(time, bad(time, 1, { cut: 0.1, delayMs: 50 }));
  let written = 0;
  while (near.pipe.write(Uint8Array.of(written)) === 1) written++;
  await time.advance(1000);
  expect(written).toBeGreaterThan(0);
  expect(far.received).toEqual([]);
  expect(near.closes).toMatchObject([{ error: { code: "NODE_LOST" } }]);
  expect(far.closes).toHaveLength(1);
});

test("a truncated write arrives in part, then the close", async () => {
  const time = new VirtualClock();
  const { near, far } = await connected(time, bad(time, 3, { truncate: 1 }));
  expect(near.pipe.write(new Uint8Array(1000).fill(7))).toBe(0);
  await time.settle();
  expect(far.receivedBytes).toBeGreaterThan(0);
  expect(far.receivedBytes).toBeLessThan(1000);
  expect([near.closes.length, far.closes.length]).toEqual([1, 1]);
});

test("a corrupted write has one bit changed, and the writer's memory has not", async () => {
  const time = new VirtualClock();
  const { near, far } = await connected(time, bad(time, 5, { corrupt: 1 }));
  const bytes = new Uint8Array(100);
  near.pipe.write(bytes);
  await time.settle();
  const changed = far.received.filter((byte) => byte !== 0);
  expect(changed).toHaveLength(1);
  expect(Math.log2(changed[0]!) % 1).toBe(0);
  expect(bytes.every((byte) => byte === 0)).toBe(true);
});

test("delays keep the order of a pipe and not that between pipes", async () => {
  const time = new VirtualClock();
  const transport = bad(time, 2, { delayMs: 100 });
  const pairs = await Promise.all(Array.from({ length: 20 }, () => connected(time, transport)));
  for (const { near } of pairs) for (let i = 0; i < 10; i++) near.pipe.write(Uint8Array.of(i));
  await time.advance(1000);
  for (const { far } of pairs) expect(far.received).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const firsts = pairs.map(({ far }) => far.arrivals[0]![0]);
  expect(firsts).not.toEqual([...firsts].sort((a, b) => a - b));
});

test("a stall holds everything up for its time, an infinite one until the pipe is closed", async () => {
  const time = new VirtualClock();
  const stalled = await connected(time, bad(time, 1, { stall: 1, stallMs: 500 }));
  stalled.near.pipe.write(Uint8Array.of(1));
  await time.advance(1000);
  expect(stalled.far.arrivals).toEqual([[500, 1]]);

  const silent = await connected(time, bad(time, 1, { stall: 1, stallMs: Number.POSITIVE_INFINITY }));
  silent.near.pipe.write(Uint8Array.of(1));
  await time.advance(1e9);
  expect(silent.far.arrivals).toEqual([]);
  silent.near.pipe.close();
  await time.settle();
  expect([silent.near.closes.length, silent.far.closes.length]).toEqual([1, 1]);
});

test("the same seed gives the same faults", async () => {
  const run = async (seed: number) => {
    const time = new VirtualClock();
    const { near, far } = await connected(
      time,
      bad(time, seed, { corrupt: 0.3, delayMs: 20, stall: 0.1, stallMs: 30, cut: 0.005 }),
    );
    for (let i = 0; i < 100; i++) {
      near.pipe.write(new Uint8Array(10));
      await time.advance(1);
    }
    await time.advance(10_000);
    return { arrivals: far.arrivals, received: far.received, closes: far.closes.length };
  };
  expect(await run(1)).toEqual(await run(1));
  expect(await run(1)).not.toEqual(await run(2));
});
