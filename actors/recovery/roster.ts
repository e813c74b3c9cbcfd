/**
 * The devices of a run: who there is, and who is gone. Devices have their places, which are their ids in plans; nobody's
 * place ever becomes another's, so a device that comes back is a new one.
 *
 * Work that needs its devices goes on as long as all of them live (`guard`): what a lost one would have sent will never
 * come.
 */

import type { Clock, Down, Ref } from "../../runtime/index.ts";
import type { Device, DeviceDescription } from "../device.ts";

export class DeviceLost extends Error {
  readonly code = "DEVICE_LOST";
  override readonly name = "DeviceLost";
}

/** A device that is gone, since when nothing was heard of it, and when that was known. */
export interface Loss {
  readonly id: string;
  readonly silentMs: number;
  readonly at: number;
}

/** A device that lives. */
export interface Living extends DeviceDescription {
  readonly id: string;
}

/** How long after a stage's failure the loss of a device may still explain it. */
const LOSS_GRACE_MS = 100;

export class Roster {
  /** By place. */
  readonly devices: Ref<Device>[];
  private readonly clock: Clock;
  /** By place; of those that have been asked. */
  private readonly known: (DeviceDescription | undefined)[] = [];
  private readonly gone = new Set<string>();
  private losses: Loss[] = [];
  /** The first loss that nobody has dealt with. */
  private first: DeviceLost | undefined;
  private giveUp: (error: DeviceLost) => void = () => {};

  constructor(devices: readonly Ref<Device>[], clock: Clock) {
    this.devices = [...devices];
    this.clock = clock;
  }

  /** Asks a device what it is. */
  async describe(id: string): Promise<void> {
    this.known[Number(id)] = await this.devices[Number(id)]!.ask.describe();
  }

  /** Of all devices that were asked, in their order. */
  descriptions(): readonly DeviceDescription[] {
    return this.known.flatMap((description) => description ?? []);
  }

  name(id: string): string {
    return this.known[Number(id)]?.name ?? `device ${Number(id) + 1}`;
  }

  /** Those that have said what they are, and have not been lost. */
  living(): readonly Living[] {
    return this.known.flatMap((description, i) =>
      description && !this.gone.has(`${i}`) ? [{ id: `${i}`, ...description }] : [],
    );
  }

  isGone(id: string): boolean {
    return this.gone.has(id);
  }

  /** Ids of all devices that are gone. */
  lost(): ReadonlySet<string> {
    return this.gone;
  }

  idOf(device: Ref<unknown>): string {
    return `${this.devices.findIndex(({ key }) => key === device.key)}`;
  }

  /** A device is gone: what needs it is given up. The first loss is the one that is told. */
  lose({ ref, reason }: Down): void {
    const id = this.idOf(ref);
    this.gone.add(id);
    this.losses.push({ id, silentMs: reason.silentMs ?? 0, at: this.clock.now() });
    this.first ??= new DeviceLost(`${this.name(id)} is gone: ${reason.message}`);
    this.giveUp(this.first);
  }

  /** Losses that nobody has dealt with, for whoever deals with them now. */
  takeLosses(): readonly Loss[] {
    this.first = undefined;
    return this.losses.splice(0);
  }

  /** Whether there are any. */
  get hasLosses(): boolean {
    return this.first !== undefined;
  }

  /** Runs `work`, but no longer than all devices live. @throws DeviceLost when one does not. */
  async guard<T>(work: () => Promise<T>): Promise<T> {
    if (this.first) throw this.first;
    const lost = new Promise<never>((_, reject) => {
      this.giveUp = reject;
    });
    lost.catch(() => {});
    try {
      return await Promise.race([work(), lost]);
    } catch (error) {
      // A stage may notice a loss before the scheduler does: let the loss be what is told.
      if (!this.first) await Promise.race([this.clock.sleep(LOSS_GRACE_MS), lost]).catch(() => {});
      throw this.first ?? error;
    }
  }
}
