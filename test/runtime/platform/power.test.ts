import { expect, test } from "bun:test";
import { VirtualClock } from "../../../runtime/clock.ts";
import type { Child, ChildCommand } from "../../../runtime/platform/children.ts";
import { FileError } from "../../../runtime/platform/files.ts";
import { openPowerSensors } from "../../../runtime/platform/power.ts";
import { batteryWatts, openBattery, parseSupply } from "../../../runtime/platform/power-battery.ts";
import { chooseRails, openJetson, railWatts } from "../../../runtime/platform/power-jetson.ts";
import { openNvidia, parseGpuPower } from "../../../runtime/platform/power-nvidia.ts";
import { countedMicrojoules, openRapl } from "../../../runtime/platform/power-rapl.ts";
import { PowerIntegral } from "../../../runtime/platform/power-sampling.ts";
import type { MissingSensor, PowerSensor } from "../../../runtime/platform/power-sensor.ts";

/** Recorded files by path; `null` for one that may not be read. */
type Recorded = Record<string, string | null>;

function world(recorded: Recorded) {
  const clock = new VirtualClock();
  const fail = (path: string, reason: "missing" | "denied") =>
    new FileError(reason, path, `cannot read ${path}`);
  const commands: ChildCommand[] = [];
  const ends: number[] = [];
  const endings: ((how: string) => void)[] = [];
  return {
    ...{ clock, commands, ends, endings },
    files: {
      read: async (path: string) => {
        const text = recorded[path];
        if (text === undefined) throw fail(path, "missing");
        if (text === null) throw fail(path, "denied");
        return new TextEncoder().encode(`${text}\n`);
      },
      list: async (folder: string) => {
        const below = Object.keys(recorded).filter((path) => path.startsWith(`${folder}/`));
        if (below.length === 0) throw fail(folder, "missing");
        return [...new Set(below.map((path) => path.slice(folder.length + 1).split("/")[0]!))].reverse();
      },
    },
    startChild: (command: ChildCommand): Child => {
      commands.push(command);
      const { promise, resolve } = Promise.withResolvers<string>();
      endings.push(resolve);
      const end = async (patienceMs: number) => {
        ends.push(patienceMs);
        resolve("SIGKILL");
      };
      return { pid: 1, ended: promise, end };
    },
  };
}

function opened(sensor: PowerSensor | MissingSensor): PowerSensor {
  if (!("joules" in sensor)) throw new Error(sensor.reason);
  return sensor;
}

const RAPL = "/sys/class/powercap";

/** A laptop of Intel's: a package with its parts, memory, and the whole platform, which is not counted. */
function raplFiles(energy: Record<string, string | null>): Recorded {
  const zones = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "dram",
    "intel-rapl:1": "psys",
  };
  const entries = Object.entries(zones).flatMap(([zone, name]): [string, string | null][] => [
    [`${RAPL}/${zone}/name`, name],
    [`${RAPL}/${zone}/max_energy_range_uj`, "262143328850"],
    [`${RAPL}/${zone}/energy_uj`, name in energy ? energy[name]! : "0"],
  ]);
  return Object.fromEntries([
    ...entries,
    [`${RAPL}/intel-rapl/enabled`, "1"],
    [`${RAPL}/intel-rapl-mmio:0/name`, "package-0"],
  ]);
}

test("rapl: packages and memory are counted, once round the counter's end too", async () => {
  const recorded = raplFiles({ "package-0": "262143000000", dram: "1000000", core: "5", psys: "7" });
  const here = world(recorded);
  const sensor = opened(await openRapl(here));
  expect([sensor.scope, sensor.what]).toEqual(["processor", "package-0 and dram"]);
  recorded[`${RAPL}/intel-rapl:0/energy_uj`] = "2671150";
  recorded[`${RAPL}/intel-rapl:0:1/energy_uj`] = "1500000";
  recorded[`${RAPL}/intel-rapl:1/energy_uj`] = "900000000";
  expect(await sensor.joules()).toBeCloseTo(3.5, 9);
  // A look of its own between two questions, or the counter may go round unseen.
  recorded[`${RAPL}/intel-rapl:0/energy_uj`] = "262143328850";
  await here.clock.advance(60_000);
  recorded[`${RAPL}/intel-rapl:0/energy_uj`] = "2671150";
  expect(await sensor.joules()).toBeCloseTo(3.5 + 262_143.32885, 6);
  await sensor.release();
  expect(here.clock.pending).toBe(0);
});

test("rapl: what wraps is counted from 0 again", () => {
  expect(countedMicrojoules(10, 25, 100)).toBe(15);
  expect(countedMicrojoules(90, 5, 100)).toBe(15);
});

