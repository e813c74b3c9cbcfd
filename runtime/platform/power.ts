/** The sensors of energy that this machine has, opened; what is made of them is the business of whoever asks. */

import type { Clock } from "../clock.ts";
import { startChild } from "./children.ts";
import { files } from "./files.ts";
import { openBattery } from "./power-battery.ts";
import { openJetson } from "./power-jetson.ts";
import { openNvidia } from "./power-nvidia.ts";
import { openRapl } from "./power-rapl.ts";
import {
  type MissingSensor,
  type OpenSensor,
  POWER_SOURCES,
  type PowerSensor,
  type PowerSource,
  type PowerWorld,
} from "./power-sensor.ts";

const OPEN: Readonly<Record<PowerSource, OpenSensor>> = {
  jetson: openJetson,
  battery: openBattery,
  rapl: openRapl,
  nvidia: openNvidia,
};

/** The world of this machine. */
export function powerWorld(clock: Clock): PowerWorld {
  return { clock, files, startChild };
}

/** Opens all sensors that the machine has; in the order of `POWER_SOURCES`. */
export function openPowerSensors(world: PowerWorld): Promise<(PowerSensor | MissingSensor)[]> {
  return Promise.all(POWER_SOURCES.map((source) => OPEN[source](world)));
}
