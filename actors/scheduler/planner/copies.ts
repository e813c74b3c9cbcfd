/**
 * Copies in a plan: whether its devices have room for those that a run is to survive losses with, besides all else that
 * they hold, and how often its lines have time for them. Which device keeps whose is decided anew when the run begins, in
 * the same way (`recovery/placement.ts`).
 */

import { type CopyFlow, keepEvery } from "../../recovery/pace.ts";
import { copyRoom } from "../../recovery/room.ts";
import { changingBytes, type DeviceInfo, type Profile, type SegmentCost, transferMs } from "../cost.ts";
import { type Plan, type PlanCopies, type Worker, workersOf } from "../plan.ts";
import type { PlanCost, WorkerCost } from "../plan-cost.ts";
import { PlanError } from "../plan-error.ts";
import { sentBytes } from "./traffic.ts";

export interface CopiesInput {
  readonly devices: readonly DeviceInfo[];
  readonly profile: Profile;
  /** Of what each stage holds, on other devices. */
  readonly copies: number;
}

export interface CopiesOfPlan {
  /** By device id. */
  readonly bytes: ReadonlyMap<string, number>;
  /** By worker: devices that are given copies of what it holds. */
  readonly replicas: readonly (readonly string[])[];
  /** Whether there is room to make them of gradients. */
  readonly follows: boolean;
  /** Why there is no room for them. */
  readonly refused?: PlanError;
}

/** What copies take on each device, next to what the plan's stages need. */
export function copiesOf(
  plan: Plan,
  { workers: costs }: Pick<PlanCost, "workers">,
  { devices, profile: { hosts = {} }, copies }: CopiesInput,
): CopiesOfPlan {
  const workers = workersOf(plan);
  const needs = new Map<string, number>();
  for (const { worker, member } of workers) {
    needs.set(member.device, (needs.get(member.device) ?? 0) + costs[worker]!.memoryBytes);
  }
  const others = devices.map(({ id, memoryBytes = Number.POSITIVE_INFINITY }) => {
    return { id, host: hosts[id] ?? id, freeBytes: memoryBytes - (needs.get(id) ?? 0) };
  });
  const sizes = costs.map(({ copyBytes, gradientBytes }) => ({ bytes: copyBytes, gradientBytes }));
  const { bytes, placement, full, follows } = copyRoom(workers, sizes, copies, others);
  const { replicas } = placement;
  const short = placement.short[0];
  const [crowded] = full;
  if (crowded !== undefined) {
    const { name, memoryBytes } = devices.find(({ id }) => id === crowded)!;
    const needed = (needs.get(crowded) ?? 0) + bytes.get(crowded)!;
    const refused = new PlanError(
      `with copies ${name} would need ${mebibytes(needed)} and has ${mebibytes(memoryBytes!)}`,
    );
    return { bytes, replicas, follows, refused };
  }
  if (short === undefined) return { bytes, replicas, follows };
  const { deviceName } = workers[short]!.member;
  return {
    ...{ bytes, replicas, follows },
    refused: new PlanError(
      `no device has room for a copy of ${mebibytes(sizes[short]!.bytes)} from ${deviceName}`,
    ),
  };
}

/**
 * Steps from one that is kept to the next, such that copies go in time in which lines would be idle: every one where
 * there is time for the gradients that others make copies of, and else as many as whole copies take. A line that nobody has
 * measured, because the plan needs none, takes no time.
 */
export function copiesEvery(
  plan: Plan,
  cost: PlanCost,
  { replicas, follows }: Pick<CopiesOfPlan, "replicas" | "follows">,
  profile: Profile,
): number {
  // Members of a stage who hold the same are each other's copies.
  if (replicas.every((to) => to.length === 0)) return 1;
  const every = (given: (cost: WorkerCost) => number) =>
    keepEvery(flowsOf(plan, cost, replicas, profile, given), plan.predictedStepMs);
  if (follows && every(({ gradientBytes, copyBytes }) => gradientBytes ?? copyBytes) === 1) return 1;
  return every(({ copyBytes }) => copyBytes);
}

/** @param given bytes that a worker gives each of those who have copies of what it holds. */
function flowsOf(
  plan: Plan,
  cost: PlanCost,
  replicas: CopiesOfPlan["replicas"],
  profile: Profile,
  given: (cost: WorkerCost) => number,
): Iterable<CopyFlow> {
  const workers = workersOf(plan);
  const traffic = sentBytes(plan, cost);
  const lines = new Map<string, CopyFlow>();
  const add = (line: string, copyMs: number, busyMs: number) => {
    const before = lines.get(line) ?? { copyMs: 0, busyMs: 0 };
    lines.set(line, { copyMs: before.copyMs + copyMs, busyMs: Math.max(before.busyMs, busyMs) });
  };
  const ofDevice = Map.groupBy(workers, ({ member }) => member.device);
  const sum = (own: readonly Worker[], what: "sentBytes" | "receivedBytes") =>
    own.reduce((all, { worker }) => all + traffic[worker]![what], 0);
  for (const { worker, member } of workers) {
    for (const to of replicas[worker]!) {
      const link = profile.links[member.device]?.[to];
      if (!link) continue;
      const copyMs = transferMs(given(cost.workers[worker]!), link);
      const busy = (device: string, what: "sentBytes" | "receivedBytes") =>
        transferMs(sum(ofDevice.get(device) ?? [], what), link);
      add(`from ${member.device}`, copyMs, busy(member.device, "sentBytes"));
      add(`to ${to}`, copyMs, busy(to, "receivedBytes"));
    }
  }
  return lines.values();
}

/** Copies of a plan that is given: as many as there is room for. */
export function copiesThatFit(
  plan: Plan,
  cost: PlanCost,
  { copies: asked, ...rest }: CopiesInput,
): { readonly said: PlanCopies; readonly bytes: CopiesOfPlan["bytes"] } {
  const { length } = rest.devices;
  for (let copies = Math.min(asked, length - 1); copies > 0; copies--) {
    const found = copiesOf(plan, cost, { ...rest, copies });
    if (found.refused) continue;
    const every = copiesEvery(plan, cost, found, rest.profile);
    return { said: copiesSaid(asked, copies, length, every), bytes: found.bytes };
  }
  return { said: copiesSaid(asked, 0, length), bytes: new Map() };
}

/** Segments with so many copies of what training changes counted as held: for searches that know nothing of copies. */
export function withCopies(segments: readonly SegmentCost[], count: number): readonly SegmentCost[] {
  if (count === 0) return segments;
  return segments.map((segment) => ({
    ...segment,
    frozenBytes: (segment.frozenBytes ?? 0) + count * changingBytes(segment),
  }));
}

/** What a plan says of copies. @param count that there is room for. @param devices that there are. @param every so many steps. */
export function copiesSaid(asked: number, count: number, devices: number, every = 1): PlanCopies {
  if (count === asked) return { asked, count, every, why: null };
  const few = devices === 1 ? "there is one device" : `there are ${devices} devices`;
  return { asked, count, every, why: count === devices - 1 ? few : "devices have no memory left for more" };
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
