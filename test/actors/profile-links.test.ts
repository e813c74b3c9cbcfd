/** What a measured link is promised to say: each direction's own rate and latency, whatever bursts pass, in bounded time. */

import { afterEach, describe, expect, test } from "bun:test";
import { Device } from "../../actors/device.ts";
import { measureLine } from "../../actors/profile-line.ts";
import { linkRounds } from "../../actors/profile-links.ts";
import type { LinkProfile } from "../../actors/scheduler/cost.ts";
import { memory, type Ref, shaped } from "../../runtime/index.ts";
import { World } from "../runtime/world.ts";

const world = new World();
afterEach(() => world.close());

/** Two devices, each on a node whose line out is as fast as this, in Mbit/s and ms. */
async function devices(lines: readonly { readonly mbit: number; readonly latencyMs: number }[]) {
  const nodes = lines.map(({ mbit, latencyMs }, i) =>
    world.node(`node-${i}`, {
      transports: [
        shaped(memory(world.network), { clock: world.clock, bytesPerSecond: mbit * 125_000, latencyMs }),
      ],
    }),
  );
  const own = await Promise.all(
    nodes.map((node, i) => node.spawn(Device, [`device-${i}`, "reference"], { name: `device-${i}` })),
  );
  const there = await finished(
    nodes[1]!.listen("memory://1").then(async (address) => {
      const peer = await nodes[0]!.connect(address);
      const second = (await nodes[0]!.lookup<Device>(peer.id, "device-1"))!;
      const first = (await nodes[1]!.lookup<Device>(nodes[0]!.id, "device-0"))!;
      return [first, second] as const;
    }),
  );
  return { own, there };
}

/** Lets time pass until it is there. */
async function finished<T>(work: Promise<T>): Promise<T> {
  let done = false;
  void work.finally(() => {
    done = true;
  });
  while (!done) await world.clock.advance(60_000, () => done);
  return work;
}

const within = (value: number, expected: number, share: number) =>
  expect(Math.abs(value / expected - 1), `${value}, expected ${expected}`).toBeLessThan(share);

describe("a link between devices", () => {
  test.each([
    [10, 50],
    [1000, 100],
    [1, 1],
  ])("has its own rate in each direction: %d and %d Mbit/s", async (up, down) => {
    const { own, there } = await devices([
      { mbit: up, latencyMs: 5 },
      { mbit: down, latencyMs: 5 },
    ]);
    const measure = async (from: Ref<Device>, to: Ref<Device>): Promise<LinkProfile> => {
      const began = world.clock.now();
      const link = await finished(from.ask.measureLink(to));
      expect(world.clock.now() - began).toBeLessThan(2000);
      return link;
    };
    const out = await measure(own[0]!, there[1]);
    within(out.bytesPerMs, up * 125, 0.1);
    within(out.latencyMs, 5, 0.2);
    within((await measure(own[1]!, there[0])).bytesPerMs, down * 125, 0.1);
  });

  test("is full when a round trip is long", async () => {
    const { own, there } = await devices([
      { mbit: 500, latencyMs: 60 },
      { mbit: 500, latencyMs: 60 },
    ]);
    within((await finished(own[0]!.ask.measureLink(there[1]))).bytesPerMs, 62_500, 0.1);
  });
});

/** A line behind a token bucket, on a clock of its own. */
function bucket(bytesPerMs: number, burst: number, latencyMs: number) {
  let time = 0;
  let tokens = burst;
  let freeAt = 0;
  const waiting: { readonly at: number; readonly resolve: () => void }[] = [];
  const send = (bytes: number) => {
    const start = Math.max(time, freeAt);
    tokens = Math.min(burst, tokens + (start - freeAt) * bytesPerMs);
    const behind = Math.max(0, bytes - tokens) / bytesPerMs;
    tokens = Math.max(0, tokens - bytes);
    freeAt = start + behind;
    return new Promise<void>((resolve) => {
      waiting.push({ at: freeAt + 2 * latencyMs + 0.01, resolve });
    });
  };
  const run = async <T>(work: Promise<T>): Promise<T> => {
    let done = false;
    void work.then(() => {
      done = true;
    });
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      if (done) return work;
      waiting.sort((a, b) => a.at - b.at);
      const next = waiting.shift()!;
      time = Math.max(time, next.at);
      next.resolve();
    }
  };
  return { send, run, now: () => time };
}

test.each([
  [1250, 18_000],
  [1250, 128_000],
  [1250, 1_000_000],
  [12_500, 1_000_000],
  [125_000, 128_000],
])("what a burst lets pass is no rate: %d bytes a ms behind %d", async (bytesPerMs, burst) => {
  const line = bucket(bytesPerMs, burst, 1);
  const link = await line.run(measureLine(line.send, line.now));
  within(link.bytesPerMs, bytesPerMs, 0.1);
  within(link.latencyMs, 1, 0.1);
  expect(line.now()).toBeLessThan(2500);
});

describe("rounds of links", () => {
  test("have every pair once, and nobody twice at a time", () => {
    for (const count of [1, 2, 5, 8, 33]) {
      const rounds = linkRounds(Array.from({ length: count }, (_, i) => ({ host: `${i}` })));
      const pairs = rounds.flat().map(([a, b]) => `${Math.min(a, b)} ${Math.max(a, b)}`);
      expect(new Set(pairs).size).toBe((count * (count - 1)) / 2);
      expect(pairs.length).toBe(new Set(pairs).size);
      for (const round of rounds) expect(new Set(round.flat()).size).toBe(2 * round.length);
      expect(rounds.length).toBeLessThanOrEqual(count);
    }
  });

  test("have one pair at a time within a machine", () => {
    const rounds = linkRounds(["a", "a", "a", "a", "b"].map((host) => ({ host })));
    for (const round of rounds) {
      expect(round.filter(([x, y]) => x < 4 && y < 4).length).toBeLessThanOrEqual(1);
    }
    expect(rounds.flat().length).toBe(10);
  });
});
