import { expect, test } from "bun:test";
import { ClusterError, readCluster } from "../../../actors/scheduler/cluster.ts";
import { clusterProfile } from "../../../actors/scheduler/cluster-profile.ts";
import { linkBetween } from "../../../actors/scheduler/cost.ts";
import { DEVICE_CLASSES } from "../../../actors/scheduler/device-classes.ts";

const LAN = { default: { mbitPerS: 100, latencyMs: 1 } };
const read = (file: unknown) => readCluster(JSON.stringify(file));

test("devices have the names, the class and what replaces it", () => {
  const { devices } = read({
    devices: [
      { class: "raspberry-pi-4", count: 2, name: "pi" },
      { class: "laptop", memoryMiB: 4096, gflops: 100, idleWatts: 30, sentJoulesPerByte: 0 },
    ],
    links: LAN,
  });
  expect(devices.map(({ id }) => id)).toEqual(["pi-1", "pi-2", "laptop"]);
  expect(devices[0]).toEqual({
    id: "pi-1",
    name: "pi-1",
    class: "raspberry-pi-4",
    ...DEVICE_CLASSES["raspberry-pi-4"],
  });
  expect(devices[2]).toMatchObject({
    ...{
      memoryBytes: 2 ** 32,
      gflops: 100,
      power: { idleWatts: 30, busyWatts: 30, sentJoulesPerByte: 0, receivedJoulesPerByte: 7.5e-8 },
    },
  });
});

test("a pair's own link before that of their classes before the default, both ways unless written", () => {
  const { links } = read({
    devices: [
      { class: "raspberry-pi-4", count: 3, name: "pi" },
      { class: "laptop", name: "top" },
    ],
    links: {
      ...LAN,
      classes: [{ from: "laptop", to: "raspberry-pi-4", mbitPerS: 40, latencyMs: 4 }],
      pairs: [
        { from: "pi-1", to: "pi-2", mbitPerS: 1000 },
        { from: "top", to: "pi-1", mbitPerS: 8, latencyMs: 30 },
        { from: "pi-1", to: "top", mbitPerS: 2, latencyMs: 30 },
      ],
    },
  });
  const mbit = (from: string, to: string) => links[from]![to]!.bytesPerMs / 125;
  expect([mbit("pi-2", "pi-3"), mbit("pi-1", "pi-3")]).toEqual([100, 100]);
  expect([mbit("pi-1", "pi-2"), mbit("pi-2", "pi-1")]).toEqual([1000, 1000]);
  expect([mbit("top", "pi-2"), mbit("pi-2", "top")]).toEqual([40, 40]);
  expect([mbit("top", "pi-1"), mbit("pi-1", "top")]).toEqual([8, 2]);
  expect(links["pi-2"]!.top).toEqual({ bytesPerMs: 5000, latencyMs: 4 });
});

test("churn: events by time, and rates", () => {
  const { churn } = read({
    devices: [{ class: "phone", count: 2 }],
    links: LAN,
    churn: {
      events: [
        { device: "phone-1", atS: 60, what: "join" },
        { device: "phone-1", atS: 1.5, what: "leave" },
      ],
      rates: { leavesPerHour: 2, joinsPerHour: 6, seed: 7 },
    },
  });
  expect(churn.events.map(({ atMs, what }) => [atMs, what])).toEqual([
    [1500, "leave"],
    [60_000, "join"],
  ]);
  expect(churn.rates).toEqual({ leavesPerHour: 2, joinsPerHour: 6, seed: 7 });
  expect(read({ devices: [{ class: "phone" }] }).churn).toEqual({ events: [], rates: null });
});

const pi = { class: "raspberry-pi-4" };
const two = { devices: [{ ...pi, count: 2, name: "pi" }] };

