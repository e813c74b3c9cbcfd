/**
 * Energy of processors and their memory, by their own counters: Intel's Running Average Power Limit, which AMD's have
 * too, through Linux' powercap (Documentation/power/powercap/powercap.rst). A package contains its cores and its
 * graphics, so that only packages are counted, and memory, which has a zone of its own.
 *
 * Since CVE-2020-8694 only root may read the counters, unless the machine's owner says otherwise.
 */

import { FileError } from "./files.ts";
import { integer, listMaybe, readMaybe, readText, Sampling } from "./power-sampling.ts";
import { type OpenSensor, PowerError, type PowerWorld } from "./power-sensor.ts";

const FOLDER = "/sys/class/powercap";

/** At a kilowatt a counter of 65 kJ, the smallest there are, goes round in 65 seconds. */
const EVERY_MS = 20_000;

/** Microjoules between two readings of a counter that begins again at 0 behind `range`. */
export function countedMicrojoules(before: number, now: number, range: number): number {
  return now >= before ? now - before : now + range - before;
}

/** Whether a zone of this name is counted: the others are parts of those. */
export function isCountedZone(name: string): boolean {
  return name.startsWith("package") || name === "dram";
}

interface Zone {
  readonly name: string;
  readonly path: string;
  readonly range: number;
  last: number;
}

export const openRapl: OpenSensor = async ({ clock, files }) => {
  const zones: Zone[] = [];
  try {
    for (const entry of await listMaybe(files, FOLDER)) {
      if (!entry.startsWith("intel-rapl:")) continue;
      const folder = `${FOLDER}/${entry}`;
      const name = (await readMaybe(files, `${folder}/name`)) ?? "";
      if (!isCountedZone(name)) continue;
      const range = integer(await readMaybe(files, `${folder}/max_energy_range_uj`));
      const path = `${folder}/energy_uj`;
      if (range === undefined)
        return { source: "rapl", reason: `${folder} does not say its counter's range` };
      zones.push({ name, path, range, last: await counter(files, path) });
    }
  } catch (error) {
    return { source: "rapl", reason: reasonOf(error) };
  }
  if (zones.length === 0) return { source: "rapl", reason: `the processor has no counters in ${FOLDER}` };

  let microjoules = 0;
  const sampling = new Sampling(clock, EVERY_MS, async () => {
    for (const zone of zones) {
      const now = await counter(files, zone.path);
      microjoules += countedMicrojoules(zone.last, now, zone.range);
      zone.last = now;
    }
  });
  return {
    source: "rapl",
    scope: "processor",
    what: zones.map(({ name }) => name).join(" and "),
    joules: async () => {
      await sampling.now();
      return microjoules / 1e6;
    },
    release: () => sampling.release(),
  };
};

async function counter(files: PowerWorld["files"], path: string): Promise<number> {
  const text = await readText(files, path);
  const value = integer(text);
  if (value === undefined) throw new PowerError(`${path} holds "${text}", not a number`);
  return value;
}

function reasonOf(error: unknown): string {
  if (error instanceof FileError && error.reason === "denied") {
    return `only root may read ${error.path}: run as root, or allow it with chmod a+r`;
  }
  if (error instanceof FileError || error instanceof PowerError) return error.message;
  throw error;
}
