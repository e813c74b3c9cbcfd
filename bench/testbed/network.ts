/**
 * The network of a testbed: a switch (a bridge) in this namespace, and for each device a namespace of its own with one
 * cable to it. Both ends of a cable are throttled by tbf, so that a line has its rate in both directions; who is in this
 * namespace, the coordinator, is at the switch itself, and slowed by nothing but the devices' own lines.
 *
 * Addresses are of the range that RFC 2544 sets aside for benchmarks. Congestion control is pinned by the routes, since
 * the setting is one of the whole machine on this side, and may be restricted on the others.
 */

import { join } from "node:path";
import { bucketOf, type Line, QUEUE_MS } from "./link.ts";
import { bridgeName, namespaceName, portName, tapName } from "./names.ts";
import { command, readValue } from "./system.ts";

/** What Linux uses where nobody chose; in the devices of the published studies too. */
export const CONGESTION_CONTROL = "cubic";
const NETWORK = "198.18.0";
const PREFIX_BITS = 24;
const SWITCH = 254;
/** What a device's own end is called. */
const INTERFACE = "eth0";
const MAX_SEGMENT_BYTES = 65_536;

export const MOST_DEVICES = SWITCH - 1;
export const addressOf = (device: number) => `${NETWORK}.${device + 1}`;

/** Bytes through a device's cable since it was there, with all headers. */
export interface LineBytes {
  readonly sent: number;
  readonly received: number;
}

export class Network {
  private readonly owner: number;
  private readonly lines: readonly Line[];

  constructor(owner: number, lines: readonly Line[]) {
    this.owner = owner;
    this.lines = lines;
  }

  /** @throws TestbedError. What is there already stays, for `cleanUp`. */
  openSwitch(): void {
    const bridge = bridgeName(this.owner);
    command("ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0");
    command("ip", "link", "set", bridge, "gso_max_size", `${this.segmentBytes}`, "up");
    command("ip", "address", "add", `${NETWORK}.${SWITCH}/${PREFIX_BITS}`, "dev", bridge);
    command(...this.route(bridge, `${NETWORK}.${SWITCH}`));
    for (const device of this.lines.keys()) command("ip", "netns", "add", this.namespace(device));
  }

  /** A cable for a device without latency. @throws TestbedError. */
  layCable(device: number): void {
    const [port, tap] = [portName(this.owner, device), tapName(this.owner, device)];
    command("ip", "link", "add", port, "type", "veth", "peer", "name", tap);
    this.plugIn(device);
  }

  /** Connects the two ends `portName` and `tapName`, whatever lies between them. @throws TestbedError. */
  plugIn(device: number): void {
    const [port, tap] = [portName(this.owner, device), tapName(this.owner, device)];
    const segments = ["gso_max_size", `${this.segmentBytes}`];
    command("ip", "link", "set", tap, ...segments);
    command("ip", "link", "set", tap, "netns", this.namespace(device), "name", INTERFACE);
    command("ip", "link", "set", port, "master", bridgeName(this.owner), ...segments, "up");
    this.inside(device, "ip", "link", "set", "lo", "up");
    this.inside(device, "ip", "address", "add", `${addressOf(device)}/${PREFIX_BITS}`, "dev", INTERFACE);
    this.inside(device, "ip", "link", "set", INTERFACE, "up");
    this.inside(device, ...this.route(INTERFACE, addressOf(device)));
    this.inside(device, "sysctl", "-q", "-w", "net.ipv4.tcp_slow_start_after_idle=0");
    this.shape(device);
  }

  /** Throttles a device's line in both directions. @throws TestbedError. */
  shape(device: number): void {
    const { megabits } = this.lines[device]!;
    const { bytes } = bucketOf(megabits);
    const tbf = ["root", "tbf", "rate", `${megabits}mbit`, "burst", `${bytes}b`, "latency", `${QUEUE_MS}ms`];
    command("tc", "qdisc", "replace", "dev", portName(this.owner, device), ...tbf);
    this.inside(device, "tc", "qdisc", "replace", "dev", INTERFACE, ...tbf);
  }

  /** Lets a device's line go at full speed. @throws TestbedError. */
  unshape(device: number): void {
    command("tc", "qdisc", "del", "dev", portName(this.owner, device), "root");
    this.inside(device, "tc", "qdisc", "del", "dev", INTERFACE, "root");
  }

  /** @throws TestbedError. */
  bytes(device: number): LineBytes {
    const counter = (name: string) =>
      Number(readValue(join("/sys/class/net", portName(this.owner, device), "statistics", name)));
    return { sent: counter("rx_bytes"), received: counter("tx_bytes") };
  }

  namespace(device: number): string {
    return namespaceName(this.owner, device);
  }

  /** Pins congestion control for all connections within the network. */
  private route(device: string, from: string): string[] {
    const network = `${NETWORK}.0/${PREFIX_BITS}`;
    return ["ip", "route", "replace", network, "dev", device, "src", from, "congctl", CONGESTION_CONTROL];
  }

  private get segmentBytes(): number {
    // One for all: a frame that is larger than a line's bucket would be cut there, in software.
    const sizes = this.lines.map(({ megabits }) => bucketOf(megabits).segmentBytes ?? MAX_SEGMENT_BYTES);
    return Math.min(...sizes);
  }

  private inside(device: number, ...words: readonly string[]): void {
    command("nsenter", `--net=/run/netns/${this.namespace(device)}`, ...words);
  }
}
