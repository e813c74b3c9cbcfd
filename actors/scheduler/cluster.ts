/**
 * A cluster file: devices that are imagined, or described rather than measured, as JSON that people write by hand.
 *
 *     {
 *       "devices": [
 *         { "class": "raspberry-pi-4", "count": 3, "name": "pi" },
 *         { "class": "laptop", "memoryMiB": 4096, "busyWatts": 30 }
 *       ],
 *       "links": {
 *         "default": { "mbitPerS": 100, "latencyMs": 1 },
 *         "classes": [{ "from": "laptop", "to": "raspberry-pi-4", "mbitPerS": 50, "latencyMs": 3 }],
 *         "pairs": [{ "from": "pi-1", "to": "pi-2", "mbitPerS": 1000, "latencyMs": 0.2 }]
 *       },
 *       "churn": {
 *         "events": [{ "device": "pi-3", "atS": 60, "what": "leave" }],
 *         "rates": { "leavesPerHour": 0.5, "joinsPerHour": 6, "seed": 1 }
 *       }
 *     }
 *
 * Three of a name become `pi-1`, `pi-2`, `pi-3`; a device without a name has its class's. `gflops`, `memoryGBps`,
 * `memoryMiB`, `idleWatts`, `busyWatts`, `sentJoulesPerByte` and `receivedJoulesPerByte` replace what the class says. A
 * pair's link is what is written for the two, else for their classes, else the default; it holds both ways, unless the
 * other way is written too. Rates are of each device: how often one that is there leaves, and one that is away joins.
 *
 * What is read here is checked here: whoever has a `Cluster` need not look again.
 */

import type { DevicePower } from "../energy/model.ts";
import { type Entry, type Fields, object, ReadError } from "./cluster-fields.ts";
import type { DeviceInfo, LinkProfile } from "./cost.ts";
import { DEVICE_CLASSES, type DeviceClassName, isDeviceClass } from "./device-classes.ts";

/** What is wrong with a cluster file, in one line. */
export class ClusterError extends Error {
  readonly code = "CLUSTER";
  override readonly name = "ClusterError";
}

export interface ClusterDevice extends DeviceInfo {
  readonly class: DeviceClassName;
  readonly memoryBytes: number;
  readonly power: DevicePower;
  /** GFLOP/s (1e9) that training sustains, in f32. */
  readonly gflops: number;
  /** GB/s (1e9) of its memory. */
  readonly memoryGBps: number;
}

/** A device leaves or joins. */
export interface ChurnEvent {
  readonly atMs: number;
  readonly what: "leave" | "join";
  /** Its id. */
  readonly device: string;
}

/** Of each device: Poisson processes. */
export interface ChurnRates {
  readonly leavesPerHour: number;
  readonly joinsPerHour: number;
  readonly seed: number;
}

export interface Cluster {
  /** In the order of the file. Ids are names. */
  readonly devices: readonly ClusterDevice[];
  /** By device ids, `links[from][to]`; devices without a link of their own share a row with those of their class. */
  readonly links: Readonly<Record<string, Readonly<Record<string, LinkProfile>>>>;
  readonly churn: {
    /** By time. */
    readonly events: readonly ChurnEvent[];
    readonly rates: ChurnRates | null;
  };
}

/** A planner's question about more has no answer in time. */
const MOST_DEVICES = 10_000;

/** @throws ClusterError in one line that names what is wrong and where. */
export function readCluster(text: string): Cluster {
  try {
    const file = object(parse(text), "the cluster file");
    const devices = readDevices(file.list("devices"));
    const links = readLinks(devices, file.optional("links"));
    const churn = readChurn(devices, file.optional("churn"));
    file.noMore();
    return { devices, links, churn };
  } catch (error) {
    if (error instanceof ReadError) throw new ClusterError(error.message);
    throw error;
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ReadError(`the cluster file is not JSON: ${(error as Error).message}`);
  }
}

function readDevices(list: readonly Entry[]): ClusterDevice[] {
  const devices: ClusterDevice[] = [];
  const known = new Set<string>();
  for (const { value, where } of list) {
    const fields = object(value, where);
    const name = fields.text("class");
    if (!isDeviceClass(name)) {
      const classes = Object.keys(DEVICE_CLASSES).join(", ");
      throw new ReadError(`${where} is of class "${name}", known are ${classes}`);
    }
    const count = fields.count("count", 1);
    if (devices.length + count > MOST_DEVICES) {
      throw new ReadError(`${where} makes ${devices.length + count} devices, ${MOST_DEVICES} are the most`);
    }
    const base = fields.text("name", name);
    if (/\p{Cc}/u.test(base)) throw new ReadError(`${where}: name has control characters, people read it`);
    const own = readDevice(name, fields);
    fields.noMore();
    for (let i = 1; i <= count; i++) {
      const id = count === 1 ? base : `${base}-${i}`;
      if (known.has(id)) throw new ReadError(`two devices are called ${id}: give ${where} another name`);
      known.add(id);
      devices.push({ id, name: id, ...own });
    }
  }
  if (devices.length === 0) throw new ReadError("the cluster has no devices, at least 1 is needed");
  return devices;
}

/** What no processor is slower than: times of a step would be no numbers. */
const LEAST_SPEED = 1e-6;

function speed(fields: Fields, name: string, otherwise: number): number {
  const found = fields.positive(name, otherwise);
  if (found >= LEAST_SPEED) return found;
  throw new ReadError(`${fields.where} has ${name} ${found}, the least is ${LEAST_SPEED}`);
}

