import { expect, test } from "bun:test";
import { type DevicePower, energyOf, joulesOf } from "../../../actors/energy/model.ts";

const PI: DevicePower = {
  ...{ idleWatts: 3, busyWatts: 7, sentJoulesPerByte: 2e-6, receivedJoulesPerByte: 1e-6 },
};

test("a device takes idle watts all the time, more while it computes, and something for every byte", () => {
  const done = { elapsedMs: 10_000, busyMs: 2500, sentBytes: 1e6, receivedBytes: 3e6 };
  expect(joulesOf(PI, done)).toEqual({ joules: 45, idleJoules: 30, busyJoules: 10, networkJoules: 5 });
});

test("two stages on one device do not make it busier than all the time", () => {
  const done = { elapsedMs: 1000, busyMs: 1900, sentBytes: 0, receivedBytes: 0 };
  expect(joulesOf(PI, done).joules).toBe(7);
});

test("a step's energy is that of all its devices, the waiting ones too", () => {
  const still = { sentBytes: 0, receivedBytes: 0, power: PI };
  const { joulesPerStep, joulesPerSample, devices } = energyOf(2000, 4, [
    { device: "a", busyMs: 2000, ...still },
    { device: "b", busyMs: 0, ...still },
  ]);
  expect(devices.map(({ device, joules }) => [device, joules])).toEqual([
    ["a", 14],
    ["b", 6],
  ]);
  expect([joulesPerStep, joulesPerSample]).toEqual([20, 5]);
});
