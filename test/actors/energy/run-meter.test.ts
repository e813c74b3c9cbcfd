/** What a run's meter makes of devices that come while the run goes on. */

import { expect, test } from "bun:test";
import type { Device, DeviceDescription } from "../../../actors/device.ts";
import { RunMeter } from "../../../actors/energy/run-meter.ts";
import { DEVICE_CLASSES } from "../../../actors/scheduler/device-classes.ts";
import type { Ref } from "../../../runtime/index.ts";

/** A device on which nothing measures, or a sensor that draws a joule for each time it is read. */
function device(sensor = false): Ref<Device> {
  let joules = 0;
  const ask = {
    openMeter: async () => [],
    readMeter: async () => (sensor ? { joules: ++joules, measured: true, sources: ["rapl"] } : null),
    closeMeter: async () => {},
  };
  return { ask } as unknown as Ref<Device>;
}

const on = (host: string): DeviceDescription => ({
  ...{ name: host, host, cores: 1, memoryBytes: 0, engine: "reference", class: "laptop", pid: 0 },
});
const { idleWatts, busyWatts } = DEVICE_CLASSES.laptop.power;
const joules = (busyMs: number, elapsedMs: number) =>
  (busyWatts * busyMs + idleWatts * (elapsedMs - busyMs)) / 1000;

test("a machine that comes counts from then on, a device on one that is there counts with it", async () => {
  const meter = await RunMeter.open([device()], [{ id: "0", ...on("desk") }]);
  await meter.resume();
  meter.took(100, [[0, 40]]);
  await meter.join(1, device(), on("desk"));
  await meter.join(2, device(), on("phone"));
  meter.took(100, [
    [0, 10],
    [1, 20],
    [2, 50],
    [2, 30],
  ]);
  await meter.pause();
  const { joules_per_step, from, what } = meter.energy()!;
  expect(joules_per_step).toBeCloseTo((joules(70, 200) + joules(80, 100)) / 2, 6);
  expect([from, what]).toEqual(["modelled", ["laptop", "laptop"]]);
  await meter.close();
});

test("sensors of a machine that comes are read from then on", async () => {
  const meter = await RunMeter.open([device()], [{ id: "0", ...on("desk") }]);
  await meter.resume();
  await meter.join(1, device(true), on("server"));
  meter.took(100, [[1, 100]]);
  await meter.pause();
  const { joules_per_step, from } = meter.energy()!;
  expect(joules_per_step).toBeCloseTo(joules(0, 100) + 1, 6);
  expect(from).toBe("partly measured");
  await meter.close();
});

test("a device that is gone before its meter is open has drawn what its class does", async () => {
  const gone = device();
  Object.assign((gone as unknown as { ask: object }).ask, {
    openMeter: () => Promise.reject(new Error("it is gone")),
  });
  // The first device was lost before it said what it is.
  const meter = await RunMeter.open([device(), gone], [{ id: "1", ...on("desk") }]);
  await meter.resume();
  meter.took(100, [[1, 40]]);
  await meter.pause();
  expect(meter.energy()).toMatchObject({ from: "modelled", joules_per_step: joules(40, 100) });
  await meter.close();
});
