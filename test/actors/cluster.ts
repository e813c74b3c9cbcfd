/** Devices in one process: each on a node of its own over a memory network, or all on one node. For tests. */

import type { FaultEffects } from "../../actors/chaos/injector.ts";
import { splitText } from "../../actors/data/corpus.ts";
import type { Feed } from "../../actors/data/feed.ts";
import { DataSource } from "../../actors/data/source.ts";
import { TextFeed } from "../../actors/data/text.ts";
import { Device } from "../../actors/device.ts";
import { Scheduler, type SchedulerOptions } from "../../actors/scheduler/scheduler.ts";
import { Stage } from "../../actors/stage.ts";
import type { EngineOptions } from "../../nn/engine/create.ts";
import { DEFAULT_ADAMW } from "../../nn/index.ts";
import { heldInputs, type Model } from "../../nn/model.ts";
import { gptModel } from "../../nn/models/gpt.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import {
  type Clock,
  heartbeatOf,
  MemoryNetwork,
  memory,
  NodeRuntime,
  type Ref,
  RuntimeError,
  type Transport,
} from "../../runtime/index.ts";

const CONFIG = { layers: 1, width: 8, heads: 2, context: 8, vocabulary: 256 };
const SEED = 7;
const ROWS = 2;
const MICRO_BATCHES = 4;
const TEXT = new TextEncoder().encode("the quick brown fox jumps over the lazy dog. ".repeat(40));

/** Of `makeCluster`'s devices, by their place. */
type DeviceClass = typeof Device;

export interface ClusterOptions {
  readonly devices: number;
  /** Of all devices, or of each. */
  readonly engine?: EngineOptions["engine"] | readonly EngineOptions["engine"][];
  /** On the coordinator's own node, rather than each on another. */
  readonly together?: boolean;
  /** Whether each says that it is on a machine of its own. */
  readonly apart?: boolean;
  /** What to start in a device's place. */
  readonly classOf?: (index: number) => DeviceClass;
  /** What faults do to the node of a device, where devices may be made to fail. */
  readonly effectsOf?: (host: NodeRuntime) => FaultEffects;
  readonly scheduling?: Partial<SchedulerOptions>;
  /** Of all nodes, and how long they are patient with each other; as of nodes when left out. */
  readonly clock?: Clock;
  readonly patienceMs?: number;
  /** Whether one node takes connections from another, by name; all do when left out. */
  readonly reaches?: (from: string, to: string) => boolean;
  /** Of `ids` i64 [8, 2] and `targets` i64 [16], unless there is a feed; a small GPT when left out. */
  readonly model?: Model;
  /** What the model reads instead of text. */
  readonly feed?: Feed;
}

export interface Cluster {
  /** For nodes that come later. */
  readonly network: MemoryNetwork;
  readonly coordinator: NodeRuntime;
  readonly devices: readonly Ref<Device>[];
  /** The nodes the devices are on. */
  readonly hosts: readonly NodeRuntime[];
  readonly scheduler: Ref<Scheduler>;
  readonly initial: Readonly<Record<string, Tensor>>;
  close(): Promise<void>;
}

export async function makeCluster(options: ClusterOptions): Promise<Cluster> {
  const { engine = "reference", together = false, apart = false, classOf = () => Device } = options;
  const network = new MemoryNetwork();
  const { clock, patienceMs, reaches = () => true } = options;
  const transportOf = (name: string): Transport => {
    const all = memory(network);
    return {
      ...{ scheme: all.scheme, listen: all.listen },
      connect: async (address, handlers) => {
        if (reaches(name, address.replace("memory://", ""))) return all.connect(address, handlers);
        throw new RuntimeError("CONNECT_FAILED", `no way from ${name} to ${address}`);
      },
    };
  };
  const create = (name: string) =>
    new NodeRuntime({
      ...{ name, transports: [transportOf(name)], actors: { Device, Stage }, log: () => {} },
      ...(clock && { clock }),
      ...(patienceMs !== undefined && { heartbeat: heartbeatOf(patienceMs) }),
    });
  const coordinator = create("coordinator");
  const hosts: NodeRuntime[] = [];
  const devices: Ref<Device>[] = [];
  for (let i = 0; i < options.devices; i++) {
    const host = together ? coordinator : create(`host-${i}`);
    hosts.push(host);
    const claims = apart ? { host: `machine-${i}` } : {};
    const own = typeof engine === "object" ? engine[i] : engine;
    const device = await host.spawn(classOf(i), [`device-${i}`, own, claims, options.effectsOf?.(host)], {
      name: `device-${i}`,
    });
    if (together) devices.push(device);
    else {
      const peer = await coordinator.connect(await host.listen(`memory://host-${i}`));
      devices.push((await coordinator.lookup<Device>(peer.id, `device-${i}`))!);
    }
  }
  const model = options.model ?? gptModel(CONFIG, ROWS);
  const scheduler = await lead(coordinator, devices, { ...options, model });
  return {
    ...{ network, coordinator, devices, hosts, scheduler },
    initial: Object.fromEntries(
      await Promise.all(heldInputs(model).map(async ({ name }) => [name, await model.initial(name, SEED)])),
    ),
    close: async () => {
      await coordinator.close();
      for (const host of hosts) await host.close();
    },
  };
}

/** What leads a run from a node: the scheduler of these devices, with a data source of its own. */
export async function lead(
  node: NodeRuntime,
  devices: readonly Ref<Device>[],
  { model, feed, scheduling }: Pick<ClusterOptions, "feed" | "scheduling"> & { readonly model: Model },
): Promise<Ref<Scheduler>> {
  const split = splitText({ name: "foxes", bytes: TEXT }, CONFIG.context);
  const { context } = CONFIG;
  const data = await node.spawn(DataSource, [
    feed ?? new TextFeed(split, { seed: SEED, context, rows: ROWS }),
  ]);
  return node.spawn(Scheduler, [
    devices,
    data,
    {
      model,
      seed: SEED,
      microBatches: MICRO_BATCHES,
      optimizer: { ...DEFAULT_ADAMW, warmup: 1, steps: 10 },
      strategy: devices.length > 1 ? "pipeline" : "single",
      schedule: "1f1b",
      recompute: false,
      // What is found out is not what these tests are about.
      profileMs: 10,
      ...scheduling,
    },
  ]);
}
