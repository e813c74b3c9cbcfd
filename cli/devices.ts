/**
 * The devices of a run: processes started here, nodes that were named, and nodes that come by themselves to where it listens.
 * Each becomes a ref to its `Device` actor, and someone is told when one is lost. A run begins with those that are there;
 * whoever comes later, or again, is handed to it.
 *
 * People, plans and faults know devices by their names, so no two that are there have the same: of two machines that are both
 * called `pi` the second is `pi-2` in the run. One that comes back while its loss is not known yet is not the second.
 */

import type { Device } from "../actors/device.ts";
import { type DownReason, NodeRuntime, type PeerInfo, type Ref } from "../runtime/index.ts";
import type { Child } from "../runtime/platform/children.ts";
import { machineId } from "../runtime/platform/machine.ts";
import { LaunchError } from "./command.ts";
import { startDevice } from "./device-process.ts";
import { lineLog } from "./log.ts";
import { isSilent, linkWords, lossText } from "./loss-words.ts";
import { DEVICE_NAME } from "./node.ts";
import { deviceName, type TrainSettings } from "./train-options.ts";
import { listenNear, transportsOf } from "./transports.ts";

export interface JoinedDevice {
  readonly name: string;
  readonly address: string;
  readonly ref: Ref<Device>;
  /** The connection to it. */
  readonly peer: PeerInfo;
  /** Of a process started here. */
  readonly pid?: number;
}

/** Who is told what happens to the devices. */
export interface DeviceEvents {
  /** Nodes may come to this address. */
  listening?(address: string): void;
  /** There is none to begin with. */
  waiting?(): void;
  joined(device: JoinedDevice): void;
  /** It is gone in the middle of the run, or cannot be used. */
  left(name: string, reason: string): void;
  /** A line a device process wrote on its standard error. */
  said(name: string, line: string): void;
}

/** What a run begins with. */
export interface Opening {
  /** Processes to start. */
  readonly devices: number;
  /** Whether it goes on with what there is of these and of those that were named, be it one. */
  readonly lacks?: boolean;
  /**
   * Devices that may have something of the run, where they were. Nothing is said of those that are not there, but of those
   * that were named.
   */
  readonly known?: readonly Pick<JoinedDevice, "name" | "address">[];
}

type Take = (device: Ref<Device>) => Promise<unknown>;

/** How long a device process may take to end before it is killed. */
const PATIENCE_MS = 3000;
/** A process that died is known to have a moment after its sockets. */
const GRACE_MS = 500;

export class Devices {
  readonly node: NodeRuntime;
  /** All that have ever been there, by their places in the run. */
  readonly joined: JoinedDevice[] = [];
  private readonly settings: TrainSettings;
  private readonly events: DeviceEvents;
  /** Processes that were started here, by where they listen. */
  private readonly processes = new Map<string, Child>();
  private readonly children: Child[] = [];
  /** Those that are there, by node; and what they are called, also those that are just coming. */
  private readonly living = new Map<string, JoinedDevice>();
  private readonly names = new Map<string, string>();
  /** How many will be started again. */
  private returning = 0;
  /** What happened to those that were lost and are not got over yet, by name. */
  private readonly losses = new Map<string, Promise<string>>();
  private arrival = Promise.withResolvers<void>();
  /** How many the run has been given. */
  private given = 0;
  private take: Take | undefined;
  private closing = false;
  private isOver = false;

  constructor(settings: TrainSettings, events: DeviceEvents) {
    this.settings = settings;
    this.events = events;
    const { security, transport, heartbeat } = settings;
    const { token, coordinator } = security;
    this.node = new NodeRuntime({
      name: "coordinator",
      transports: transportsOf(security, transport),
      machine: machineId(),
      ...{ heartbeat, log: lineLog },
      ...(token === undefined ? {} : { token }),
      ...(coordinator ? { capabilities: { coordinator } } : {}),
    });
  }

