/**
 * Devices that join a run while it goes on: each is asked what it is and measured while the others work, one after the
 * other, and may be used from then on. One that comes back is a new one.
 */

import type { Ref } from "../../runtime/index.ts";
import type { Device } from "../device.ts";
import { type JoinRequest, profileJoining } from "../profile-join.ts";
import type { DeviceInfo } from "../scheduler/cost.ts";
import { DEVICE_CLASSES } from "../scheduler/device-classes.ts";
import type { Course } from "./course.ts";
import type { Known, Roster } from "./roster.ts";

export class Joining {
  private readonly roster: Roster;
  private readonly course: Course;
  private readonly request: () => JoinRequest;
  private last: Promise<unknown>;

  /** @param started settles when the run goes on. @param request what is measured. */
  constructor(roster: Roster, course: Course, started: Promise<unknown>, request: () => JoinRequest) {
    this.roster = roster;
    this.course = course;
    this.request = request;
    this.last = started;
  }

  /** Takes in the device that was given this place. @throws what measuring it fails with. */
  async join(id: string): Promise<Known> {
    const joined = this.last.then(() => this.takeIn(id));
    this.last = joined.catch(() => {});
    return joined;
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
