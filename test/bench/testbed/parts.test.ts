/** The arithmetic of a testbed, and what is refused. */

import { expect, test } from "bun:test";
import { bedOf, SCENARIOS } from "../../../bench/strategies/scenarios.ts";
import { SCENARIO_MODELS } from "../../../bench/strategies/scenarios-models.ts";
import { LEAST_SHARE, mountOf, quotaOf } from "../../../bench/testbed/cgroup.ts";
import { bucketOf, transferMs } from "../../../bench/testbed/link.ts";
import {
  bridgeName,
  groupName,
  namespaceName,
  ownerOf,
  portName,
  tapName,
} from "../../../bench/testbed/names.ts";
import { deviation, effectOf, SUM_OF_SHARES, sharesOf } from "../../../bench/testbed/shares.ts";

test("shares are as the speeds, below one processor, and corrected by what was measured", () => {
  const shares = sharesOf([3, 1]);
  expect(shares).toEqual([0.675, 0.225]);
  // The slow device does a fifth less than its share.
  const measured = [300, 80];
  expect(deviation([3, 1], measured)).toBeCloseTo(0.158, 3);
  const effect = effectOf(shares, measured);
  expect(effect[1]! / effect[0]!).toBeCloseTo(0.8);
  const again = sharesOf([3 / effect[0]!, 1 / effect[1]!]);
  expect(again[1]! / again[0]!).toBeCloseTo(shares[1]! / shares[0]! / 0.8);
  expect(again[0]! + again[1]!).toBeCloseTo(SUM_OF_SHARES);
  expect(deviation([3, 1], [300, 100])).toBe(0);
  expect(() => sharesOf([100, 1])).toThrow("the slowest device would get 0.9 % of a processor");
});

test("a quota is a millisecond at least, of a period that is short enough to be even", () => {
  expect(quotaOf(0.45)).toEqual({ periodUs: 9091, quotaUs: 4091 });
  expect(quotaOf(1)).toEqual({ periodUs: 20_000, quotaUs: 20_000 });
  expect(quotaOf(0.07)).toEqual({ periodUs: 14_286, quotaUs: 1000 });
  expect(quotaOf(LEAST_SHARE)).toEqual({ periodUs: 20_000, quotaUs: 1000 });
  expect(() => quotaOf(0.04)).toThrow("a share of 4.00 % of a processor cannot be had, 5 % is the least");
});

test("buckets hold one segment, and messages take the line's time", () => {
  expect(bucketOf(100)).toEqual({ bytes: 18_432, segmentBytes: 16_384 });
  expect(bucketOf(750).segmentBytes).toBeNull();
  expect(bucketOf(1000).bytes).toBe(131_072);
  expect(transferMs(1448, { megabits: 100, latencyMs: 3 })).toBe(3);
  expect(transferMs(1_448_000, { megabits: 100, latencyMs: 0 })).toBeCloseTo((1_514_000 - 18_432) / 12_500);
});

test("whose something is, its name tells", () => {
  const names = [groupName(7), namespaceName(7, 3), bridgeName(7), portName(7, 0), tapName(7, 12)];
  expect(names.map(ownerOf)).toEqual([7, 7, 7, 7, 7]);
  expect(["eth0", "tb", "tbx", "troupe-bed-x", "tunl0"].map(ownerOf)).toEqual(Array(5).fill(undefined));
  expect(
    Math.max(...[bridgeName, (owner: number) => portName(owner, 253)].map((f) => f(4_194_304).length)),
  ).toBeLessThan(16);
});

test("hierarchies are found where they are mounted together too", () => {
  const mounts = "tmpfs /sys tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0";
  expect(mountOf("cpu", mounts)).toBe("/sys/fs/cgroup/cpu,cpuacct");
  expect(() => mountOf("memory", mounts)).toThrow(
    "control groups of version 1 have no memory hierarchy here",
  );
});

test("scenarios can be had: names of their own, shares that are large enough", () => {
  const names = SCENARIOS.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const scenario of SCENARIOS) {
    const bed = bedOf(scenario);
    expect(new Set(bed.map(({ name }) => name)).size).toBe(bed.length);
    expect(Math.min(...sharesOf(bed.map(({ speed }) => speed)))).toBeGreaterThan(LEAST_SHARE);
  }
  expect(new Set(SCENARIOS.map(({ model }) => SCENARIO_MODELS[model].kind))).toEqual(
    new Set(["transformer", "cnn"]),
  );
});

test.each(Object.entries(SCENARIO_MODELS))(
  "%s learns from what a scenario gives it",
  async (_, { open, batch, microBatches }) => {
    const { model, feed } = await open(1);
    expect(batch % microBatches).toBe(0);
    const given = feed.training(0, 0);
    for (const { name, dtype, shape } of feed.values) {
      const input = model.graph.inputs.find((known) => known.name === name);
      expect(input).toMatchObject({ dtype, shape });
      expect(given[name]!.shape).toEqual(shape);
    }
  },
);
