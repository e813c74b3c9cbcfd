/**
 * An emulated edge: devices that are slower than this machine, with little memory, on slow lines, each a process of its
 * own that a coordinator in this process has joined. What runs on them are the real actors over the real transports.
 *
 * There are two kinds. On Linux as root each device is a `troupe node` in its own network namespace (`namespaces.ts`):
 * kernel and TCP as they are, kernels paced or throttled by quota, a memory limit that kills. Elsewhere lines are reckoned
 * by the devices' transports, kernels are paced, and memory is only a claim (`shaped.ts`).
 * A report says which it was.
 */

import type { Device } from "../../actors/device.ts";
import type { NodeRuntime, Ref } from "../../runtime/index.ts";
import { TestbedError } from "./error.ts";
import type { Line } from "./link.ts";
import { openNamespaces } from "./namespaces.ts";
import { missingForNamespaces } from "./probe.ts";
import { openShaped } from "./shaped.ts";
import { TOLERANCE } from "./shares.ts";

/** One device to emulate. */
export interface BedSpec {
  readonly name: string;
  /** Beside the others: the fastest gets what the sum of all allows. */
  readonly speed: number;
  /** For training: what a device's process takes without a model comes on top of it. */
  readonly memoryBytes: number;
  readonly line: Line;
}

export type TestbedKind = "namespaces" | "shaped";

/** How kernels are slowed down: see `namespaces.ts`. */
export type Compute = "paced" | "quota";

export interface TestbedOptions {
  /** Default: namespaces where they can be had. */
  readonly kind?: TestbedKind;
  /** Default: paced. Quotas are for namespaces alone. */
  readonly compute?: Compute;
  /** How far speeds beside each other may be from those asked for, as a part of them; default 0.02; of quotas. */
  readonly tolerance?: number;
  /** Told what is being waited for. */
  readonly note?: (line: string) => void;
}

export interface BedDevice {
  readonly spec: BedSpec;
  readonly ref: Ref<Device>;
  readonly pid: number;
  readonly address: string;
  /** Its part of one processor: kernels take 1/share times as long as at full speed. */
  readonly share: number;
}

/** What a device has used since it was started. */
export interface BedUsage {
  /** Bytes that have left it and come to it, through its line; with packets' headers where there are packets. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** The most memory that its process has had resident, without which it could not have been. */
  readonly peakBytes: number;
  /** As long as the emulated device has computed. */
  readonly busyMs: number;
  /** How much later than an undisturbed device it had the results of its kernels; null where nobody knows. */
  readonly lateMs: number | null;
}

export interface Testbed {
  readonly kind: TestbedKind;
  /** How it is done, in lines for a report. */
  readonly about: readonly string[];
  /** The coordinator: at the switch, where its own line limits nobody. */
  readonly node: NodeRuntime;
  /** In the order of the specifications. */
  readonly devices: readonly BedDevice[];
  usage(): Promise<readonly BedUsage[]>;
  /**
   * Runs `work`, but no longer than all devices live.
   * @throws DeviceMemoryError when one is killed at its memory limit, TestbedError when one ends otherwise, naming it.
   */
  guard<T>(work: () => Promise<T>): Promise<T>;
  /**
   * Runs `work`, such as a deployment that nobody wants to wait for, with all lines at full speed. Shaped lines keep
   * theirs.
   */
  unshaped<T>(work: () => Promise<T>): Promise<T>;
  /** Ends the devices and takes everything down. Idempotent. */
  close(): Promise<void>;
}

/** @throws TestbedError when something is missing for the kind that was asked for, or another one is open here. */
export async function openTestbed(specs: readonly BedSpec[], options: TestbedOptions = {}): Promise<Testbed> {
  const { compute = "paced", tolerance = TOLERANCE } = options;
  const kind = options.kind ?? (missingForNamespaces() === null ? "namespaces" : "shaped");
  const note = options.note ?? (() => {});
  if (kind === "namespaces") return openNamespaces(specs, { compute, tolerance }, note);
  if (compute === "quota")
    throw new TestbedError("quotas need namespaces: choose paced kernels, or that kind");
  return openShaped(specs, note);
}
