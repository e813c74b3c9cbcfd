import { expect, test } from "bun:test";
import { openMeter, readingText } from "../../../actors/energy/meter.ts";
import { VirtualClock } from "../../../runtime/index.ts";
import {
  type MissingSensor,
  PowerError,
  type PowerScope,
  type PowerSensor,
  type PowerSource,
} from "../../../runtime/platform/power-sensor.ts";

const POWER = { idleWatts: 2, busyWatts: 6, sentJoulesPerByte: 1e-6, receivedJoulesPerByte: 1e-6 };
const NOTHING = { busyMs: 0, sentBytes: 0, receivedBytes: 0 };
const none: MissingSensor = { source: "rapl", reason: "there is none" };

function sensor(source: PowerSource, scope: PowerScope, joules: () => number) {
  const counts = { released: 0 };
  const made: PowerSensor = {
    ...{ source, scope, what: `the ${scope}` },
    joules: async () => joules(),
    release: async () => {
      counts.released++;
    },
  };
  return { made, counts };
}

function meter(sensors: readonly (PowerSensor | MissingSensor)[], clock = new VirtualClock()) {
  return { clock, opened: openMeter({ sensors, clock, power: POWER }) };
}

test("without a sensor the model says it, and that it is the model", async () => {
  const { clock, opened } = meter([none]);
  const energy = await opened;
  await clock.advance(10_000);
  const reading = await energy.read({ busyMs: 1000, sentBytes: 6e5, receivedBytes: 4e5 });
  expect(reading).toEqual({
    ...{ joules: 25, measured: false, sources: ["model"], scopes: ["device"], what: "2 W idle, 6 W busy" },
  });
  expect(readingText(reading)).toBe("25.0 J modelled (2 W idle, 6 W busy)");
  expect(energy.missing).toEqual([none]);
  await energy.release();
});

test("parts are added up", async () => {
  const [cpu, gpu] = [sensor("rapl", "processor", () => 1000), sensor("nvidia", "gpu", () => 500)];
  const energy = await meter([cpu.made, gpu.made]).opened;
  const reading = await energy.read(NOTHING);
  expect(reading).toMatchObject({ joules: 1500, measured: true, scopes: ["processor", "gpu"] });
  expect(readingText(reading)).toBe("1.50 kJ measured by rapl and nvidia (the processor; the gpu)");
  await energy.release();
  expect([cpu.counts.released, gpu.counts.released]).toEqual([1, 1]);
});

test("a sensor of the whole device is used alone, and the others are given back", async () => {
  const [cpu, all] = [sensor("rapl", "processor", () => 10), sensor("battery", "device", () => 30)];
  const energy = await meter([cpu.made, all.made]).opened;
  expect(await energy.read(NOTHING)).toMatchObject({ joules: 30, sources: ["battery"] });
  expect(energy.missing).toEqual([{ source: "rapl", reason: "battery measures all of the device" }]);
  expect(cpu.counts.released).toBe(1);
  await energy.release();
  expect(all.counts.released).toBe(1);
});

test("when a sensor fails the model stands in for all the time, and stays", async () => {
  let broken = false;
  const { made } = sensor("battery", "device", () => {
    if (broken) throw new PowerError("the battery is not discharging but charging");
    return 99;
  });
  const { clock, opened } = meter([made]);
  const energy = await opened;
  await clock.advance(1000);
  expect(await energy.read(NOTHING)).toMatchObject({ joules: 99, measured: true });
  broken = true;
  expect(await energy.read(NOTHING)).toMatchObject({ joules: 2, measured: false });
  broken = false;
  expect(await energy.read(NOTHING)).toMatchObject({ joules: 2, measured: false });
  expect(energy.missing).toEqual([
    { source: "battery", reason: "the battery is not discharging but charging" },
  ]);
  await energy.release();
});