test.each([
  [
    "an unknown class",
    { devices: [{ class: "abacus" }] },
    'devices[0] is of class "abacus", known are raspberry-pi-4,',
  ],
  ["no class", { devices: [{ name: "a" }] }, 'devices[0] has no "class", a text is needed'],
  ["no devices", { devices: [] }, "the cluster has no devices, at least 1 is needed"],
  ["no list of devices", { devices: {} }, "the cluster file: devices is {}, a list is needed"],
  ["a list", [], "the cluster file is not an object"],
  [
    "two of a name",
    { devices: [pi, pi], links: LAN },
    "two devices are called raspberry-pi-4: give devices[1] another name",
  ],
  [
    "too many",
    {
      devices: [
        { ...pi, count: 9999 },
        { ...pi, count: 2 },
      ],
    },
    "devices[1] makes 10001 devices, 10000 are the most",
  ],
  [
    "half a device",
    { devices: [{ ...pi, count: 0.5 }] },
    "devices[0]: count is 0.5, a whole number from 1 up is needed",
  ],
  [
    "a negative number",
    { devices: [{ ...pi, idleWatts: -1 }] },
    "devices[0]: idleWatts is -1, a number from 0 up is needed",
  ],
  ["no speed", { devices: [{ ...pi, gflops: 0 }] }, "devices[0]: gflops is 0, a number above 0 is needed"],
  [
    "idle above busy",
    { devices: [{ ...pi, idleWatts: 9, busyWatts: 8 }] },
    "devices[0] draws 8 W busy and 9 W idle: busy is the more",
  ],
  [
    "a misspelt field",
    { devices: [{ ...pi, memory: 1 }] },
    'devices[0] has a field "memory", known are class, count, name,',
  ],
  ["no link", two, 'there is no link from pi-1 to pi-2: write one, or a "default" in links'],
  [
    "a link without a rate",
    { ...two, links: { default: { latencyMs: 1 } } },
    'links.default has no "mbitPerS", a number above 0 is needed',
  ],
  [
    "a link of nobody",
    { ...two, links: { ...LAN, pairs: [{ from: "pi-1", to: "pi-9", mbitPerS: 1 }] } },
    'links.pairs[0] names device "pi-9", which the cluster does not have',
  ],
  [
    "a link of no class",
    { ...two, links: { ...LAN, classes: [{ from: "pi", to: "phone", mbitPerS: 1 }] } },
    'links.classes[0] names class "pi", which there is not',
  ],
  [
    "two links of a pair",
    { ...two, links: { pairs: [1, 2].map((mbitPerS) => ({ from: "pi-1", to: "pi-2", mbitPerS })) } },
    "links.pairs[1] is a second link from pi-1 to pi-2",
  ],
  [
    "an unknown leaver",
    { ...two, links: LAN, churn: { events: [{ device: "x", what: "leave", atS: 1 }] } },
    'churn.events[0] names device "x", which the cluster does not have',
  ],
  [
    "an event of another kind",
    { ...two, links: LAN, churn: { events: [{ device: "pi-1", what: "go", atS: 1 }] } },
    'churn.events[0]: what is "go", not leave or join',
  ],
])("%s is named", (_, file, message) => {
  expect(() => read(file)).toThrow(ClusterError);
  expect(() => read(file)).toThrow(message);
});

test("text that is no JSON is named", () => {
  expect(() => readCluster("{")).toThrow("the cluster file is not JSON: ");
});

test("times follow from operations, or from bytes where those take longer", () => {
  const cluster = read({
    devices: [
      { ...pi, gflops: 10, memoryGBps: 5 },
      { ...pi, name: "fast", gflops: 40, memoryGBps: 5 },
    ],
    links: LAN,
  });
  const profile = clusterProfile(cluster, [
    { flops: 1e9, parameterBytes: 1e6, stashBytes: 1e6 },
    { flops: 0, parameterBytes: 1e8, stashBytes: 0 },
  ]);
  expect(profile.devices["raspberry-pi-4"]).toEqual({
    forwardMs: [100, 20],
    backwardMs: [200, 40],
    stepMs: [1.4, 140],
  });
  expect(profile.devices.fast!.forwardMs).toEqual([25, 20]);
  expect(linkBetween(profile, "fast", "raspberry-pi-4")).toEqual({ bytesPerMs: 12_500, latencyMs: 1 });
});

test("thousands of devices are read at once", () => {
  const { devices, links } = read({
    devices: [
      { class: "phone", count: 5000 },
      { class: "laptop", count: 5000 },
    ],
    links: {
      classes: [
        { from: "phone", to: "phone", mbitPerS: 50 },
        { from: "phone", to: "laptop", mbitPerS: 50 },
        { from: "laptop", to: "laptop", mbitPerS: 50 },
      ],
    },
  });
  expect(devices).toHaveLength(10_000);
  expect(links["phone-1"]).toBe(links["phone-2"]!);
});