  /**
   * Starts processes, connects to those that were named, in order, and listens where it is to. Resolves when there is one.
   * @throws LaunchError, RuntimeError in one line naming the device.
   */
  async open({ devices, lacks = false, known = [] }: Opening): Promise<void> {
    const { join, listen, security, transport } = this.settings;
    this.expectOpen();
    if (listen !== undefined) {
      const address = await this.node.listen(listen);
      this.events.listening?.(address);
      await listenNear(this.node, transportsOf(security, transport));
    }
    const starting = Array.from({ length: devices }, (_, i) => this.start(deviceName(i)));
    // All have to be known before one that failed may end this.
    for (const result of await Promise.allSettled(starting))
      if (result.status === "rejected") throw result.reason;
    const named = [...(await Promise.all(starting)), ...join];
    const names = new Map(known.map(({ name, address }) => [address, name]));
    await this.connectAll(named, lacks, names);
    const others = [...names.keys()].filter((address) => !named.includes(address));
    await Promise.all(others.map((each) => this.seek(each)));
    this.node.onPeer((event) => {
      if (event.type === "joined") void this.takeIn(event.peer);
    });
    for (const peer of this.node.peers()) await this.takeIn(peer);
    for (const address of join) this.node.join(address).first.catch(() => {});
    if (this.someIsThere) return;
    this.events.waiting?.();
    await this.someone();
  }

  /** Whether anybody is there. */
  get someIsThere(): boolean {
    return this.living.size > 0;
  }

  /** Whether one that was started here and is gone will be started again. */
  get someReturns(): boolean {
    return this.returning > 0;
  }

  /** Resolves when somebody is there. */
  async someone(): Promise<void> {
    while (!this.someIsThere) await this.arrival.promise;
  }

  /** Those that the run begins with. Whoever comes from here on is for `onDevice`. */
  present(): readonly Ref<Device>[] {
    this.given = this.joined.length;
    return this.joined.map(({ ref }) => ref);
  }

  /** Has those taken in that come; returns what ends that. */
  onDevice(take: Take): () => void {
    this.take = take;
    for (const device of this.joined.slice(this.given)) this.hand(device, take);
    return () => {
      this.take = undefined;
    };
  }

  /** Leaves the nodes and ends the processes that were started here; nothing is left behind. Idempotent. */
  async close(): Promise<void> {
    this.closing = true;
    const ending = this.children.map((child) => child.end(PATIENCE_MS));
    await Promise.all([...ending, this.node.close()]);
  }

  /** Whoever has this name and is there. */
  find(name: string): JoinedDevice | undefined {
    return [...this.living.values()].findLast((device) => device.name === name);
  }

  /** What one is called, or was, that has been there. */
  nameOf({ key }: Ref<Device>): string | undefined {
    return this.joined.findLast(({ ref }) => ref.key === key)?.name;
  }

  /** Starts a process again that was lost, after a while; nothing where it was not started here. */
  async startAgain(name: string, afterMs: number): Promise<void> {
    if (!this.joined.some((device) => device.name === name && device.pid !== undefined)) return;
    this.returning++;
    await this.node.clock.sleep(afterMs);
    if (this.closing) return;
    try {
      // Whoever is connected is taken in.
      await this.node.connect(await this.start(name));
    } catch (error) {
      this.tellLeft(name, (error as Error).message);
    } finally {
      this.returning--;
    }
  }

  /** Resolves when all has been told of those that are lost so far. */
  async toldLosses(): Promise<void> {
    await Promise.all(this.losses.values());
  }

  /** The run is over, once all is told of those that are lost so far: whoever leaves from here on, leaves nothing. */
  async over(): Promise<void> {
    await this.toldLosses();
    this.isOver = true;
  }

  /** The run goes on without these. Resolves when all has been told of them. */
  async gotOver(names: readonly string[]): Promise<void> {
    const told = names.map((name) => this.losses.get(name));
    for (const name of names) this.losses.delete(name);
    await Promise.all(told);
  }

  /** What happened to the last device that was lost and not got over, naming it; undefined when none was. */
  async lastLoss(): Promise<string | undefined> {
    const last = await [...this.losses.values()].at(-1);
    const nobody = this.joined.length > 1 && this.living.size === 0;
    return last && nobody ? `${last}, and nobody is left` : last;
  }

  private expectOpen(): void {
    if (this.closing) throw new LaunchError("the run was ended while its devices were starting");
  }

  /** @param names what devices were called that were at these addresses. */
  private async connectAll(
    addresses: readonly string[],
    lacks: boolean,
    names: ReadonlyMap<string, string>,
  ): Promise<void> {
    for (const [i, address] of addresses.entries()) {
      this.expectOpen();
      const isLast = i === addresses.length - 1 && this.settings.listen === undefined;
      const peer = await this.node.connect(address).catch((error: Error) => {
        if (!lacks || (isLast && this.living.size === 0)) throw error;
        this.events.left(names.get(address) ?? address, error.message);
        return null;
      });
      if (peer === null) continue;
      if (this.living.has(peer.id)) {
        throw new LaunchError(`${address} is the same node as another --join: give each node once`);
      }
      if (!(await this.takeIn(peer, address))) {
        throw new LaunchError(`${address} is a node without a device: start it with troupe node`);
      }
    }
  }