function readDevice(name: DeviceClassName, fields: Fields): Omit<ClusterDevice, "id" | "name"> {
  const { gflops, memoryGBps, memoryBytes, power } = DEVICE_CLASSES[name];
  const idleWatts = fields.number("idleWatts", power.idleWatts);
  const busyWatts = fields.number("busyWatts", Math.max(idleWatts, power.busyWatts));
  if (busyWatts < idleWatts) {
    throw new ReadError(
      `${fields.where} draws ${busyWatts} W busy and ${idleWatts} W idle: busy is the more`,
    );
  }
  return {
    class: name,
    gflops: speed(fields, "gflops", gflops),
    memoryGBps: speed(fields, "memoryGBps", memoryGBps),
    memoryBytes: fields.positive("memoryMiB", memoryBytes / 2 ** 20) * 2 ** 20,
    power: {
      idleWatts,
      busyWatts,
      sentJoulesPerByte: fields.number("sentJoulesPerByte", power.sentJoulesPerByte),
      receivedJoulesPerByte: fields.number("receivedJoulesPerByte", power.receivedJoulesPerByte),
    },
  };
}

function readLinks(devices: readonly ClusterDevice[], given: Entry | undefined): Cluster["links"] {
  const fields = given ? object(given.value, given.where) : object({}, "links");
  const ordinary = fields.optional("default");
  const byDefault = ordinary && readLink(object(ordinary.value, ordinary.where));
  const ids = new Set(devices.map(({ id }) => id));
  const pairs = readTable(fields.list("classes", []), (name, where) => {
    if (!isDeviceClass(name)) throw new ReadError(`${where} names class "${name}", which there is not`);
  });
  const own = readTable(fields.list("pairs", []), (name, where) => {
    if (!ids.has(name))
      throw new ReadError(`${where} names device "${name}", which the cluster does not have`);
  });
  fields.noMore();

  const rowOf = (from: ClusterDevice): Record<string, LinkProfile> => {
    const row = devices.flatMap((to): [string, LinkProfile][] => {
      const link = own.get(from.id)?.get(to.id) ?? pairs.get(from.class)?.get(to.class) ?? byDefault;
      if (link) return [[to.id, link]];
      if (from.id === to.id) return [];
      throw new ReadError(`there is no link from ${from.id} to ${to.id}: write one, or a "default" in links`);
    });
    return Object.fromEntries(row);
  };
  // Thousands of devices have millions of pairs, but few kinds of them.
  const rows = new Map<string, Record<string, LinkProfile>>();
  const entriesOf = devices.map((from): [string, Record<string, LinkProfile>] => {
    if (own.has(from.id)) return [from.id, rowOf(from)];
    const row = rows.get(from.class) ?? rowOf(from);
    rows.set(from.class, row);
    return [from.id, row];
  });
  return Object.fromEntries(entriesOf);
}

type LinkTable = ReadonlyMap<string, ReadonlyMap<string, LinkProfile>>;

/** Links by their two ends, the other way too where nothing else is written. */
function readTable(list: readonly Entry[], check: (name: string, where: string) => void): LinkTable {
  const table = new Map<string, Map<string, LinkProfile>>();
  const put = (from: string, to: string, link: LinkProfile) => {
    const row = table.get(from) ?? new Map<string, LinkProfile>();
    table.set(from, row.set(to, link));
  };
  const read = list.map(({ value, where }) => {
    const fields = object(value, where);
    const [from, to] = [fields.text("from"), fields.text("to")];
    check(from, where);
    check(to, where);
    return { from, to, where, link: readLink(fields) };
  });
  for (const { from, to, where, link } of read) {
    if (table.get(from)?.has(to)) throw new ReadError(`${where} is a second link from ${from} to ${to}`);
    put(from, to, link);
  }
  for (const { from, to, link } of read) {
    if (!table.get(to)?.has(from)) put(to, from, link);
  }
  return table;
}

function readLink(fields: Fields): LinkProfile {
  // A Mbit/s is 125 bytes in a millisecond.
  const bytesPerMs = fields.positive("mbitPerS") * 125;
  const latencyMs = fields.number("latencyMs", 0);
  fields.noMore();
  return { latencyMs, bytesPerMs };
}

/** Who comes and goes faster than that is no device of a run: a run takes as long to know of it. */
const MOST_PER_HOUR = 3600;

function readChurn(devices: readonly ClusterDevice[], given: Entry | undefined): Cluster["churn"] {
  const fields = given ? object(given.value, given.where) : object({}, "churn");
  const ids = new Set(devices.map(({ id }) => id));
  const events = fields.list("events", []).map(({ value, where }): ChurnEvent => {
    const event = object(value, where);
    const [device, what] = [event.text("device"), event.text("what")];
    if (!ids.has(device))
      throw new ReadError(`${where} names device "${device}", which the cluster does not have`);
    if (what !== "leave" && what !== "join")
      throw new ReadError(`${where}: what is "${what}", not leave or join`);
    const atMs = event.number("atS") * 1000;
    event.noMore();
    return { atMs, what, device };
  });
  const entry = fields.optional("rates");
  fields.noMore();
  return { events: events.sort((a, b) => a.atMs - b.atMs), rates: entry ? readRates(entry) : null };
}

function readRates({ value, where }: Entry): ChurnRates {
  const fields = object(value, where);
  const rate = (name: string, otherwise?: number) => {
    const perHour = fields.number(name, otherwise);
    if (perHour <= MOST_PER_HOUR) return perHour;
    throw new ReadError(
      `${where}: ${name} is ${perHour}, at most ${MOST_PER_HOUR} is possible: one a second`,
    );
  };
  const rates = {
    leavesPerHour: rate("leavesPerHour"),
    joinsPerHour: rate("joinsPerHour", 0),
    seed: fields.number("seed", 0),
  };
  fields.noMore();
  return rates;
}
