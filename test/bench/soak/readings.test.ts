/** What is read of a process, and what is called growth. */

import { expect, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { growthOf, type ProcessReading, readProcess } from "../../../bench/soak/readings.ts";
import { seededRandom } from "../../../runtime/index.ts";

const random = seededRandom(1);

/** Ten seconds apart; noise of so much either way. */
function readings(count: number, value: (seconds: number) => number, noise = 0): ProcessReading[] {
  return Array.from({ length: count }, (_, i) => {
    const own = value(10 * i) + noise * (2 * random.next() - 1);
    return { seconds: 10 * i, resident: own, descriptors: own, sockets: own, threads: own, regions: own };
  });
}

test.skipIf(process.platform !== "linux")("an open descriptor is seen", () => {
  const before = readProcess(process.pid, 0)!;
  const files = Array.from({ length: 5 }, () => openSync(import.meta.path, "r"));
  const during = readProcess(process.pid, 1)!;
  for (const file of files) closeSync(file);
  expect(during.descriptors - before.descriptors).toBe(5);
  expect(before.resident).toBeGreaterThan(1e6);
  expect(before.threads).toBeGreaterThan(0);
  expect(before.regions).toBeGreaterThan(0);
});

test("a process that is gone has no readings", () => {
  expect(readProcess(2 ** 22 + 1, 0)).toBeNull();
});

test("a leak shows through the noise, and noise alone is none", () => {
  const leak = readings(360, (seconds) => 200e6 + 20e3 * seconds, 10e6);
  expect(growthOf(leak, "resident")).toMatchObject({ flat: false });
  expect(growthOf(leak, "resident")!.perHour / 72e6).toBeWithin(0.9, 1.1);
  expect(
    growthOf(
      readings(360, () => 200e6, 10e6),
      "resident",
    ),
  ).toMatchObject({ flat: true });
});

test("one descriptor that stays open every ten minutes is a leak", () => {
  expect(
    growthOf(
      readings(720, (seconds) => 40 + Math.floor(seconds / 600), 0),
      "descriptors",
    ),
  ).toMatchObject({
    flat: false,
  });
});

test("what a process fills while it warms up is none", () => {
  const warm = readings(360, (seconds) => 100e6 + Math.min(100e6, 100e3 * seconds), 1e6);
  expect(growthOf(warm, "resident")).toMatchObject({ flat: true });
});

test("a few readings say nothing", () => {
  expect(
    growthOf(
      readings(30, () => 1),
      "threads",
    ),
  ).toBeNull();
});