test("rapl: why it is missing", async () => {
  const reason = async (recorded: Recorded) => ((await openRapl(world(recorded))) as MissingSensor).reason;
  expect(await reason({})).toBe("the processor has no counters in /sys/class/powercap");
  expect(await reason(raplFiles({ "package-0": null }))).toBe(
    "only root may read /sys/class/powercap/intel-rapl:0/energy_uj: run as root, or allow it with chmod a+r",
  );
  expect(await reason(raplFiles({ "package-0": "?" }))).toBe(
    '/sys/class/powercap/intel-rapl:0/energy_uj holds "?", not a number',
  );
});

const BATTERY = "/sys/class/power_supply";

function supplies(status: string, rest: string): Recorded {
  return {
    [`${BATTERY}/AC/type`]: "Mains",
    [`${BATTERY}/AC/uevent`]: "POWER_SUPPLY_NAME=AC\nPOWER_SUPPLY_ONLINE=0",
    [`${BATTERY}/BAT0/type`]: "Battery",
    [`${BATTERY}/BAT0/uevent`]: `POWER_SUPPLY_NAME=BAT0\nPOWER_SUPPLY_STATUS=${status}\n${rest}`,
    [`${BATTERY}/hidpp_battery_0/type`]: "Battery",
    [`${BATTERY}/hidpp_battery_0/uevent`]:
      "POWER_SUPPLY_STATUS=Discharging\nPOWER_SUPPLY_SCOPE=Device\nPOWER_SUPPLY_POWER_NOW=9",
  };
}

test("battery: watts, or amperes by volts, whichever way the driver counts", () => {
  const watts = (rest: string) => batteryWatts(parseSupply(`POWER_SUPPLY_STATUS=Discharging\n${rest}`));
  expect(watts("POWER_SUPPLY_POWER_NOW=8640000")).toBe(8.64);
  expect(watts("POWER_SUPPLY_CURRENT_NOW=-700000\nPOWER_SUPPLY_VOLTAGE_NOW=4000000")).toBeCloseTo(2.8, 9);
  expect(watts("POWER_SUPPLY_CAPACITY=80")).toBe("the battery does not say its power");
  expect(batteryWatts(parseSupply("POWER_SUPPLY_STATUS=Full\nPOWER_SUPPLY_POWER_NOW=0"))).toBe(
    "the battery is not discharging but full",
  );
});

test("battery: power over time, until it is plugged in", async () => {
  const recorded = supplies("Discharging", "POWER_SUPPLY_POWER_NOW=10000000");
  const here = world(recorded);
  const sensor = opened(await openBattery(here));
  expect(sensor.scope).toBe("device");
  await here.clock.advance(10_000);
  expect(await sensor.joules()).toBeCloseTo(100, 9);
  Object.assign(recorded, supplies("Charging", "POWER_SUPPLY_POWER_NOW=30000000"));
  await here.clock.advance(5000);
  expect(sensor.joules()).rejects.toThrow("the battery is not discharging but charging");
  await sensor.release();
  expect(here.clock.pending).toBe(0);
});

test("battery: none of a mouse's, none on mains", async () => {
  const reason = async (recorded: Recorded) => ((await openBattery(world(recorded))) as MissingSensor).reason;
  const mouse = supplies("Discharging", "POWER_SUPPLY_POWER_NOW=1");
  delete mouse[`${BATTERY}/BAT0/type`];
  expect(await reason(mouse)).toBe("there is no battery in /sys/class/power_supply");
  expect(await reason(supplies("Charging", "POWER_SUPPLY_POWER_NOW=1"))).toBe(
    "the battery is not discharging but charging",
  );
});

/** Xavier NX under JetPack 5. */
const XAVIER = Object.fromEntries(
  [
    ["hwmon0/name", "thermal"],
    ["hwmon4/name", "ina3221"],
    ...[
      ["VDD_IN", 5000, 1200],
      ["VDD_CPU_GPU_CV", 5000, 400],
      ["VDD_SOC", 5000, 300],
    ].flatMap(([label, millivolts, milliamperes], i) => [
      [`hwmon4/in${i + 1}_label`, label],
      [`hwmon4/in${i + 1}_input`, millivolts],
      [`hwmon4/curr${i + 1}_input`, milliamperes],
    ]),
  ].map(([path, text]) => [`/sys/class/hwmon/${path}`, String(text)]),
);

test("jetson: the rail that feeds the board, by Linux' driver", async () => {
  const here = world(XAVIER);
  const sensor = opened(await openJetson(here));
  expect([sensor.scope, sensor.what]).toEqual(["device", "rail VDD_IN"]);
  await here.clock.advance(2000);
  expect(await sensor.joules()).toBeCloseTo(12, 9);
  await sensor.release();
  expect(here.clock.pending).toBe(0);
});

