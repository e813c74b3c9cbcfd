/**
 * The scenarios that strategies are compared in: which devices, on which lines, train what. Devices are those of
 * `device-classes.ts`: what is emulated is how fast they are beside each other, and their lines as they are. All together
 * they have less than one processor of this machine, so each is some times as fast or as slow as the real one; memory is
 * scaled to models that are as much smaller.
 *
 * Lines are between a device and a switch or an access point, the same in both directions; a message passes two. Those of
 * Wi-Fi are what is left of it in a home, with its latency, though not its changes.
 */

import { DEVICE_CLASSES, type DeviceClassName } from "../../actors/scheduler/device-classes.ts";
import type { Line } from "../testbed/link.ts";
import type { BedSpec } from "../testbed/testbed.ts";
import type { ScenarioModelName } from "./scenarios-models.ts";

export interface ScenarioDevice {
  readonly name: string;
  readonly class: DeviceClassName;
  readonly line: Line;
}

export interface Scenario {
  readonly name: string;
  /** One line for people. */
  readonly about: string;
  readonly devices: readonly ScenarioDevice[];
  /** Trained unless another one is asked for. */
  readonly model: ScenarioModelName;
  /** Of a device's memory, what its emulation has. */
  readonly memoryScale: number;
}

const WIRED_10: Line = { megabits: 10, latencyMs: 0 };
const WIRED_100: Line = { megabits: 100, latencyMs: 0 };
const WIRED_125: Line = { megabits: 125, latencyMs: 0 };
const WIRED_1000: Line = { megabits: 1000, latencyMs: 0 };
const WIFI_80: Line = { megabits: 80, latencyMs: 2 };
const WIFI_200: Line = { megabits: 200, latencyMs: 1 };

/** Devices of one class, numbered where there are several. */
function of(name: DeviceClassName, count: number, line: Line, called: string = name): ScenarioDevice[] {
  return Array.from({ length: count }, (_, i) => ({
    ...{ class: name, line },
    name: count === 1 ? called : `${called}-${i + 1}`,
  }));
}

/** The Jetson boards of Asteroid (Ye et al., MobiCom 2024), of which it builds its mixed environments. */
const jetsons = (line: Line) => [
  ...of("jetson-xavier-nx", 1, line, "nx"),
  ...of("jetson-tx2", 1, line, "tx2"),
  ...of("jetson-nano", 2, line, "nano"),
];

export const SCENARIOS: readonly Scenario[] = [
  {
    name: "pi-pair",
    about: "two Raspberry Pis on slow Ethernet: gradients take far longer than the arithmetic",
    devices: of("raspberry-pi-4", 2, WIRED_10, "pi"),
    model: "gpt",
    memoryScale: 1 / 8,
  },
  {
    name: "pi-four",
    about: "four equal Raspberry Pis on a switch of 100 Mbit/s",
    devices: of("raspberry-pi-4", 4, WIRED_100, "pi"),
    model: "gpt",
    memoryScale: 1 / 8,
  },
  {
    name: "nano-four",
    about: "four equal Jetson Nanos at 100 Mbit/s, a CNN, as in Asteroid's environment of equal devices",
    devices: of("jetson-nano", 4, WIRED_100, "nano"),
    model: "resnet18",
    memoryScale: 1 / 8,
  },
  {
    name: "jetsons-100",
    about: "Xavier NX, TX2 and two Nanos at 100 Mbit/s, a transformer, in the manner of Asteroid's mixes",
    devices: jetsons(WIRED_100),
    model: "gpt",
    memoryScale: 1 / 16,
  },
  {
    name: "jetsons-1000",
    about: "Xavier NX, TX2 and two Nanos at 1000 Mbit/s, a CNN, in the manner of Asteroid's mixes",
    devices: jetsons(WIRED_1000),
    model: "resnet18",
    memoryScale: 1 / 16,
  },
  {
    name: "galaxy-tight",
    about:
      "three Jetson Nanos at 125 Mbit/s, as in Galaxy (Ye et al., 2024), and a transformer too large for one",
    devices: of("jetson-nano", 3, WIRED_125, "nano"),
    model: "gpt",
    memoryScale: 1 / 40,
  },
  {
    name: "home",
    about: "a laptop and two phones on Wi-Fi",
    devices: [...of("laptop", 1, WIFI_200), ...of("phone", 2, WIFI_80)],
    model: "gpt",
    memoryScale: 1 / 16,
  },
  {
    name: "desk",
    about: "a desktop, a laptop and a Raspberry Pi 5 at 1000 Mbit/s: one device is most of the speed",
    devices: [
      ...of("desktop", 1, WIRED_1000),
      ...of("laptop", 1, WIRED_1000),
      ...of("raspberry-pi-5", 1, WIRED_1000, "pi"),
    ],
    model: "vgg11",
    memoryScale: 1 / 16,
  },
];

/** What a testbed is to emulate. */
export function bedOf({ devices, memoryScale }: Scenario): BedSpec[] {
  return devices.map(({ name, line, class: named }) => {
    const { gflops, memoryBytes } = DEVICE_CLASSES[named];
    return { name, line, speed: gflops, memoryBytes: Math.round(memoryBytes * memoryScale) };
  });
}
