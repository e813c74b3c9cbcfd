/**
 * Power of a Jetson board, by the INA3221 monitors on it: NVIDIA's own driver gives milliwatts of each rail (JetPack 4,
 * `rail_name_0` and `in_power0_input` of an iio device), Linux' driver millivolts and milliamperes (JetPack 5 on,
 * `in1_label`, `in1_input`, `curr1_input`; Documentation/hwmon/ina3221.rst). The rail that feeds the board is all of it,
 * where there is one (VDD_IN of TX2 and Xavier NX, POM_5V_IN of Nano); else the rails that there are, added up.
 */

import { FileError } from "./files.ts";
import { integer, listMaybe, PowerIntegral, readMaybe, readText, Sampling } from "./power-sampling.ts";
import { type OpenSensor, PowerError, type PowerWorld } from "./power-sensor.ts";

const HWMON = "/sys/class/hwmon";
const IIO = "/sys/bus/iio/devices";

const EVERY_MS = 200;

/** A rail, and the files whose product is its power in microwatts. */
export interface Rail {
  readonly name: string;
  readonly paths: readonly string[];
}

/** The rails to be added up: the board's input alone, where it is measured. */
export function chooseRails<R extends { readonly name: string }>(rails: readonly R[]): readonly R[] {
  const inputs = rails.filter(({ name }) => /(^|_)IN$/.test(name));
  return inputs.length > 0 ? inputs : rails;
}

/** Watts of a rail, of what its files hold: milliwatts, or millivolts and milliamperes. */
export function railWatts(texts: readonly string[]): number | undefined {
  const values = texts.map(integer);
  if (values.some((value) => value === undefined)) return undefined;
  return values.reduce<number>((product, value) => product * (value! / 1000), 1);
}

export const openJetson: OpenSensor = async ({ clock, files }) => {
  const found = [...(await hwmonRails(files)), ...(await iioRails(files))];
  const rails = chooseRails(found);
  if (rails.length === 0) {
    return { source: "jetson", reason: `there is no INA3221 monitor in ${HWMON} or ${IIO}` };
  }
  const integral = new PowerIntegral();
  const look = async () => {
    let watts = 0;
    for (const { name, paths } of rails) {
      const texts = await Promise.all(paths.map((path) => readText(files, path)));
      const own = railWatts(texts);
      if (own === undefined) throw new PowerError(`rail ${name} says "${texts.join(" ")}", not a number`);
      watts += own;
    }
    integral.add(watts, clock.now());
  };
  try {
    await look();
  } catch (error) {
    if (error instanceof PowerError || error instanceof FileError)
      return { source: "jetson", reason: error.message };
    throw error;
  }
  const sampling = new Sampling(clock, EVERY_MS, look);
  return {
    source: "jetson",
    scope: "device",
    what: `rail${rails.length > 1 ? "s" : ""} ${rails.map(({ name }) => name).join(", ")}`,
    joules: async () => {
      await sampling.now();
      return integral.joules(clock.now());
    },
    release: () => sampling.release(),
  };
};

async function hwmonRails(files: PowerWorld["files"]): Promise<Rail[]> {
  const rails: Rail[] = [];
  for (const entry of await listMaybe(files, HWMON)) {
    const folder = `${HWMON}/${entry}`;
    if ((await readMaybe(files, `${folder}/name`)) !== "ina3221") continue;
    for (const channel of [1, 2, 3]) {
      const name = await readMaybe(files, `${folder}/in${channel}_label`);
      // Channels that nothing is connected to are called NC.
      if (name === undefined || name === "NC") continue;
      rails.push({ name, paths: [`${folder}/in${channel}_input`, `${folder}/curr${channel}_input`] });
    }
  }
  return rails;
}

async function iioRails(files: PowerWorld["files"]): Promise<Rail[]> {
  const rails: Rail[] = [];
  for (const entry of await listMaybe(files, IIO)) {
    const folder = `${IIO}/${entry}`;
    if (!(await readMaybe(files, `${folder}/name`))?.startsWith("ina3221")) continue;
    for (const channel of [0, 1, 2]) {
      const name = await readMaybe(files, `${folder}/rail_name_${channel}`);
      if (name === undefined || name === "NC") continue;
      rails.push({ name, paths: [`${folder}/in_power${channel}_input`] });
    }
  }
  return rails;
}
