import { expect, test } from "bun:test";
import { VirtualClock } from "../../../runtime/clock.ts";
import { seededRandom } from "../../../runtime/random.ts";
import { MemoryNetwork, memory } from "../../../runtime/transports/memory.ts";
import { type Shape, shaped } from "../../../runtime/transports/shaped.ts";
import { connected } from "./ends.ts";

const clock = () => new VirtualClock(1000);
const line = (time: VirtualClock, shape: Omit<Shape, "clock">) =>
  shaped(memory(new MemoryNetwork()), { clock: time, ...shape });

test("bytes take their serialisation, then the latency; the next wait for the line", async () => {
  const time = clock();
  const { near, far } = await connected(time, line(time, { bytesPerSecond: 1000, latencyMs: 50 }));
  near.pipe.write(new Uint8Array(100)); // 100 ms of the line
  near.pipe.write(new Uint8Array(20));
  await time.advance(10_000);
  near.pipe.write(new Uint8Array(10));
  await time.advance(1000);
  expect(far.arrivals).toEqual([
    [1150, 100],
    [1170, 20],
    [11_060, 10],
  ]);
});

test("a large write arrives piece by piece, at the rate of the line", async () => {
  const time = clock();
  const { near, far } = await connected(time, line(time, { bytesPerSecond: 2_000_000, latencyMs: 5 }));
  expect(near.pipe.write(new Uint8Array(50_000))).toBe(50_000);
  await time.advance(15);
  expect(far.receivedBytes).toBe(20_000); // 10 ms of 2000 bytes, 5 ms on their way
  await time.advance(1000);
  expect(far.arrivals.at(-1)).toEqual([1030, 2000]);
});

test("throughput over a long way is the line's, exactly", async () => {
  const time = clock();
  const { near, far } = await connected(time, line(time, { bytesPerSecond: 1_000_000, latencyMs: 100 }));
  const total = 2_000_000;
  let sent = 0;
  const send = () => {
    while (sent < total) {
      const size = Math.min(total - sent, 100_000);
      const accepted = near.pipe.write(new Uint8Array(size));
      sent += accepted;
      if (accepted < size) return;
    }
  };
  near.onDrain = send;
  send();
  expect(sent).toBeLessThan(200_000); // What the line holds and 20 ms of queue; not everything.
  await time.advance(5000);
  expect(far.receivedBytes).toBe(total);
  expect(far.arrivals.at(-1)![0]).toBe(1000 + 2000 + 100);
});

test("each direction has the figures of its sender", async () => {
  const time = clock();
  const network = memory(new MemoryNetwork());
  const slow = shaped(network, { clock: time, bytesPerSecond: 1000 });
  const fast = shaped(network, { clock: time, latencyMs: 3 });
  const { near, far } = await connected(time, slow, fast);
  near.pipe.write(new Uint8Array(10));
  far.pipe.write(new Uint8Array(10));
  await time.advance(100);
  expect(far.arrivals).toEqual([[1010, 10]]);
  expect(near.arrivals).toEqual([[1003, 10]]);
});

test("connections have lines of their own, or share the transport's", async () => {
  const arrivals = async (shape: Omit<Shape, "clock">) => {
    const time = clock();
    const transport = line(time, { bytesPerSecond: 1000, ...shape });
    const pairs = [await connected(time, transport), await connected(time, transport)];
    for (const { near } of pairs) near.pipe.write(new Uint8Array(10));
    await time.advance(100);
    return pairs.map(({ far }) => far.arrivals[0]![0]);
  };
  expect(await arrivals({})).toEqual([1010, 1010]);
  expect(await arrivals({ line: "transport" })).toEqual([1010, 1020]);
});

test("jitter delays each piece by a share of it, repeatably, and nothing is overtaken", async () => {
  const run = async (seed: number) => {
    const time = clock();
    const shape = { latencyMs: 10, jitterMs: 8, random: seededRandom(seed) };
    const { near, far } = await connected(time, line(time, shape));
    for (let i = 0; i < 50; i++) {
      near.pipe.write(Uint8Array.of(i));
      await time.advance(1);
    }
    await time.advance(100);
    expect(far.received).toEqual(Array.from({ length: 50 }, (_, i) => i));
    return far.arrivals.map(([at]) => at);
  };
  const arrivals = await run(1);
  expect(arrivals).toEqual(await run(1));
  expect(arrivals).not.toEqual(await run(2));
  const late = arrivals.map((at, i) => at - (1000 + i));
  expect(Math.min(...late)).toBeGreaterThanOrEqual(10);
  expect(Math.max(...late)).toBeLessThanOrEqual(18);
  expect(new Set(late).size).toBeGreaterThan(5);
});

test("what was written before a close arrives in its time, then the close", async () => {
  const time = clock();
  const { near, far } = await connected(time, line(time, { bytesPerSecond: 1000, latencyMs: 5 }));
  near.pipe.write(new Uint8Array(10));
  near.pipe.close();
  expect(near.pipe.write(new Uint8Array(1))).toBe(0);
  await time.advance(100);
  expect(far.arrivals).toEqual([[1015, 10]]);
  expect(far.closes).toEqual([{ at: 1015, error: undefined }]);
  expect(near.closes).toEqual([{ at: 1000, error: undefined }]);
  expect(time.pending).toBe(0);
});

test("a pipe the other end has closed keeps nothing", async () => {
  const time = clock();
  const { near, far } = await connected(time, line(time, { bytesPerSecond: 1000 }));
  near.pipe.write(new Uint8Array(1000));
  far.pipe.close();
  await time.settle();
  expect(near.closes).toHaveLength(1);
  expect(time.pending).toBe(0);
});

test("figures that make no line are refused", () => {
  const time = clock();
  expect(() => line(time, { bytesPerSecond: 0 })).toThrow("bytesPerSecond is positive");
  expect(() => line(time, { latencyMs: -1 })).toThrow("not negative");
  expect(() => line(time, { jitterMs: 1 })).toThrow("needs random");
});
