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
  readonly devices: number[];
  readonly meter: Ref<Device>;
  readonly description: DeviceDescription;
  /** Of the time of steps, when the first of its devices came. */
  readonly joinedMs: number;
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
  private readonly machines: Machine[];
  /** By device's place. */
  private readonly busyMs = new Map<number, number>();
  private elapsedMs = 0;
  private steps = 0;
  private running = false;

  private constructor(machines: readonly Machine[]) {
    this.machines = [...machines];
  }

  /**
   * Opens the meter of every machine; to be closed. What one of a device that is gone already has drawn is modelled.
   * @param devices by place. @param descriptions of those that are known, whose ids are their places.
   */
  static async open(
    devices: readonly Ref<Device>[],
    descriptions: readonly (DeviceDescription & { readonly id: string })[],
  ): Promise<RunMeter> {
    const hosts = Map.groupBy(descriptions, ({ host }) => host);
    const machines = [...hosts.values()].map((own) => {
      const places = own.map(({ id }) => Number(id));
      return machineOf(places, devices[places[0]!]!, own[0]!, 0);
    });
    await Promise.all(
      machines.map(async (machine) => {
        try {
          await machine.meter.ask.openMeter(powerOf(machine.description));
        } catch {
          machine.measured = false;
        }
      }),
    );
    return new RunMeter(machines);
  }

  /**
   * A device has come, which counts from here on. Of a machine whose meter was lost with the device that had it, the rest
   * is modelled.
   * @param place of the device, as `took` has it.
   */
  async join(place: number, device: Ref<Device>, description: DeviceDescription): Promise<void> {
    const known = this.machines.find((machine) => machine.description.host === description.host);
    if (known) {
      known.devices.push(place);
      return;
    }
    const machine = machineOf([place], device, description, this.elapsedMs);
    this.machines.push(machine);
    try {
      await device.ask.openMeter(powerOf(description));
      if (this.running) machine.since = await device.ask.readMeter(NOTHING);
    } catch {
      // It is gone again.
      machine.measured = false;
    }
  }

  /** Steps begin, or go on. */
  async resume(): Promise<void> {
    this.running = true;
    await this.each(async (machine) => {
      machine.since = await machine.meter.ask.readMeter(NOTHING);
    });
  }

  /** Something else than steps begins. */
  async pause(): Promise<void> {
    this.running = false;
    await this.each(async (machine) => {
      const { since } = machine;
      const now = await machine.meter.ask.readMeter(NOTHING);
      machine.measured &&= since?.measured === true && now?.measured === true;
      if (!machine.measured) return;
      machine.joules += now!.joules - since!.joules;
      machine.sources = now!.sources.join(" and ");
    });
  }

  /** A step was made. @param busy milliseconds in kernels, by the device's place; one may be there several times. */
  took(stepMs: number, busy: readonly (readonly [place: number, ms: number])[]): void {
    this.steps++;
    this.elapsedMs += stepMs;
    for (const [place, ms] of busy) this.busyMs.set(place, (this.busyMs.get(place) ?? 0) + ms);
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

  private joulesOf({ measured, joules, devices, description, joinedMs }: Machine): number {
    if (measured) return joules;
    const busyMs = devices.reduce((sum, place) => sum + (this.busyMs.get(place) ?? 0), 0);
    const elapsedMs = this.elapsedMs - joinedMs;
    return joulesOf(powerOf(description), { ...NOTHING, elapsedMs, busyMs }).joules;
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

function machineOf(
  devices: readonly number[],
  meter: Ref<Device>,
  description: DeviceDescription,
  joinedMs: number,
): Machine {
  const unread = { joules: 0, since: null, measured: true, sources: "" };
  return { devices: [...devices], meter, description, joinedMs, ...unread };
}

function powerOf(description: DeviceDescription): DevicePower {
  return DEVICE_CLASSES[description.class].power;
}
