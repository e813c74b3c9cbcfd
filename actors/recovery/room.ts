/**
 * The room that copies take: pure. A run can go back to what its last steps left because everyone keeps copies of it, of
 * its own and of what others hold; this says how much of each device's memory that is, and whether there is as much.
 *
 * While copies of a step are on their way, those of the step before are kept: two of everything. What a checkpoint is being
 * written from is kept besides, by whoever holds it. Where copies are made of gradients, those take room too: of a step
 * where they are made, and of as many as would be a copy where they come from. Without that room copies are given whole.
 */

import { type Plan, type Worker, workersOf } from "../scheduler/plan.ts";
import { alikeOf, type Placement, placeReplicas, type ReplicaHost } from "./placement.ts";
import { type CopySize, mostUpdates } from "./updates.ts";

/** Copies that a stage has of what it holds at most: of two steps, and of the one that a checkpoint is written from. */
export const OWN_COPIES = 3;
/** Copies that a replica has of what it keeps of another: the complete one, and the one that is coming in. */
export const REPLICA_COPIES = 2;

export interface CopyRoom {
  readonly placement: Placement;
  /** By device id, what copies take of its memory at most; devices without any are left out. */
  readonly bytes: ReadonlyMap<string, number>;
  /** Ids of devices that have no room for copies of what they hold themselves. */
  readonly full: readonly string[];
  /** Whether there is room to make copies of gradients, where that can be. */
  readonly follows: boolean;
}

/** A device that may hold copies: `freeBytes` is what the plan's stages leave of its memory. */
export type CopyHost = ReplicaHost;

/**
 * Where copies go in what the stages of a plan leave of devices' memory, and whether there is room to make them of gradients.
 * @param sizes of one copy of what each worker holds. @param devices that may hold copies.
 */
export function placementFor(
  plan: Plan,
  sizes: readonly CopySize[],
  copies: number,
  devices: readonly { readonly id: string; readonly host: string; readonly memoryBytes: number }[],
): Pick<CopyRoom, "placement" | "follows"> {
  const needs = new Map<string, number>();
  for (const { device, memoryBytes } of plan.stages.flatMap(({ members }) => members)) {
    needs.set(device, (needs.get(device) ?? 0) + memoryBytes);
  }
  const hosts = devices.map(({ id, host, memoryBytes }) => {
    return { id, host, freeBytes: memoryBytes - (needs.get(id) ?? 0) };
  });
  return copyRoom(workersOf(plan), sizes, copies, hosts);
}

/**
 * @param workers of a plan. @param sizes of one copy of what each holds, by worker.
 * @param copies of it on other devices.
 */
export function copyRoom(
  workers: readonly Worker[],
  sizes: readonly CopySize[],
  copies: number,
  devices: readonly CopyHost[],
): CopyRoom {
  const followed = sizes.some(({ gradientBytes }) => gradientBytes !== null);
  const found = followed && roomFor(workers, sizes, copies, devices);
  if (found && found.full.length === 0 && found.placement.short.length === 0) {
    return { ...found, follows: true };
  }
  const whole = sizes.map(({ bytes }) => ({ bytes, gradientBytes: null }));
  return { ...roomFor(workers, whole, copies, devices), follows: false };
}

function roomFor(
  workers: readonly Worker[],
  sizes: readonly CopySize[],
  copies: number,
  devices: readonly CopyHost[],
): Omit<CopyRoom, "follows"> {
  const bytes = new Map<string, number>();
  const add = (device: string, more: number) => bytes.set(device, (bytes.get(device) ?? 0) + more);
  for (const each of workers) {
    const size = sizes[each.worker]!;
    const gives = alikeOf(each, workers).length < copies;
    add(each.member.device, OWN_COPIES * size.bytes + (gives ? loggedBytes(size) : 0));
  }
  const hosts = devices.map((device) => ({
    ...device,
    freeBytes: device.freeBytes - (bytes.get(device.id) ?? 0),
  }));
  const taken = sizes.map((size) => REPLICA_COPIES * size.bytes + (size.gradientBytes ?? 0));
  const placement = placeReplicas(workers, taken, copies, hosts);
  placement.replicas.forEach((to, worker) => {
    for (const id of to) add(id, taken[worker]!);
  });
  const full = hosts.filter(({ freeBytes }) => freeBytes < 0).map(({ id }) => id);
  return { placement, bytes, full };
}

/** That a stage takes at most for gradients that others make copies of. */
function loggedBytes({ bytes, gradientBytes }: CopySize): number {
  return gradientBytes === null ? 0 : mostUpdates(bytes, gradientBytes) * gradientBytes;
}
