/**
 * Stages of a plan that a run is to go over to, made ready while it goes on by the plan that it has: each is started on its
 * device, compiles, and is given what training does not change. When the run goes over, between two steps, only what training
 * changes is left to be given, and nobody waits for a compiler.
 *
 * Nothing depends on it. Until the run goes over nobody else knows of these stages: no copies go there, the journal has the
 * plan as it is, and whoever takes the run over ends them. Where another plan is wanted, because somebody was lost or has come,
 * those that it has as well go on being made ready, and the others end. What has no room beside the stages that run is not
 * made ready: it is started when those have ended.
 */

import type { Segment } from "../../nn/segments.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Deployment, DeployOptions } from "../scheduler/deployment.ts";
import { DeviceFailed } from "../scheduler/device-failed.ts";
import type { Placed } from "../scheduler/handover.ts";
import { endStage, type Hosts, host } from "../scheduler/hosting.ts";
import { heldInGroups, type Part, partsOf } from "../scheduler/parts.ts";
import { chunksOf, type Plan, planPrograms, type Worker, workersOf } from "../scheduler/plan.ts";
import { canBecome } from "../scheduler/prepared.ts";
import { giveFixed } from "../scheduler/restoring.ts";
import { specsOf } from "../scheduler/specs.ts";
import type { StageSpec } from "../stage/spec.ts";
import { OWN_COPIES } from "./room.ts";

export interface PreparingWorld extends Hosts {
  readonly segments: readonly Segment[];
  /** Of devices that may be used. */
  living(): readonly { readonly id: string; readonly memoryBytes: number }[];
  /** Values that training does not change. */
  fixed(names: readonly string[]): Promise<Readonly<Record<string, Tensor>>>;
}

/** What the run goes on by meanwhile. */
export interface Present {
  readonly plan: Plan;
  readonly deployed: Deployment;
}

interface Coming {
  readonly worker: Worker;
  readonly spec: StageSpec;
  /** Settles when it is ready. */
  readonly placed: Promise<Placed>;
  ready: Placed | undefined;
  /** Whether it is of no use any more. */
  isReleased: boolean;
}

export class Preparing {
  private readonly world: PreparingWorld;
  private coming: Coming[] = [];

  constructor(world: PreparingWorld) {
    this.world = world;
  }

  /**
   * Makes ready what the plan has and the present one does not, as far as there is room. What was made ready for other plans,
   * and is not of this one, ends.
   * @param options of a generation that has no deployment.
   * @throws ProgramError for a plan that cannot be carried out, DeviceFailed for a device that cannot do its part of it.
   */
  async prepare(plan: Plan, present: Present, options: DeployOptions): Promise<void> {
    const parts = partsOf(options.model, this.world.segments, chunksOf(plan));
    const specs = specsOf(plan, parts, planPrograms(plan), options);
    const lacking = present.deployed.lacking(workersOf(plan), specs);
    const before = new Set(this.coming);
    const hasRoom = this.roomBeside(plan, present);
    this.coming = [];
    for (const worker of lacking) {
      const spec = specs[worker.worker]!;
      const known = [...before].find((each) => canBecome(each, worker, spec));
      if (known) before.delete(known);
      if (known) this.coming.push(known);
      else if (hasRoom(worker.member.device)) this.coming.push(this.start(worker, spec, parts, options));
    }
    for (const each of before) this.end(each);
    const failed = async (each: Coming, error: unknown) => {
      // Of a device that is lost nothing is wanted any more.
      if (!each.isReleased) throw error;
    };
    await Promise.all(this.coming.map((each) => each.placed.catch((error) => failed(each, error))));
  }

  /** Whoever takes those that are ready on these devices has them from here on; of those that are not, there they end. */
  take(isMeant: (device: string) => boolean): readonly Placed[] {
    const taken = this.coming.filter(({ worker }) => isMeant(worker.member.device));
    this.coming = this.coming.filter((each) => !taken.includes(each));
    for (const each of taken) if (!each.ready) this.end(each);
    return taken.flatMap((each) => each.ready ?? []);
  }

  /** Ends those that are on these devices; on all, when left out. */
  release(isMeant: (device: string) => boolean = () => true): void {
    const meant = this.coming.filter(({ worker }) => isMeant(worker.member.device));
    this.coming = this.coming.filter((each) => !meant.includes(each));
    for (const each of meant) this.end(each);
  }

  private start(worker: Worker, spec: StageSpec, parts: readonly Part[], options: DeployOptions): Coming {
    const placed = this.make(worker, spec, parts, options);
    const coming: Coming = { worker, spec, placed, ready: undefined, isReleased: false };
    placed.then(
      (ready) => {
        coming.ready = ready;
      },
      () => {
        this.coming = this.coming.filter((each) => each !== coming);
      },
    );
    return coming;
  }

  private async make(
    worker: Worker,
    spec: StageSpec,
    parts: readonly Part[],
    { optimizer }: DeployOptions,
  ): Promise<Placed> {
    const placed = await host(this.world, worker, spec);
    try {
      const groups = worker.positions.flatMap((position) => heldInGroups(parts[position]!, optimizer));
      await giveFixed(placed, groups, this.world.fixed);
      return { ...placed, has: "fixed" };
    } catch (error) {
      await endStage(this.world.devices, placed).catch(() => {});
      throw new DeviceFailed(worker, error);
    }
  }

  private end(each: Coming): void {
    each.isReleased = true;
    each.placed.then((placed) => endStage(this.world.devices, placed)).catch(() => {});
  }

  /** Whether a device has room for what it has in both plans, and for copies of what it holds now. */
  private roomBeside(plan: Plan, { plan: present, deployed }: Present): (device: string) => boolean {
    const taken = new Map<string, number>();
    const take = (device: string, bytes: number) => taken.set(device, (taken.get(device) ?? 0) + bytes);
    for (const { members } of [...present.stages, ...plan.stages]) {
      for (const { device, memoryBytes } of members) take(device, memoryBytes);
    }
    for (const { device, bytes } of deployed.held()) take(device, OWN_COPIES * bytes);
    const room = new Map(this.world.living().map(({ id, memoryBytes }) => [id, memoryBytes]));
    return (device) => (taken.get(device) ?? 0) <= (room.get(device) ?? 0);
  }
}
