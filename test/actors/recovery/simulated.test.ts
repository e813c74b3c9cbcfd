/**
 * Recovery in simulated worlds: runs of all kinds, each with faults of its own, and what a run promises in all of them.
 * `TROUPE_RECOVERY_SEEDS=10000` lives more of them, `TROUPE_RECOVERY_SEED=17` that one, with what happened in it.
 */

import { expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { live, type Report } from "./sim/live.ts";

const SEEDS = Number(process.env.TROUPE_RECOVERY_SEEDS ?? 16);
const ONE = process.env.TROUPE_RECOVERY_SEED;
const PROCESSES = Math.max(1, Math.min(8, navigator.hardwareConcurrency));
const LIVE = fileURLToPath(new URL("sim/live.ts", import.meta.url));
/** Real time, for all worlds; one takes some two hundred milliseconds. */
const LIMIT_MS = 60_000 + 3000 * SEEDS;

/** Lives the runs `from` to `to` in a process of their own. */
async function range(from: number, to: number): Promise<Report[]> {
  const child = Bun.spawn([process.execPath, LIVE, String(from), String(to)], {
    ...{ stdout: "pipe", stderr: "inherit", timeout: LIMIT_MS },
  });
  try {
    const lines = (await new Response(child.stdout).text()).trim().split("\n");
    const reports = lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as Report);
    if ((await child.exited) === 0) return reports;
    const seed = Number(lines.findLast((line) => !line.startsWith("{")) || from);
    return [...reports, { seed, breaches: ["it did not come to its end"] }];
  } finally {
    child.kill();
  }
}

async function all(): Promise<void> {
  const share = Math.ceil(SEEDS / PROCESSES);
  const shares = Array.from({ length: PROCESSES }, (_, i) => [i * share + 1, (i + 1) * share] as const);
  const broken = (await Promise.all(shares.map(([from, to]) => range(from, Math.min(to, SEEDS))))).flat();
  const told = broken
    .slice(0, 10)
    .map(({ seed, breaches }) => `bun test/actors/recovery/sim/live.ts ${seed}\n  ${breaches.join("\n  ")}`);
  expect(told.join("\n")).toBe("");
}

async function one(seed: number): Promise<void> {
  const { lines, breaches } = await live(seed, true);
  if (breaches.length > 0) console.log(lines.join("\n"));
  expect(breaches).toEqual([]);
}

if (ONE === undefined) test(`${SEEDS} disturbed runs end as if nothing had been done to them`, all, LIMIT_MS);
else test(`the disturbed run of seed ${ONE}`, () => one(Number(ONE)));

test.each([
  ["a connection between two devices is lost", { kind: "cut", other: 1 }],
  ["two devices do not reach each other for a minute", { kind: "block", other: 1, ms: 60_000 }],
] as const)("%s: nobody is, and the run is set up again", async (_, harm) => {
  const { breaches, recoveries } = await live(2008, false, [{ when: { afterMs: 60 }, who: 0, harm }]);
  expect(breaches).toEqual([]);
  expect(recoveries).toBe(1);
});

test("the same seed is the same run, event by event", async () => {
  expect((await live(2008)).digest).toBe((await live(2008)).digest);
});
