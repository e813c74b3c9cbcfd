/**
 * Devices that join a run while it goes on: each is asked what it is and measured while the others work, and may be used from
 * then on. Several are measured at once, but not of one machine: these would share its processor, and are mostly alike.
 * One that comes back is a new one.
 */

import type { Clock, Ref } from "../../runtime/index.ts";
import type { Device } from "../device.ts";
import type { ClusterRequest } from "../profile.ts";
import { type JoinedProfile, peersOf, profileJoining } from "../profile-join.ts";
import type { DeviceInfo } from "../scheduler/cost.ts";
import { DEVICE_CLASSES } from "../scheduler/device-classes.ts";
import type { PlanOptions } from "../scheduler/planner.ts";
import type { Course } from "./course.ts";
import { Replanner } from "./replanner.ts";
import type { Known, Roster } from "./roster.ts";
import { survey } from "./survey.ts";

/** Devices that are measured at the same time: a run does not have its lines full of measurements. */
const AT_ONCE = 8;

export class Joining {
  private readonly roster: Roster;
  private readonly course: Course;
  private readonly clock: Clock;
  private readonly request: () => ClusterRequest;
  /** Settles when devices may be measured. */
  private begun: Promise<unknown>;
  /** By turns, and by machine: who is measured last of those that have come so far. */
  private readonly turns: Promise<unknown>[] = Array.from({ length: AT_ONCE }, () => Promise.resolve());
  private readonly hosts = new Map<string, Promise<unknown>>();
  private count = 0;
  /** Who is taken in last. */
  private last: Promise<unknown> = Promise.resolve();

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
    this.begun = started;
  }

  /** Takes in the device that was given this place. @throws what measuring it fails with. */
  async join(id: string): Promise<Known> {
    return this.begun.then(() => this.takeIn(id));
  }

  /** Has those measured that are there, of whom nothing is known: there may be other plans from then on. */
  survey(options: PlanOptions): void {
    const { roster, course, clock } = this;
    const surveyed = this.begun.then(async () => {
      const { measured, devices } = await survey(roster, clock, this.request());
      const replanner = new Replanner(measured, devices.map(infoOf), options);
      replanner.follow(course.plan);
      course.moves.replanner = replanner;
    });
    // The run goes on by the plan that it has.
    this.begun = surveyed.catch(() => {});
  }

  private async takeIn(id: string): Promise<Known> {
    const { roster, course } = this;
    let device: Known;
    try {
      device = await roster.ask(id);
      await this.inTurn(device.host, async () => {
        const joined = await this.measure(device);
        const taken = this.last.then(() => course.enlist([id]));
        this.last = taken.catch(() => {});
        await taken;
        if (joined) course.moves.replanner?.add(infoOf(device), joined);
        roster.ready(device);
      });
    } catch (error) {
      roster.dismiss(id);
      throw error;
    }
    course.joined();
    return device;
  }

  /** Null where nobody plans by what devices are measured as. */
  private async measure(device: Known): Promise<JoinedProfile | null> {
    const { replanner } = this.course.moves;
    if (!replanner) return null;
    const others = this.roster.living().map((other) => this.known(other));
    const joining = this.known(device);
    const peers = peersOf(joining, others, this.course.plan);
    return profileJoining(joining, others, peers, replanner.measured(), this.request());
  }

  /** Does this when nobody else of the same machine is measured, and not too many others are. */
  private inTurn<T>(host: string, work: () => Promise<T>): Promise<T> {
    const before = this.hosts.get(host) ?? Promise.resolve();
    const turn = this.count++ % AT_ONCE;
    const done = before.then(() => {
      const own = this.turns[turn]!.then(work);
      this.turns[turn] = own.catch(() => {});
      return own;
    });
    this.hosts.set(
      host,
      done.catch(() => {}),
    );
    return done;
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
