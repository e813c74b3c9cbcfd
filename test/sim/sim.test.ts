/**
 * The simulated world as a test: thousands of small clusters, each with its own work and its own faults, and what
 * the runtime promises in all of them. `TROUPE_SIM_SEEDS=100000` lives more of them, `TROUPE_SIM_SEEDS=2001-4000` those,
 * and `TROUPE_SIM_SEED=17` that one.
 */

import { expect, test } from "bun:test";
import { live } from "./schedule.ts";
import { brokenSeeds, seedRange } from "./seeds.ts";

const SEEDS = seedRange(process.env.TROUPE_SIM_SEEDS, 1000);
const ONE = process.env.TROUPE_SIM_SEED;
/** Real time, for all worlds; one takes some ten milliseconds. */
const LIMIT_MS = 60_000 + 100 * (SEEDS.to - SEEDS.from + 1);

async function all(): Promise<void> {
  expect(await brokenSeeds({ program: "test/sim/run.ts", seeds: SEEDS, patienceMs: 60_000 })).toBe("");
}

async function one(seed: number): Promise<void> {
  const { lines, breaches } = await live(seed, { verbose: true });
  if (breaches.length > 0) console.log(lines.join("\n"));
  expect(breaches).toEqual([]);
}

if (ONE === undefined) {
  test(`simulated worlds ${SEEDS.from} to ${SEEDS.to} keep what the runtime promises`, all, LIMIT_MS);
} else test(`the simulated world of seed ${ONE}`, () => one(Number(ONE)));

test("the same seed is the same world, event by event; another is another", async () => {
  const digests = async () => {
    const all: string[] = [];
    for (let seed = 1; seed <= 30; seed++) all.push((await live(seed)).digest);
    return all;
  };
  const first = await digests();
  expect(await digests()).toEqual(first);
  expect(new Set(first).size).toBe(30);
});
