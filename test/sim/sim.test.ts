/**
 * The simulated world as a test: thousands of small clusters, each with its own work and its own faults, and what
 * the runtime promises in all of them. `TROUPE_SIM_SEEDS=100000` lives more of them, `TROUPE_SIM_SEED=17` that one.
 */

import { expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import type { Report } from "./run.ts";
import { live } from "./schedule.ts";

const SEEDS = Number(process.env.TROUPE_SIM_SEEDS ?? 5000);
const ONE = process.env.TROUPE_SIM_SEED;
const PROCESSES = Math.max(1, Math.min(8, navigator.hardwareConcurrency));
const RUN = fileURLToPath(new URL("run.ts", import.meta.url));
/** Real time, for all worlds; one takes some ten milliseconds. */
const LIMIT_MS = 60_000 + 100 * SEEDS;

/** Lives the worlds `from` to `to` in a process of their own. */
async function range(from: number, to: number): Promise<Report[]> {
  const child = Bun.spawn([process.execPath, RUN, String(from), String(to)], {
    ...{ stdout: "pipe", stderr: "inherit", timeout: LIMIT_MS },
  });
  try {
    const lines = (await new Response(child.stdout).text()).trim().split("\n");
    const reports = lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as Report);
    if ((await child.exited) === 0) return reports;
    const seed = Number(lines.findLast((line) => !line.startsWith("{")) ?? from);
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
    .map(({ seed, breaches }) => `bun test/sim/run.ts ${seed}\n  ${breaches.slice(0, 5).join("\n  ")}`);
  expect(told.join("\n")).toBe("");
}

async function one(seed: number): Promise<void> {
  const { lines, breaches } = await live(seed, { verbose: true });
  if (breaches.length > 0) console.log(lines.join("\n"));
  expect(breaches).toEqual([]);
}

if (ONE === undefined) test(`${SEEDS} simulated worlds keep what the runtime promises`, all, LIMIT_MS);
else test(`the simulated world of seed ${ONE}`, () => one(Number(ONE)));

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
