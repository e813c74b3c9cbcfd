/**
 * The devices of a run: who there is, and who is gone. Devices have their places, which are their ids in plans; nobody's
 * place ever becomes another's, so a device that comes back is a new one.
 *
 * Work that needs its devices goes on as long as all of them live (`guard`): what a lost one would have sent will never
 * come.
 */

import { type Clock, type Down, downText, type Ref, type Times } from "../../runtime/index.ts";
import type { Device, DeviceDescription, DeviceUsage } from "../device.ts";
import { cutPairs, isLinkFailure, mostCut, type Pair } from "./links.ts";

export class DeviceLost extends Error {
  readonly code = "DEVICE_LOST";
  override readonly name = "DeviceLost";
}

/** A stage cannot go on in the middle of a step: that is begun again, with nobody's part of it. */
export class BegunAgain extends DeviceLost {
  constructor() {
    super("a stage cannot go on in the middle of the step: it is begun again");
  }
}

type RosterTimes = Pick<Times, "patienceMs" | "explainMs" | "cutMs">;

/** A device that is gone, since when nothing was heard of it, and when that was known. */
export interface Loss {
  readonly id: string;
  readonly silentMs: number;
  readonly at: number;
}

/** What a device is called; undefined where nobody knows. */
export type Called = (device: Ref<Device>) => string | undefined;

/** Names of devices that have not said what they are. */
export interface Unknown {
  readonly lost: readonly string[];
  /** Those that are there. */
  readonly coming: readonly string[];
}

/** A device that has said what it is. */
export interface Known extends DeviceDescription {
  readonly id: string;
}

/**
 * So often a run is set up again for lost links before another step has been committed: at once, after a time that goes by
 * the patience, and then after four times as long each time, a minute in the end by the default one.
 */
const MOST_CUTS = 5;

/** What a roster needs to know of a run whose devices lose each other. */
export interface Neighbourhood {
  /** Devices that exchange tensors, in pairs. */
  neighbours(): readonly Pair[];
  /** Hears of a device that the run goes on without, though it lives, and why. */
  leftOut(id: string, why: string): void;
}

export class Roster {
  /** By place. */
  readonly devices: Ref<Device>[];
  private readonly clock: Clock;
  private readonly times: RosterTimes;
  private readonly called: Called;
  /** By place; of those that have been asked. */
  private readonly known: (DeviceDescription | undefined)[] = [];
  private readonly gone = new Set<string>();
  private losses: Loss[] = [];
  /** The first loss that nobody has dealt with. */
  private first: DeviceLost | undefined;
  private arrival = Promise.withResolvers<void>();
  private giveUp: (error: DeviceLost) => void = () => {};
  /** Links lost between devices that live, since a step was committed, and when the first was. */
  private cuts = 0;
  private cutSince = 0;
  neighbourhood: Neighbourhood = { neighbours: () => [], leftOut: () => {} };

  /** @param called what devices are called that may be lost before they have said so. */
  constructor(
    devices: readonly Ref<Device>[],
    clock: Clock,
    times: RosterTimes,
    called: Called = () => undefined,
  ) {
    this.devices = [...devices];
    this.clock = clock;
    this.times = times;
    this.called = called;
  }

  /** Another device is there. @returns its place. */
  add(device: Ref<Device>): string {
    return `${this.devices.push(device) - 1}`;
  }

  /** A device that was added is ready for use. */
  arrived(): void {
    this.arrival.resolve();
    this.arrival = Promise.withResolvers();
  }

  /** Settles when another device is ready for use. */
  get nextArrival(): Promise<void> {
    return this.arrival.promise;
  }

  /** Waits for those that are coming to be ready for use, one after the other, but no longer than the patience, while `lacks`. */
  async expect(lacks: () => boolean): Promise<void> {
    const isComing = () => this.devices.some((_, i) => !this.known[i] && !this.gone.has(`${i}`));
    const until = this.clock.now() + this.times.patienceMs;
    while (isComing() && lacks()) {
      const leftMs = until - this.clock.now();
      if (leftMs <= 0) return;
      await Promise.race([this.nextArrival, this.clock.sleep(Math.min(leftMs, this.times.explainMs))]);
    }
  }

  /** Asks all that are there what they are, and has them among those that live. */
  async askAll(): Promise<void> {
    await Promise.all(this.present().map(async (id) => this.ready(await this.ask(id))));
  }

  /** Asks a device what it is. */
  async ask(id: string): Promise<Known> {
    return { id, ...(await this.devices[Number(id)]!.ask.describe()) };
  }

  /** A device may be used. */
  ready({ id, ...description }: Known): void {
    this.known[Number(id)] = description;
  }

  /** Of all devices that were asked, in their order. */
  descriptions(): readonly Known[] {
    return this.known.flatMap((description, i) => (description ? [{ id: `${i}`, ...description }] : []));
  }

