/**
 * Nodes on lines that damage, cut and hold up what they carry. What arrives may be wrong, for the bytes are no
 * longer what was sent; but every ask settles, nothing is left over, and once the line is good again all is well.
 */

import { expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import { VirtualClock } from "../../runtime/clock.ts";
import { NodeRuntime } from "../../runtime/node.ts";
import { seededRandom } from "../../runtime/random.ts";
import { faulty } from "../../runtime/transports/faulty.ts";
import { MemoryNetwork, memory } from "../../runtime/transports/memory.ts";
import { shaped } from "../../runtime/transports/shaped.ts";

const SEEDS = 150;
const PATIENCE_MS = 60_000;

class Echo extends Actor {
  async echo(value: unknown): Promise<unknown> {
    return value;
  }
}

async function noise(seed: number): Promise<void> {
  const random = seededRandom(seed);
  const clock = new VirtualClock(1_000_000);
  const chances = { corrupt: 0.02, cut: 0.01, truncate: 0.01, stall: 0.02 };
  const faults = { clock, random, refuse: 0.1, delayMs: 5, stallMs: 8000, ...chances };
  const network = memory(new MemoryNetwork());
  const line = shaped(network, { clock, random, bytesPerSecond: 1_000_000, latencyMs: 3, jitterMs: 2 });
  const [a, b] = ["a", "b"].map(
    (name) =>
      new NodeRuntime({
        ...{ name, id: name, clock, random, transports: [faulty(line, faults)], log: () => {} },
        heartbeat: { intervalMs: 1000, patienceMs: 5000 },
        // Its proof covers who says it is who: a damaged incarnation would shut the true node out.
        token: "a token",
      }),
  ) as [NodeRuntime, NodeRuntime];
  const address = await b.listen("memory://b");
  await b.spawn(Echo, [], { name: "echo" });

  let [asked, settled] = [0, 0];
  const ask = async () => {
    asked++;
    try {
      await a.connect(address);
      const echo = await a.lookup<Echo>("b", "echo");
      await echo?.ask.echo(new Uint8Array(random.integer(20_000)));
    } catch (error) {
      expect(error).toBeInstanceOf(Error);
    }
    settled++;
  };
  for (let i = 0; i < 20; i++) {
    void ask();
    await clock.advance(random.integer(200));
  }
  await clock.advance(PATIENCE_MS, () => settled === asked);

  // An answer that was damaged without a trace is missed until its connection ends; the next one is good.
  Object.assign(faults, { ...{ refuse: 0, corrupt: 0, truncate: 0, stall: 0 }, cut: 1 });
  await clock.advance(PATIENCE_MS);
  expect([seed, settled]).toEqual([seed, asked]);
  faults.cut = 0;
  let answer: unknown;
  void (async () => {
    await a.connect(address);
    answer = await (await a.lookup<Echo>("b", "echo"))!.ask.echo("good again");
  })();
  await clock.advance(PATIENCE_MS, () => answer !== undefined);
  expect([seed, answer]).toEqual([seed, "good again"]);
  const closed = Promise.all([a.close(), b.close()]);
  await clock.advance(PATIENCE_MS);
  await closed;
  expect([seed, clock.pending]).toEqual([seed, 0]);
}

test(`${SEEDS} noisy lines leave no ask unsettled and no node broken`, async () => {
  for (let seed = 1; seed <= SEEDS; seed++) await noise(seed);
});
