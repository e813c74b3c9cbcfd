/**
 * A sensor of electrical energy: joules since it was opened, and what part of the machine that is of. Sensors measure the
 * machine, not a process. One that is not there is not an error but a reason.
 */

import type { Clock } from "../clock.ts";
import type { Child, ChildCommand } from "./children.ts";
import type { Files } from "./files.ts";

/** Kinds of sensors. */
export const POWER_SOURCES = ["jetson", "battery", "rapl", "nvidia"] as const;
export type PowerSource = (typeof POWER_SOURCES)[number];

/** What of a machine a sensor measures; "device" is all of it. */
export type PowerScope = "device" | "processor" | "gpu";

export interface PowerSensor {
  readonly source: PowerSource;
  readonly scope: PowerScope;
  /** What it measures, for people: `package-0 and dram`. */
  readonly what: string;
  /** Joules from its opening until now. @throws PowerError from when it cannot say any more. */
  joules(): Promise<number>;
  /** Ends its timer and process. Idempotent. */
  release(): Promise<void>;
}

export interface MissingSensor {
  readonly source: PowerSource;
  /** One line for people. */
  readonly reason: string;
}

/** A sensor that has stopped to measure; the message says which, and why. */
export class PowerError extends Error {
  readonly code = "POWER";
  override readonly name = "PowerError";
}

/** What sensors need of the machine; tests hand in recorded ones. */
export interface PowerWorld {
  readonly clock: Clock;
  readonly files: Pick<Files, "read" | "list">;
  readonly startChild: (command: ChildCommand) => Child;
}

/** Opens a sensor, or says why there is none. Never rejects; whoever opens it releases it. */
export type OpenSensor = (world: PowerWorld) => Promise<PowerSensor | MissingSensor>;
