/**
 * Where replicas go: pure. What a worker holds is to be on so many devices besides its own that any so many losses leave
 * a copy. Members of a stage that hold the same are each other's replicas already; of everything else a copy goes to
 * neighbours in the pipeline, which have a line to each other anyhow, and first to those with most memory left. Devices
 * of one machine are lost together, so another machine comes before another device.
 */

import type { Worker } from "../scheduler/plan.ts";

export interface ReplicaHost {
  readonly id: string;
  readonly host: string;
  /** Bytes that the plan leaves free. */
  readonly freeBytes: number;
}

export interface Placement {
  /** By worker: devices that are given a copy of what it holds. */
  readonly replicas: readonly (readonly string[])[];
  /** By worker: others that there is room on, the best first, for where one of those cannot be reached. */
  readonly reserves: readonly (readonly string[])[];
  /** Workers of which there will be fewer copies than asked for: there is no room for them, or no other device. */
  readonly short: readonly number[];
}

/**
 * @param workers of a plan. @param bytes that a replica takes, by worker. @param copies besides the worker's own.
 * @param devices that may hold copies, in the order of the plan's ids.
 */
export function placeReplicas(
  workers: readonly Worker[],
  bytes: readonly number[],
  copies: number,
  devices: readonly ReplicaHost[],
): Placement {
  const byId = new Map(devices.map((device) => [device.id, device]));
  const stagesOf = new Map<string, number[]>();
  for (const { stage, member } of workers) {
    const own = stagesOf.get(member.device);
    if (own) own.push(stage.stage);
    else stagesOf.set(member.device, [stage.stage]);
  }
  const free = new Map(devices.map(({ id, freeBytes }) => [id, freeBytes]));
  const stages = Math.max(...workers.map(({ stage }) => stage.stage)) + 1;
  const replicas: string[][] = [];
  const short: number[] = [];
  /** Devices that a further copy may go to, the best first. */
  const others = ({ worker, stage, member }: Worker, alike: readonly string[], chosen: readonly string[]) => {
    const having = [member.device, ...alike, ...chosen];
    const hosts = having.map((id) => byId.get(id)?.host);
    const distance = (id: string) => {
      const behind = (stagesOf.get(id) ?? []).map((at) => (at - stage.stage + stages) % stages || stages);
      return Math.min(stages + 1, ...behind);
    };
    const rank = ({ id, host }: ReplicaHost) => [hosts.includes(host) ? 1 : 0, distance(id), -free.get(id)!];
    return devices
      .filter(({ id }) => !having.includes(id) && free.get(id)! >= bytes[worker]!)
      .map((device) => ({ id: device.id, rank: rank(device) }))
      .sort((a, b) => compare(a.rank, b.rank))
      .map(({ id }) => id);
  };
  const byStage = Map.groupBy(workers, ({ stage }) => stage);
  const alikes = workers.map((worker) => alikeOf(worker, byStage.get(worker.stage)!));
  for (const worker of workers) {
    const alike = alikes[worker.worker]!;
    const chosen: string[] = [];
    while (chosen.length < copies - alike.length) {
      const [best] = others(worker, alike, chosen);
      if (best === undefined) {
        short.push(worker.worker);
        break;
      }
      chosen.push(best);
      free.set(best, free.get(best)! - bytes[worker.worker]!);
    }
    replicas.push(chosen);
  }
  // Only who gives copies to others may need another to give them to.
  const reserves = workers.map((worker) => {
    const chosen = replicas[worker.worker]!;
    return chosen.length === 0 ? [] : others(worker, alikes[worker.worker]!, chosen);
  });
  return { replicas, reserves, short };
}

/** Devices of other members who hold the very same. */
export function alikeOf(worker: Worker, workers: readonly Worker[]): string[] {
  const { sharing } = worker.stage;
  // With sequence sharing too everyone has all weights, and the same after every step.
  if (sharing !== "data" && sharing !== "sequence") return [];
  const others = workers.filter(({ stage, worker: own }) => stage === worker.stage && own !== worker.worker);
  return [...new Set(others.map(({ member }) => member.device))].filter((id) => id !== worker.member.device);
}

function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at < 0 ? 0 : a[at]! - b[at]!;
}
