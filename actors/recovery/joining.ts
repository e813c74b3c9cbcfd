/**
 * Devices that join a run while it goes on: each is asked what it is and measured while the others work, one after the
 * other, and may be used from then on. One that comes back is a new one.
 */

import type { Clock, Ref } from "../../runtime/index.ts";
import type { Device } from "../device.ts";
import type { ClusterRequest } from "../profile.ts";
import { profileJoining } from "../profile-join.ts";
import type { DeviceInfo } from "../scheduler/cost.ts";
import { DEVICE_CLASSES } from "../scheduler/device-classes.ts";
import type { PlanOptions } from "../scheduler/planner.ts";
import type { Course } from "./course.ts";
import { Replanner } from "./replanner.ts";
import type { Known, Roster } from "./roster.ts";
import { survey } from "./survey.ts";

export class Joining {
  private readonly roster: Roster;
  private readonly course: Course;
  private readonly clock: Clock;
  private readonly request: () => ClusterRequest;
  private last: Promise<unknown>;

  /** @param started settles when the run goes on. @param request what is measured. */
  constructor(
    { roster, course, clock }: { readonly roster: Roster; readonly course: Course; readonly clock: Clock },
    started: Promise<unknown>,
    request: () => ClusterRequest,
  ) {
    this.roster = roster;
    this.course = course;
    this.clock = clock;
    this.request = request;
    this.last = started;
  }

  /** Takes in the device that was given this place. @throws what measuring it fails with. */
  async join(id: string): Promise<Known> {
    const joined = this.last.then(() => this.takeIn(id));
    this.last = joined.catch(() => {});
    return joined;
  }

  /** Has those measured that are there, of whom nothing is known: there may be other plans from then on. */
  survey(options: PlanOptions): void {
    const { roster, course, clock } = this;
    const surveyed = this.last.then(async () => {
      const { measured, devices } = await survey(roster, clock, this.request());
      const replanner = new Replanner(measured, devices.map(infoOf), options);
      replanner.follow(course.plan);
      course.moves.replanner = replanner;
    });
    // The run goes on by the plan that it has.
    this.last = surveyed.catch(() => {});
  }

  private async takeIn(id: string): Promise<Known> {
    const { roster, course } = this;
    const { replanner } = course.moves;
    let device: Known;
    try {
      device = await roster.ask(id);
      if (replanner) {
        const others = roster.living().map((other) => this.known(other));
        const before = replanner.measured();
        const { profile, key } = await profileJoining(this.known(device), others, before, this.request());
        replanner.add(infoOf(device), profile, key);
      }
      await course.enlist([id]);
      roster.ready(device);
    } catch (error) {
      roster.dismiss(id);
      throw error;
    }
    course.joined();
    return device;
  }

  private known(description: Known) {
    const { id } = description;
    return { id, description, device: this.roster.devices[Number(id)]! as Ref<Device> };
  }
}

/** A device as the planner sees it. */
export function infoOf({ id, name, memoryBytes, class: own }: Known): DeviceInfo {
  return { id, name, memoryBytes, power: DEVICE_CLASSES[own].power };
}