  name(id: string): string {
    const place = Number(id);
    return this.known[place]?.name ?? this.called(this.devices[place]!) ?? `device ${place + 1}`;
  }

  /** Names of those that are not known yet: lost before they were, or there, and still to be measured. */
  unknown(): Unknown {
    const isUnknown = (id: string) => !this.known[Number(id)];
    const names = (ids: Iterable<string>) => [...ids].filter(isUnknown).map((id) => this.name(id));
    return { lost: names(this.gone), coming: names(this.present()) };
  }

  /** What each has used, in the order of `descriptions`; null of those that are gone. */
  async usage(): Promise<(DeviceUsage | null)[]> {
    const usageOf = (id: string) => this.devices[Number(id)]!.ask.usage().catch(() => null);
    return Promise.all(this.descriptions().map(({ id }) => (this.gone.has(id) ? null : usageOf(id))));
  }

  /** Ids of all that are not gone, whether they have said what they are or not. */
  present(): readonly string[] {
    return this.devices.flatMap((_, i) => (this.gone.has(`${i}`) ? [] : [`${i}`]));
  }

  /** Those that have said what they are, and have not been lost. */
  living(): readonly Known[] {
    return this.descriptions().filter(({ id }) => !this.gone.has(id));
  }

  isGone(id: string): boolean {
    return this.gone.has(id);
  }

  /** Ids of all devices that are gone. */
  lost(): ReadonlySet<string> {
    return this.gone;
  }

  /** Its place; the last, where it was cut off and has come again. */
  idOf(device: Ref<unknown>): string {
    return `${this.devices.findLastIndex(({ key }) => key === device.key)}`;
  }

  /** A device is not to be used. */
  dismiss(id: string): void {
    this.gone.add(id);
  }

  /** A device is gone that is needed: what needs it is given up. The first loss is the one that is told. */
  lose(id: string, { reason }: Down): void {
    this.gone.add(id);
    this.losses.push({ id, silentMs: reason.silentMs ?? 0, at: this.clock.now() });
    this.first ??= new DeviceLost(`${this.name(id)} is gone: ${downText(reason)}`);
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

  /**
   * Runs `work`, but no longer than all devices live and reach each other.
   * @throws DeviceLost when one does not; without a loss to deal with, where it was a link that was lost, and devices at
   *   both ends of it are there.
   */
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
      const isOfLink = isLinkFailure(error);
      if (!this.first && !(error instanceof DeviceLost)) {
        const known = isOfLink ? this.reachAll() : this.clock.sleep(this.times.explainMs);
        await Promise.race([known, lost]).catch(() => {});
      }
      if (this.first || !isOfLink) throw this.first ?? error;
      const now = this.clock.now();
      if (this.cuts++ === 0) this.cutSince = now;
      const leftMs = this.cutSince + this.times.patienceMs - now;
      if (leftMs <= 0) await Promise.race([this.leaveOut(), lost]);
      if (this.first || this.cuts > MOST_CUTS) throw this.first ?? error;
      const pauseMs = this.cuts === 1 ? 0 : this.times.cutMs * 4 ** (this.cuts - 2);
      await Promise.race([this.clock.sleep(leftMs > 0 ? Math.min(pauseMs, leftMs) : pauseMs), lost]);
      throw new DeviceLost(`devices have lost each other: ${(error as Error).message}`, { cause: error });
    }
  }

  /** A step is committed: devices reach each other. */
  advanced(): void {
    this.cuts = 0;
  }

  /** Goes on without one of two neighbours that have not reached each other for the patience, and do not now. */
  private async leaveOut(): Promise<void> {
    const { neighbours, leftOut } = this.neighbourhood;
    const pairs = neighbours().filter((pair) => !pair.some((id) => this.gone.has(id)));
    const cut = await cutPairs(pairs, (id) => this.devices[Number(id)]!);
    const id = mostCut(cut);
    // Whoever reaches nobody may be gone.
    if (id !== undefined) await this.reachAll();
    if (id === undefined || this.first) return;
    const others = cut.filter((pair) => pair.includes(id)).map((pair) => pair.find((end) => end !== id)!);
    const why = `it does not reach ${others.map((other) => this.name(other)).join(", ")}, though both are there`;
    const at = this.clock.now();
    this.gone.add(id);
    this.losses.push({ id, silentMs: at - this.cutSince, at });
    this.first = new DeviceLost(`${this.name(id)} is left out: ${why}`);
    this.cuts = 0;
    leftOut(id, why);
  }

  /** Resolves when everyone has answered who is there; whoever is not, is found to be lost. */
  private async reachAll(): Promise<void> {
    const answers = await Promise.allSettled(
      this.present().map((id) => this.devices[Number(id)]!.ask.usage()),
    );
    if (answers.some(({ status }) => status === "rejected")) await this.clock.sleep(this.times.explainMs);
  }
}
