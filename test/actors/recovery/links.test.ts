/** Devices that are there and do not reach each other: no plan has them side by side, or the run goes on without one. */

import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import {
  mostCut,
  neighboursOf,
  type Pair,
  UNREACHABLE,
  unreachablePairs,
} from "../../../actors/recovery/links.ts";
import { VirtualClock } from "../../../runtime/clock.ts";
import { cut } from "../../runtime/world.ts";
import type { Cluster } from "../cluster.ts";
import { inTime } from "./in-time.ts";
import * as runs from "./runs.ts";

describe("neighbours", () => {
  test("are who a pipeline hands on to, once", () => {
    expect(neighboursOf(runs.handPlan({ stages: runs.PIPELINE }))).toEqual([
      ["0", "1"],
      ["1", "2"],
    ]);
  });

  test("are members of a stage among each other, and all of the next", () => {
    const pairs = neighboursOf(runs.handPlan(runs.SHARED_BY_DATA)).map((pair) => pair.join(""));
    expect(pairs.toSorted()).toEqual(["01", "02", "12"]);
  });

  test("that were measured not to reach each other either way are found, and who is in the most of these pairs", () => {
    const link = { latencyMs: 1, bytesPerMs: 1000 };
    const links = {
      0: { 1: link, 2: link, 3: UNREACHABLE },
      1: { 0: link, 2: UNREACHABLE, 3: link },
      2: { 0: link, 1: link, 3: UNREACHABLE },
      3: { 0: link },
    };
    const pairs = unreachablePairs(["0", "1", "2", "3"], { links });
    expect(pairs).toEqual([
      ["0", "3"],
      ["1", "2"],
      ["2", "3"],
    ]);
    expect(mostCut(pairs)).toBe("3");
    expect(mostCut([["1", "2"]])).toBe("2");
    expect(mostCut([])).toBeUndefined();
  });
});

/** The link is lost in the middle of them. */
const STEPS = 4;

describe("a run", () => {
  let clusters: { cluster: Cluster; clock?: VirtualClock }[] = [];
  afterEach(async () => {
    for (const { cluster, clock } of clusters) {
      if (clock) await inTime(clock, cluster.close());
      else await cluster.close();
    }
    clusters = [];
  });

  const isPair = (pair: Pair, from: string, to: string) =>
    pair.includes(from.slice(-1)) &&
    pair.includes(to.slice(-1)) &&
    from.startsWith("host") &&
    to.startsWith("host");

  test("is planned around a link that there is not from the beginning", async () => {
    const blocked: Pair = ["0", "1"];
    const reaches = (from: string, to: string) => !isPair(blocked, from, to);
    for (const [devices, strategy] of [
      [3, "pipeline"],
      [2, "data"],
    ] as const) {
      const cluster = await runs.started({ devices, reaches }, { strategy });
      clusters.push({ cluster });
      const plan = await cluster.scheduler.ask.plan();
      expect(neighboursOf(plan)).not.toContainEqual(["0", "1"]);
      expect(plan.predictedStepMs).toBeLessThan(60_000);
      if (strategy === "data") {
        expect(plan.devices[1]).toMatchObject({
          used: false,
          reason: "left out: it does not reach device-0",
        });
      }
      await cluster.scheduler.ask.deploy(cluster.initial);
      expect((await cluster.scheduler.ask.step(0, 0)).loss).toBeFinite();
      expect(cluster.told).toEqual([]);
    }
  });

  async function disturbed(healsAfterMs: number | null) {
    const clock = new VirtualClock(1_000_000);
    const left: string[] = [];
    let blocked: Pair = ["", ""];
    const cluster = await runs.started(
      { devices: 3, clock, patienceMs: 1000, reaches: (from, to) => !isPair(blocked, from, to) },
      { plan: runs.handPlan({ stages: runs.PIPELINE }) },
      { leftOut: (name, why) => left.push(`${name}: ${why}`) },
    );
    clusters.push({ cluster, clock });
    const { scheduler, initial, hosts } = cluster;
    await inTime(clock, scheduler.ask.plan());
    await inTime(clock, scheduler.ask.deploy(initial));
    for (let step = 0; step < STEPS; step++) {
      if (step === 2) {
        blocked = ["1", "2"];
        cut(hosts[1]!, hosts[2]!);
        if (healsAfterMs !== null) {
          clock.setTimer(() => {
            blocked = ["", ""];
          }, healsAfterMs);
        }
      }
      await inTime(clock, scheduler.ask.step(step, STEPS - 1));
    }
    return { ...cluster, clock, left, bits: await inTime(clock, runs.bitsOf(cluster)) };
  }

  let spared: Record<string, string>;
  beforeAll(async () => {
    spared = (await disturbed(0)).bits;
  });

  test("goes on without one of two that have not reached each other for the patience", async () => {
    const { bits, told, left, devices, clock } = await disturbed(null);
    expect(bits).toEqual(spared);
    expect(told).toMatchObject([{ lost: ["device-2"], fromCheckpoint: false }]);
    expect(told[0]).not.toHaveProperty("why");
    // Known from the first failure on, and waited for until then.
    expect(told[0]!.resumeMs).toBeWithin(1000, 2000);
    expect(left).toEqual(["device-2: it does not reach device-1, though both are there"]);
    // It is there, and holds nothing of the run any more.
    const held = async () => (await inTime(clock, devices[2]!.ask.usage())).tensorBytes;
    for (let tries = 0; (await held()) > 0 && tries < 100; tries++) await clock.advance(100);
    expect(await held()).toBe(0);
  });

  test("keeps both where the link comes back before", async () => {
    const { told, left, bits } = await disturbed(700);
    expect(left).toEqual([]);
    expect(told).toMatchObject([{ lost: [] }]);
    expect(told[0]!.why).toMatch(/^devices have lost each other: .* the cable is cut$/);
    expect(bits).toEqual(spared);
  });
});
