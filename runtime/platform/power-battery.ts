/**
 * What the whole device takes out of its battery, as Linux' power supply class says it (Documentation/power/
 * power_supply_class.rst): microwatts, or microamperes and microvolts. Only while it discharges: on mains the battery's
 * current says nothing of what the device takes.
 */

import { FileError } from "./files.ts";
import { integer, listMaybe, PowerIntegral, readMaybe, readText, Sampling } from "./power-sampling.ts";
import { type OpenSensor, PowerError, type PowerWorld } from "./power-sensor.ts";

const FOLDER = "/sys/class/power_supply";

/** Batteries' own measurement is renewed about once a second. */
const EVERY_MS = 1000;

/** Lines `POWER_SUPPLY_<KEY>=<value>`, by key in lower case. */
export function parseSupply(uevent: string): Readonly<Record<string, string>> {
  return Object.fromEntries(
    uevent.split("\n").flatMap((line) => {
      const [, key, value] = /^POWER_SUPPLY_([^=]+)=(.*)$/.exec(line.trim()) ?? [];
      return key === undefined ? [] : [[key.toLowerCase(), value!]];
    }),
  );
}

/** Watts that a battery gives, or why that is not known. Some drivers count current out of the battery as negative. */
export function batteryWatts(supply: Readonly<Record<string, string>>): number | string {
  const { status = "unknown" } = supply;
  if (status !== "Discharging") return `the battery is not discharging but ${status.toLowerCase()}`;
  const [power, current, voltage] = [supply.power_now, supply.current_now, supply.voltage_now].map(integer);
  if (power !== undefined) return Math.abs(power) / 1e6;
  if (current === undefined || voltage === undefined) return "the battery does not say its power";
  return (Math.abs(current) / 1e6) * (voltage / 1e6);
}

export const openBattery: OpenSensor = async ({ clock, files }) => {
  const paths: string[] = [];
  for (const name of await listMaybe(files, FOLDER)) {
    if ((await readMaybe(files, `${FOLDER}/${name}/type`)) !== "Battery") continue;
    const path = `${FOLDER}/${name}/uevent`;
    // A mouse's battery is not the device's.
    if (parseSupply((await readMaybe(files, path)) ?? "").scope !== "Device") paths.push(path);
  }
  if (paths.length === 0) return { source: "battery", reason: `there is no battery in ${FOLDER}` };

  const integral = new PowerIntegral();
  const look = async () => integral.add(await totalWatts(files, paths), clock.now());
  try {
    await look();
  } catch (error) {
    if (error instanceof PowerError || error instanceof FileError)
      return { source: "battery", reason: error.message };
    throw error;
  }
  const sampling = new Sampling(clock, EVERY_MS, look);
  return {
    source: "battery",
    scope: "device",
    what: "all that the battery gives",
    joules: async () => {
      await sampling.now();
      return integral.joules(clock.now());
    },
    release: () => sampling.release(),
  };
};

/** Of all batteries, of which one may rest while another discharges. */
async function totalWatts(files: PowerWorld["files"], paths: readonly string[]): Promise<number> {
  const watts: number[] = [];
  let reason = "";
  for (const path of paths) {
    const found = batteryWatts(parseSupply(await readText(files, path)));
    if (typeof found === "number") watts.push(found);
    else reason = found;
  }
  if (watts.length === 0) throw new PowerError(reason);
  return watts.reduce((sum, value) => sum + value, 0);
}