test("jetson: by NVIDIA's driver; all rails where none feeds the board", async () => {
  const rails = (names: readonly string[]) =>
    Object.fromEntries([
      ["/sys/bus/iio/devices/iio:device0/name", "ina3221x"],
      ...names.flatMap((name, i) => [
        [`/sys/bus/iio/devices/iio:device0/rail_name_${i}`, name],
        [`/sys/bus/iio/devices/iio:device0/in_power${i}_input`, String(1000 * (i + 1))],
      ]),
    ]);
  const joules = async (names: readonly string[]) => {
    const here = world(rails(names));
    const sensor = opened(await openJetson(here));
    await here.clock.advance(1000);
    const result = await sensor.joules();
    await sensor.release();
    return [sensor.what, result];
  };
  expect(await joules(["POM_5V_GPU", "POM_5V_IN", "POM_5V_CPU"])).toEqual(["rail POM_5V_IN", 2]);
  expect(await joules(["GPU", "CPU", "NC"])).toEqual(["rails GPU, CPU", 3]);
  expect(chooseRails([{ name: "VDD_IN" }, { name: "VDD_SYS_GPU" }])).toEqual([{ name: "VDD_IN" }]);
  expect([railWatts(["5000", "1500"]), railWatts(["2500"]), railWatts(["5000", ""])]).toEqual([
    7.5,
    2.5,
    undefined,
  ]);
});

test("nvidia: a line of nvidia-smi", () => {
  expect(parseGpuPower("0, NVIDIA GeForce RTX 3080, 98.76")).toEqual({
    ...{ index: "0", name: "NVIDIA GeForce RTX 3080", watts: 98.76 },
  });
  expect(parseGpuPower("1, NVIDIA GeForce MX150, [N/A]")).toMatchObject({ index: "1", watts: undefined });
  expect(parseGpuPower("NVIDIA-SMI has failed because it couldn't communicate")).toBeUndefined();
});

/** Lets the first run of nvidia-smi say something and end. */
async function answered(lines: readonly string[], how = "exit code 0") {
  const here = world({});
  const opening = openNvidia(here);
  for (const line of lines) here.commands[0]!.onOutput(line);
  here.endings[0]!(how);
  return { here, sensor: await opening };
}

test("nvidia: all cards over time, and the process is ended", async () => {
  const { here, sensor } = await answered(["0, A, 100.0", "1, B, 50.0"]);
  const gpu = opened(sensor);
  expect(gpu.what).toBe("GPU 0, A; GPU 1, B");
  expect(here.commands[1]!.command).toContain("--loop-ms=200");
  await here.clock.advance(2000);
  here.commands[1]!.onOutput("0, A, 200.0");
  expect(await gpu.joules()).toBeCloseTo(2 * 150 + 2 * 50, 9);
  await gpu.release();
  expect(here.ends).toEqual([0]);
  expect(here.clock.pending).toBe(0);
  expect(gpu.joules()).rejects.toThrow("nvidia-smi has ended: SIGKILL");
});

test("nvidia: why it is missing", async () => {
  const reason = async (lines: readonly string[], how: string) => {
    const { here, sensor } = await answered(lines, how);
    expect(here.commands).toHaveLength(1);
    return (sensor as MissingSensor).reason;
  };
  expect(await reason([], "spawn nvidia-smi ENOENT")).toBe(
    "nvidia-smi cannot be run: spawn nvidia-smi ENOENT",
  );
  expect(await reason(["No devices were found"], "exit code 6")).toBe(
    "nvidia-smi says: No devices were found",
  );
  expect(await reason(["0, NVIDIA GeForce MX150, [N/A]"], "exit code 0")).toBe(
    "NVIDIA GeForce MX150 does not say its power",
  );
});

test("nvidia: a driver that does not answer is not waited for", async () => {
  const here = world({});
  const opening = openNvidia(here);
  await here.clock.advance(10_000);
  expect(await opening).toEqual({ source: "nvidia", reason: "nvidia-smi does not answer" });
  expect(here.ends).toEqual([0]);
});

test("power between two samples is their mean", () => {
  const integral = new PowerIntegral();
  expect(integral.joules(5)).toBe(0);
  integral.add(10, 1000);
  integral.add(30, 2000);
  expect(integral.joules(3000)).toBe(20 + 30);
});

test("a machine without sensors has a reason for each kind", async () => {
  const here = world({});
  const opening = openPowerSensors(here);
  here.endings[0]!("ENOENT");
  const missing = await opening;
  expect(missing.map(({ source }) => source)).toEqual(["jetson", "battery", "rapl", "nvidia"]);
  expect(missing.every((sensor) => "reason" in sensor)).toBe(true);
});
