import { expect, test } from "bun:test";
import { readCluster } from "../../../../actors/scheduler/cluster.ts";
import { churnEvents } from "../../../../actors/scheduler/simulate/churn-events.ts";

const HOUR_MS = 3_600_000;

function cluster(count: number, churn: unknown) {
  const devices = [{ class: "phone", name: "p", count }];
  return readCluster(JSON.stringify({ devices, links: { default: { mbitPerS: 10 } }, churn }));
}

test("named events are what there is without rates; who is away cannot leave", () => {
  const events = [
    { device: "p-1", what: "join", atS: 0.5 },
    { device: "p-1", what: "leave", atS: 1 },
    { device: "p-2", what: "leave", atS: 2 },
    { device: "p-1", what: "leave", atS: 3 },
    { device: "p-1", what: "join", atS: 4 },
    { device: "p-1", what: "leave", atS: 99 },
  ];
  expect(churnEvents(cluster(2, { events }), 10_000)).toEqual([
    { device: "p-1", what: "leave", atMs: 1000 },
    { device: "p-2", what: "leave", atMs: 2000 },
    { device: "p-1", what: "join", atMs: 4000 },
  ]);
  expect(churnEvents(cluster(2, undefined), 1e9)).toEqual([]);
});

test("rates are drawn into times, the same for the same seed, and come to what they say", () => {
  const rates = { leavesPerHour: 2, joinsPerHour: 6, seed: 5 };
  const drawn = (more: object = {}) =>
    churnEvents(cluster(200, { rates: { ...rates, ...more } }), 50 * HOUR_MS);
  const events = drawn();
  expect(drawn()).toEqual(events);
  expect(drawn({ seed: 6 })).not.toEqual(events);
  expect(events.every(({ atMs }, i) => i === 0 || atMs >= events[i - 1]!.atMs)).toBe(true);
  // A device is there three quarters of the time, and leaves twice an hour of that.
  const leaves = events.filter(({ what }) => what === "leave").length;
  expect(leaves / (200 * 50 * 0.75 * 2)).toBeCloseTo(1, 1);
  const one = events.filter(({ device }) => device === "p-7").map(({ what }) => what);
  expect(one.every((what, i) => what === (i % 2 === 0 ? "leave" : "join"))).toBe(true);
});

test("who has left by chance joins when the file says so", () => {
  const events = [{ device: "p", what: "join", atS: 7200 }];
  const drawn = churnEvents(cluster(1, { events, rates: { leavesPerHour: 1000, seed: 1 } }), 10 * HOUR_MS);
  expect(drawn.map(({ what }) => what)).toEqual(["leave", "join", "leave"]);
  expect(drawn[1]!.atMs).toBe(2 * HOUR_MS);
});

test("without joining, who has left stays away", () => {
  const events = churnEvents(cluster(50, { rates: { leavesPerHour: 10 } }), 100 * HOUR_MS);
  expect(events).toHaveLength(50);
});
