/**
 * Recovery in simulated worlds: whole runs of all kinds, led as `troupe train` leads them, each with faults of its own, and
 * what a run promises in all of them. The suite lives a few. Ten thousand, in the background:
 *
 *     TROUPE_RECOVERY_SEEDS=10000 nice -n 19 bun test test/actors/recovery/simulated.test.ts
 *
 * It lives them on all processors, 1000 at a time, and says of each piece when it is done what it has broken, and what
 * replays that; so whoever breaks it off goes on with `TROUPE_RECOVERY_SEEDS=4001-10000`. On one processor a thousand take
 * five minutes. `TROUPE_RECOVERY_SEED=17` lives that one, with what happened in it if it breaks a promise.
 */

import { expect, test } from "bun:test";
import { brokenSeeds, seedRange } from "../../sim/seeds.ts";
import { live } from "./sim/live.ts";

const SEEDS = seedRange(process.env.TROUPE_RECOVERY_SEEDS, 16);
const ONE = process.env.TROUPE_RECOVERY_SEED;
/** Real time, for all worlds; one takes some two hundred milliseconds. */
const LIMIT_MS = 60_000 + 3000 * (SEEDS.to - SEEDS.from + 1);

async function all(): Promise<void> {
  const program = "test/actors/recovery/sim/live.ts";
  expect(await brokenSeeds({ program, seeds: SEEDS, patienceMs: 120_000 })).toBe("");
}

async function one(seed: number): Promise<void> {
  const { lines, breaches } = await live(seed, true);
  if (breaches.length > 0) console.log(lines?.join("\n"));
  expect(breaches).toEqual([]);
}

if (ONE === undefined) {
  test(`disturbed runs ${SEEDS.from} to ${SEEDS.to} end as if nothing had been done to them`, all, LIMIT_MS);
} else test(`the disturbed run of seed ${ONE}`, () => one(Number(ONE)));

test("a connection between two devices is lost: nobody is, and the run is set up again", async () => {
  const harm = { kind: "cut", other: 1 } as const;
  const { breaches, lost } = await live(2022, false, [{ when: { afterMs: 60 }, who: 0, what: harm }]);
  expect(breaches).toEqual([]);
  expect(lost).toEqual([[]]);
});

test("two devices do not reach each other for a minute: the run goes on without one of them", async () => {
  const harm = { kind: "block", other: 1, ms: 60_000 } as const;
  const { breaches, lost } = await live(2022, false, [{ when: { afterMs: 60 }, who: 0, what: harm }]);
  expect(breaches).toEqual([]);
  expect(lost).toHaveLength(1);
  expect(["device-0", "device-1"]).toContain(lost[0]![0]!);
});

test("the same seed is the same run, event by event", async () => {
  expect((await live(2022)).digest).toBe((await live(2022)).digest);
});
