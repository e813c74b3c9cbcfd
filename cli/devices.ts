/**
 * The devices of a run: processes started here, or nodes that are running already. Either way each becomes a ref
 * to its `Device` actor, and someone is told when one is lost.
 */

import type { Fault } from "../actors/chaos/fault.ts";
import type { Device } from "../actors/device.ts";
import { type DownReason, NodeRuntime, type PeerInfo, type Ref } from "../runtime/index.ts";
import { type Child, startChild } from "../runtime/platform/children.ts";
import { machineId } from "../runtime/platform/machine.ts";
import { scriptCommand } from "../runtime/platform/process.ts";
import { LaunchError } from "./command.ts";
import { lineLog } from "./log.ts";
import { DEVICE_NAME } from "./node.ts";
import { TOKEN_VARIABLE } from "./security.ts";
import { deviceName, type TrainSettings } from "./train-options.ts";
import { transportsOf } from "./transports.ts";

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
  joined(device: JoinedDevice): void;
  /** It is gone in the middle of the run. */
  left(name: string, reason: string): void;
  /** A line a device process wrote on its standard error. */
  said(name: string, line: string): void;
}

/** How long a device process may take to end before it is killed. */
const PATIENCE_MS = 3000;
/** A device process starts in about half a second, and in ten on a single-board computer's first time. */
const START_MS = 60_000;

export class Devices {
  readonly node: NodeRuntime;
  readonly joined: JoinedDevice[] = [];
  private readonly children: { readonly name: string; readonly child: Child }[] = [];
  private readonly settings: TrainSettings;
  private readonly events: DeviceEvents;
  private closing = false;
  /** What happened to those that were lost and are not got over yet, by name. */
  private readonly losses = new Map<string, Promise<string>>();
  private lost = 0;

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
   * Starts so many, or joins those that were named, in order.
   * @param lacks whether a run goes on without those that cannot be reached, as long as there is one.
   * @throws LaunchError, RuntimeError in one line naming the device. */
  async open(devices: number, lacks = false): Promise<void> {
    const { join } = this.settings;
    this.expectOpen();
    const starting = Array.from({ length: devices }, (_, i) => this.start(deviceName(i)));
    // All have to be known before one that failed may end this.
    for (const result of await Promise.allSettled(starting))
      if (result.status === "rejected") throw result.reason;
    const addresses = join.length > 0 ? join : await Promise.all(starting);
    for (const [i, address] of addresses.entries()) {
      this.expectOpen();
      const peer = await this.node.connect(address).catch((error: Error) => {
        if (!lacks || (i === addresses.length - 1 && this.joined.length === 0)) throw error;
        this.events.left(address, error.message);
        return null;
      });
      if (peer === null) continue;
      const { id, name } = peer;
      if (this.joined.some((device) => device.ref.address.node === id)) {
        throw new LaunchError(`${address} is the same node as another --join: give each node once`);
      }
      const ref = await this.node.lookup<Device>(id, DEVICE_NAME);
      if (!ref) throw new LaunchError(`${address} is a node without a device: start it with troupe node`);
      const pid = this.children[i]?.child.pid;
      const device = { name, address, ref, peer, ...(pid === undefined ? {} : { pid }) };
      this.joined.push(device);
      this.node.monitor(ref, ({ reason }) => {
        if (this.closing) return;
        this.lost++;
        this.losses.set(name, this.tellLoss(device, reason, i));
      });
      this.events.joined(device);
    }
  }

  /** Leaves the nodes and ends the processes that were started here; nothing is left behind. Idempotent. */
  async close(): Promise<void> {
    this.closing = true;
    const ending = this.children.map(({ child }) => child.end(PATIENCE_MS));
    await Promise.all([...ending, this.node.close()]);
  }

  /** Has faults come over the devices that they name. @throws FaultsRefused of a node that does not let itself be broken. */
  async arm(faults: readonly Fault[]): Promise<void> {
    for (const { name, ref } of this.joined) {
      const own = faults.filter(({ device }) => device === name);
      if (own.length > 0) await ref.ask.arm(own);
    }
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
    const nobody = this.lost > 1 && this.lost === this.joined.length;
    return last && nobody ? `${last}, and nobody is left` : last;
  }

  private expectOpen(): void {
    if (this.closing) throw new LaunchError("the run was ended while its devices were starting");
  }

  /** Starts one; resolves with its address. */
  private start(name: string): Promise<string> {
    const listening = Promise.withResolvers<string>();
    let firstError: string | undefined;
    const child = startChild({
      command: [
        ...scriptCommand(new URL("./main.ts", import.meta.url)),
        ...["node", "--listen", "tcp://127.0.0.1:0", "--name", name, "--engine", this.settings.engine],
        ...["--transport", this.settings.transport, "--attached", "--json", "--insecure"],
        ...["--patience", `${this.settings.heartbeat.patienceMs}`],
        ...(this.settings.faults.length > 0 ? ["--chaos"] : []),
      ],
      environment: { [TOKEN_VARIABLE]: this.settings.security.token! },
      onOutput: (line) => listening.resolve(JSON.parse(line).address),
      onError: (line) => {
        firstError ??= line;
        if (!this.closing) this.events.said(name, line);
      },
    });
    this.children.push({ name, child });
    child.ended.then((how) => {
      const why = firstError ? firstError.replace(/^troupe: /, "") : how;
      listening.reject(new LaunchError(`${name} did not start: ${why}`));
    });
    const { clock } = this.node;
    const timer = clock.setTimer(
      () => listening.reject(new LaunchError(`${name} did not start within ${START_MS / 1000} s`)),
      START_MS,
    );
    return listening.promise.finally(() => clock.clearTimer(timer));
  }

  /** Tells of a lost device. What ended a process started here says more than its broken connection. */
  private async tellLoss({ name }: JoinedDevice, reason: DownReason, index: number): Promise<string> {
    const child = this.children[index]?.child;
    const silent = (reason.error?.cause as { code?: unknown } | undefined)?.code === "LINK_SILENT";
    const ended = reason.code === "nodelost" && !silent ? child?.ended : undefined;
    const how = ended && (await Promise.race([ended, this.node.clock.sleep(GRACE_MS)]));
    const why = how
      ? `its process ended with ${how}`
      : silent
        ? `it has been silent for ${Math.round(reason.silentMs ?? 0)} ms`
        : reason.message;
    this.events.left(name, why);
    // It has been given up: it must not wake up and go on.
    void child?.end(0);
    return `${name} is gone: ${why}`;
  }
}

/** A process that died is known to have a moment after its sockets. */
const GRACE_MS = 500;
