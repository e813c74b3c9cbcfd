/**
 * Measures the devices of a run while it goes on: of one that another coordinator has begun, nobody here knows how fast they
 * are. Profiles of earlier runs are used where there are any. What is measured beside the work takes longer than it would
 * alone, of all of them alike; it is corrected by what steps take (`../drift.ts`).
 */

import type { Clock } from "../../runtime/index.ts";
import { type ClusterProfile, type ClusterRequest, profileCluster } from "../profile.ts";
import type { Known, Roster } from "./roster.ts";

export interface Surveyed {
  readonly measured: ClusterProfile;
  /** In the order in which they were measured. */
  readonly devices: readonly Known[];
}

/** A device may be lost while it is asked: then the others are asked again, so often and after this time. */
const MOST_TRIES = 3;
const PAUSE_MS = 1000;

/** @throws what a device or its engine fails with, where that is not because it is gone. */
export async function survey(roster: Roster, clock: Clock, request: ClusterRequest): Promise<Surveyed> {
  for (let tries = 1; ; tries++) {
    const devices = roster.living();
    const ids = devices.map(({ id }) => id);
    try {
      const refs = ids.map((id) => roster.devices[Number(id)]!);
      return { measured: await profileCluster(refs, devices, request, ids), devices };
    } catch (error) {
      if (tries === MOST_TRIES) throw error;
      await clock.sleep(PAUSE_MS);
    }
  }
}
