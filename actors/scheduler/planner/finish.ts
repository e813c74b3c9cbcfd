/** From what was chosen to the plan that is told: with what it is called, why devices are used, and room for copies. */

import { OWN_COPIES, REPLICA_COPIES } from "../../recovery/room.ts";
import type { Plan, PlanDevice } from "../plan.ts";
import { PlanError } from "../plan-error.ts";
import { strategyOf } from "./candidates.ts";
import { copiesEvery, copiesOf, copiesSaid } from "./copies.ts";
import { planDigest } from "./digest.ts";
import { type Outcome, Workshop } from "./draft.ts";
import type { CheckedOptions, PlanRequest } from "./options.ts";

/** Makes outcomes for a request. @param copies that there must be room for. */
export function workshopFor(request: PlanRequest, { objective }: CheckedOptions, copies: number): Workshop {
  const { segments, devices, profile, options } = request;
  const { stashBytes = 0, microBatches } = options;
  return new Workshop({ segments, devices, profile, stashBytes, copies, microBatches, objective });
}

/** @param copies that it has room for. @param devices with their reasons. */
export function finished(
  request: PlanRequest,
  { strategy }: CheckedOptions,
  { plan, cost, draft }: Outcome,
  copies: number,
  devices: readonly PlanDevice[],
): Plan {
  const found = copiesOf(plan, cost, { ...request, copies });
  const { bytes } = found;
  const every = copies > 0 ? copiesEvery(plan, cost, found, request.profile) : 1;
  const kept = (id: string) => (copies > 0 && bytes.has(id) ? { copyBytes: bytes.get(id)! } : {});
  const { copies: asked = 0 } = request.options;
  return {
    ...plan,
    digest: planDigest(request),
    strategy: strategy === "pipeline" ? "pipeline" : strategyOf(draft),
    devices: devices.map((device) => ({ ...device, ...kept(device.id) })),
    ...(asked > 0 && { copies: copiesSaid(asked, copies, request.devices.length, every) }),
  };
}

/**
 * The plan with the most copies, of as many as are asked for at most.
 * @param make with room for so many copies, each stage being taken to hold so many more of what training changes.
 * @throws PlanError of the last attempt, without copies.
 */
export function withMostCopies(
  { devices, options }: PlanRequest,
  make: (copies: number, held: number) => Plan,
): Plan {
  for (let copies = Math.min(options.copies ?? 0, devices.length - 1); copies > 0; copies--) {
    // A search does not know who keeps whose: as if nobody kept any of another, then as if everyone kept what they have.
    for (const held of [OWN_COPIES, OWN_COPIES + REPLICA_COPIES * copies]) {
      try {
        return make(copies, held);
      } catch (error) {
        if (!(error instanceof PlanError)) throw error;
      }
    }
  }
  return make(0, 0);
}
