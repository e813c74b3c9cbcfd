/**
 * The joules of a run's steps. It is machines that draw power: devices that share one are metered as one, by its sensors
 * where it has any, else by the model of its class, which is busy while any of them computes. Only the
 * time of steps counts, not that of validations and checkpoints; in the model, lines are left out.
 */

import type { Ref } from "../../runtime/index.ts";
import type { Device, DeviceDescription } from "../device.ts";
import { DEVICE_CLASSES } from "../scheduler/device-classes.ts";
import type { EnergyReading } from "./meter.ts";
import { type DevicePower, joulesOf } from "./model.ts";

/** Joules of all machines together. */
export interface RunEnergy {
  readonly joules_per_step: number;
  /** Whether sensors say it, of all machines or some, or the model. */
  readonly from: "measured" | "partly measured" | "modelled";
  /** By machine: which sensors, or which class is assumed. */
  readonly what: readonly string[];
}

interface Machine {
  /** Places of its devices. */
  readonly devices: readonly number[];
  readonly meter: Ref<Device>;
  readonly description: DeviceDescription;
  /** By sensors, so far. */
  joules: number;
  /** When the steps went on; null while there are none, or when nothing measures. */
  since: EnergyReading | null;
  measured: boolean;
  sources: string;
}

/** Nothing has been done as far as the model is concerned: it is only asked at the end, and here. */
const NOTHING = { busyMs: 0, sentBytes: 0, receivedBytes: 0 };

export class RunMeter {
  private readonly machines: readonly Machine[];
  private readonly busyMs: number[];
  private elapsedMs = 0;
  private steps = 0;

  private constructor(machines: readonly Machine[], devices: number) {
    this.machines = machines;
    this.busyMs = new Array(devices).fill(0);
  }

  /** Opens the meter of every machine; to be closed. */
  static async open(
    devices: readonly Ref<Device>[],
    descriptions: readonly DeviceDescription[],
  ): Promise<RunMeter> {
    const hosts = Map.groupBy(descriptions.keys(), (i) => descriptions[i]!.host);
    const machines = [...hosts.values()].map((places): Machine => {
      const [first] = places;
      const [meter, description] = [devices[first!]!, descriptions[first!]!];
      return { devices: places, meter, description, joules: 0, since: null, measured: true, sources: "" };
    });
    await Promise.all(machines.map(({ meter, description }) => meter.ask.openMeter(powerOf(description))));
    return new RunMeter(machines, devices.length);
  }

  /** Steps begin, or go on. */
  async resume(): Promise<void> {
    await this.each(async (machine) => {
      machine.since = await machine.meter.ask.readMeter(NOTHING);
    });
  }

  /** Something else than steps begins. */
  async pause(): Promise<void> {
    await this.each(async (machine) => {
      const { since } = machine;
      const now = await machine.meter.ask.readMeter(NOTHING);
      machine.measured &&= since?.measured === true && now?.measured === true;
      if (!machine.measured) return;
      machine.joules += now!.joules - since!.joules;
      machine.sources = now!.sources.join(" and ");
    });
  }

  /** A step was made. @param busyMs in kernels, by device. */
  took(stepMs: number, busyMs: readonly number[]): void {
    this.steps++;
    this.elapsedMs += stepMs;
    for (const [i, ms] of busyMs.entries()) this.busyMs[i]! += ms;
  }

  /** Of the steps so far; null when there were none. */
  energy(): RunEnergy | null {
    if (this.steps === 0) return null;
    const measured = this.machines.filter((machine) => machine.measured).length;
    const joules = this.machines.reduce((sum, machine) => sum + this.joulesOf(machine), 0);
    return {
      joules_per_step: joules / this.steps,
      from: measured === 0 ? "modelled" : measured === this.machines.length ? "measured" : "partly measured",
      what: this.machines.map(({ measured: is, sources, description }) => (is ? sources : description.class)),
    };
  }

  /** Gives the sensors back, of machines that are still there. */
  async close(): Promise<void> {
    await Promise.all(this.machines.map(({ meter }) => meter.ask.closeMeter().catch(() => {})));
  }

  private joulesOf({ measured, joules, devices, description }: Machine): number {
    if (measured) return joules;
    const busyMs = devices.reduce((sum, i) => sum + this.busyMs[i]!, 0);
    return joulesOf(powerOf(description), { ...NOTHING, elapsedMs: this.elapsedMs, busyMs }).joules;
  }

  private async each(read: (machine: Machine) => Promise<void>): Promise<void> {
    await Promise.all(
      this.machines
        .filter(({ measured }) => measured)
        .map(async (machine) => {
          try {
            await read(machine);
          } catch {
            // It is gone, with its sensors; what it drew is modelled.
            machine.measured = false;
          }
        }),
    );
  }
}

function powerOf(description: DeviceDescription): DevicePower {
  return DEVICE_CLASSES[description.class].power;
}