  /** Connects to what was a device's address, if one is there. */
  private async seek(address: string): Promise<void> {
    const peer = await this.node.connect(address).catch(() => null);
    if (peer) await this.takeIn(peer, address);
  }

  /**
   * A node is connected: a device is one of the run's from here on.
   * @param named its address, where that is known.
   * @returns whether it is one.
   */
  private async takeIn(peer: PeerInfo, named?: string): Promise<boolean> {
    const { id } = peer;
    const ref = await this.node.lookup<Device>(id, DEVICE_NAME).catch(() => null);
    if (!ref || this.closing) return false;
    if (this.living.has(id)) return true;
    const name = await this.nameFor(peer);
    // One that is gone again is told of as one that was there.
    await ref.ask.called(name).catch(() => {});
    if (this.closing) return false;
    if (this.living.has(id)) return true;
    const address = named ?? this.addressOf(peer);
    const child = this.processes.get(address);
    const device = { name, address, ref, peer, ...(child && { pid: child.pid }) };
    this.joined.push(device);
    this.living.set(id, device);
    this.node.monitor(ref, ({ reason }) => {
      this.living.delete(id);
      this.names.delete(id);
      if (!this.closing) this.losses.set(name, this.tellLoss(device, reason));
    });
    this.events.joined(device);
    this.arrival.resolve();
    this.arrival = Promise.withResolvers();
    if (this.take) this.hand(device, this.take);
    return true;
  }

  /** What a device that comes is called: as its node, unless another one is there that is. */
  private async nameFor({ id, name }: PeerInfo): Promise<string> {
    const same = this.find(name);
    // Who does not answer is being given up, and it may be the very one that comes.
    await same?.ref.ask.describe().catch(() => this.names.delete(same.peer.id));
    const taken = new Set(this.names.values());
    let own = this.names.get(id) ?? name;
    for (let count = 2; taken.has(own) && this.names.get(id) !== own; count++) own = `${name}-${count}`;
    this.names.set(id, own);
    return own;
  }

  /** Where a node can be found again: as before, where it has been here, else as it says itself. */
  private addressOf({ addresses, address }: PeerInfo): string {
    const before = this.joined.findLast((device) =>
      device.peer.addresses.some((other) => addresses.includes(other)),
    );
    const started = addresses.find((each) => this.processes.has(each));
    return started ?? before?.address ?? addresses.find((each) => each.startsWith("tcp:")) ?? address;
  }

  private hand(device: JoinedDevice, take: Take): void {
    take(device.ref).catch((error: Error) => {
      // Of one that is gone it has been told, and of a run that is over nobody asks.
      const isThere = this.living.get(device.peer.id) === device && this.take === take;
      if (isThere)
        this.tellLeft(device.name, `it cannot be used: ${linkWords(error.message, this.nameOfNode)}`);
    });
  }

  /** Starts one; resolves with its address. */
  private async start(name: string): Promise<string> {
    const { child, address } = startDevice(name, this.settings, this.node.clock, (line) => {
      if (!this.closing) this.events.said(name, line);
    });
    this.children.push(child);
    if (this.closing) void child.end(0);
    this.processes.set(await address, child);
    return address;
  }

  /** Of a node that is the run's, or was. */
  private readonly nameOfNode = (id: string): string | undefined =>
    this.joined.findLast(({ peer }) => peer.id === id)?.name;

  private tellLeft(name: string, why: string): void {
    if (!this.closing && !this.isOver) this.events.left(name, why);
  }

  /** Tells of a lost device. What ended a process started here says more than its broken connection. */
  private async tellLoss({ name, address }: JoinedDevice, reason: DownReason): Promise<string> {
    const child = this.processes.get(address);
    const ended = reason.code === "nodelost" && !isSilent(reason) ? child?.ended : undefined;
    const how = ended && (await Promise.race([ended, this.node.clock.sleep(GRACE_MS)]));
    const why = how ? `its process ended with ${how}` : lossText(reason, this.nameOfNode);
    this.tellLeft(name, why);
    // It has been given up: it must not wake up and go on.
    void child?.end(0);
    return `${name} is gone: ${why}`;
  }
}
