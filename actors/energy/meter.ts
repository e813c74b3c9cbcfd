/**
 * The meter of a device: joules since it was opened, by the machine's own sensors where it has any, else by the model of
 * `model.ts`; and always which of the two.
 *
 * A sensor of the whole device is better than those of its parts; without one, processor and graphics cards are added
 * up, and what else the device takes is not in it. When a sensor fails, the model stands in for all the time since the
 * opening: half a measurement is none.
 */

import type { Clock } from "../../runtime/clock.ts";
import { FileError } from "../../runtime/platform/files.ts";
import {
  type MissingSensor,
  PowerError,
  type PowerScope,
  type PowerSensor,
  type PowerSource,
} from "../../runtime/platform/power-sensor.ts";
import { type DevicePower, type DeviceWork, joulesOf } from "./model.ts";

/** Joules, and where they are from. */
export interface EnergyReading {
  /** Since the meter was opened. */
  readonly joules: number;
  /** False when the model says it; whoever prints the joules prints that. */
  readonly measured: boolean;
  readonly sources: readonly (PowerSource | "model")[];
  /** What of the device is in it: all of it, or those parts only that something measures. */
  readonly scopes: readonly PowerScope[];
  /** What was measured, or what the model assumes, for people. */
  readonly what: string;
}

export interface EnergyMeter {
  /** Joules until now. @param done what the device has done since the meter was opened, for the model. */
  read(done: DeviceWork): Promise<EnergyReading>;
  /** For each kind of sensor, why it is not used; empty for one that is. */
  readonly missing: readonly MissingSensor[];
  /** Gives the sensors back. Idempotent. */
  release(): Promise<void>;
}

export interface MeterOptions {
  /** As `openPowerSensors` of runtime/platform opens them; the meter releases them. */
  readonly sensors: readonly (PowerSensor | MissingSensor)[];
  readonly clock: Clock;
  /** For the model. */
  readonly power: DevicePower;
}

/** Opens a meter over sensors that have just been opened. */
export async function openMeter({ sensors, clock, power }: MeterOptions): Promise<EnergyMeter> {
  const { used, missing } = await choose(sensors);
  const openedMs = clock.now();
  let failed = used.length === 0;

  const modelled = (done: DeviceWork): EnergyReading => {
    const { joules } = joulesOf(power, { elapsedMs: clock.now() - openedMs, ...done });
    const what = `${power.idleWatts} W idle, ${power.busyWatts} W busy`;
    return {
      joules,
      measured: false,
      sources: ["model"],
      scopes: ["device"],
      what,
    };
  };
  return {
    missing,
    async read(done) {
      if (failed) return modelled(done);
      try {
        const parts = await Promise.all(used.map((sensor) => sensor.joules()));
        const joules = parts.reduce((sum, part) => sum + part, 0);
        const what = used.map((sensor) => sensor.what).join("; ");
        const [sources, scopes] = [used.map(({ source }) => source), used.map(({ scope }) => scope)];
        return { joules, measured: true, sources, scopes, what };
      } catch (error) {
        if (!(error instanceof PowerError || error instanceof FileError)) throw error;
        failed = true;
        missing.push(...used.map(({ source }) => ({ source, reason: error.message })));
        return modelled(done);
      }
    },
    async release() {
      await Promise.all(used.map((sensor) => sensor.release()));
    },
  };
}

/** `12.3 J measured by rapl (package-0)`, `12.3 J modelled (2.7 W idle, 6.4 W busy)`. */
export function readingText({ joules, measured, sources, what }: EnergyReading): string {
  const amount = joules < 1000 ? `${joules.toPrecision(3)} J` : `${(joules / 1000).toPrecision(3)} kJ`;
  return measured
    ? `${amount} measured by ${sources.join(" and ")} (${what})`
    : `${amount} modelled (${what})`;
}

/** One sensor of the whole device, or all of its parts; the rest is released. */
async function choose(sensors: readonly (PowerSensor | MissingSensor)[]) {
  const there = sensors.filter((sensor): sensor is PowerSensor => "joules" in sensor);
  const missing = sensors.filter((sensor): sensor is MissingSensor => !("joules" in sensor));
  const whole = there.find(({ scope }) => scope === "device");
  const used = whole ? [whole] : there;
  for (const sensor of there) {
    if (used.includes(sensor)) continue;
    await sensor.release();
    missing.push({ source: sensor.source, reason: `${whole!.source} measures all of the device` });
  }
  return { used, missing };
}
