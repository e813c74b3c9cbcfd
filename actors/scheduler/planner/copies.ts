/**
 * Copies in a plan: whether its devices have room for those that a run is to survive losses with, besides all else that
 * they hold. Which device keeps whose is decided anew when the run begins, in the same way (`recovery/placement.ts`).
 */

import { copyRoom } from "../../recovery/room.ts";
import { changingBytes, type DeviceInfo, type Profile, type SegmentCost } from "../cost.ts";
import { type Plan, type PlanCopies, workersOf } from "../plan.ts";
import type { PlanCost } from "../plan-cost.ts";
import { PlanError } from "../plan-error.ts";

export interface CopiesInput {
  readonly devices: readonly DeviceInfo[];
  readonly profile: Pick<Profile, "hosts">;
  /** Of what each stage holds, on other devices. */
  readonly copies: number;
}

export interface CopiesOfPlan {
  /** By device id. */
  readonly bytes: ReadonlyMap<string, number>;
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
  const copied = costs.map(({ copyBytes }) => copyBytes);
  const { bytes, placement, full } = copyRoom(workers, copied, copies, others);
  const short = placement.short[0];
  const [crowded] = full;
  if (crowded !== undefined) {
    const { name, memoryBytes } = devices.find(({ id }) => id === crowded)!;
    const needed = (needs.get(crowded) ?? 0) + bytes.get(crowded)!;
    const refused = new PlanError(
      `with copies ${name} would need ${mebibytes(needed)} and has ${mebibytes(memoryBytes!)}`,
    );
    return { bytes, refused };
  }
  if (short === undefined) return { bytes };
  const { deviceName } = workers[short]!.member;
  return {
    bytes,
    refused: new PlanError(
      `no device has room for a copy of ${mebibytes(copied[short]!)} from ${deviceName}`,
    ),
  };
}

/** Copies of a plan that is given: as many as there is room for, by `copiesOf`. */
export function copiesThatFit(
  plan: Plan,
  cost: Pick<PlanCost, "workers">,
  { copies: asked, ...rest }: CopiesInput,
): { readonly said: PlanCopies; readonly bytes: CopiesOfPlan["bytes"] } {
  const { length } = rest.devices;
  for (let copies = Math.min(asked, length - 1); copies > 0; copies--) {
    const { bytes, refused } = copiesOf(plan, cost, { ...rest, copies });
    if (!refused) return { said: copiesSaid(asked, copies, length), bytes };
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

/** What a plan says of copies. @param count that there is room for. @param devices that there are. */
export function copiesSaid(asked: number, count: number, devices: number): PlanCopies {
  if (count === asked) return { asked, count, why: null };
  const few = devices === 1 ? "there is one device" : `there are ${devices} devices`;
  return { asked, count, why: count === devices - 1 ? few : "devices have no memory left for more" };
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
