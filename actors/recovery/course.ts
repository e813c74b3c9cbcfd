/**
 * The course of a run: by which plan it goes, as which deployment, and behind which step it is. Whatever is being done goes
 * on behind a change of it (`lasting`): devices are lost, and others take their places (`recovery.ts`), or there is a better
 * plan, and the run goes over to that between two steps (`migration.ts`).
 */

import type { Segment } from "../../nn/segments.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Clock, Ref } from "../../runtime/index.ts";
import { type Collected, collect, reattach } from "../journal/reattach.ts";
import type { PlanBefore } from "../journal/run-journal.ts";
import { Deployment } from "../scheduler/deployment.ts";
import { type Plan, workersOf } from "../scheduler/plan.ts";
import type { RecoveryOptions, RunRecovery, TakenOver } from "../scheduler/scheduler-options.ts";
import type { SpecOptions } from "../scheduler/specs.ts";
import { Keeper } from "./keeper.ts";
import { type Moved, type MoveWorld, migrate } from "./migration.ts";
import { placeReplicas } from "./placement.ts";
import { recover, successorPlan } from "./recovery.ts";
import { DeviceLost, type Loss, type Roster } from "./roster.ts";

export interface CourseWorld {
  readonly roster: Roster;
  readonly segments: readonly Segment[];
  /** For whose life stages run. */
  readonly owner: Ref<any>;
  readonly clock: Clock;
  readonly specs: Omit<SpecOptions, "generation">;
  /** A run without ends with the first loss. */
  readonly recovery: RecoveryOptions | undefined;
  /** Makes a step that has been made before, or that somebody waits for. */
  readonly repeat: (step: number) => Promise<unknown>;
}

export class Course {
  readonly keeper: Keeper;
  plan!: Plan;
  deployed!: Deployment;
  /** The last step that is committed, and the last that ever was; undefined before the first. */
  committed: number | undefined;
  reached = -1;
  /** To go on with from the next step on. */
  wanted: Plan | undefined;
  /** Counts deployments: what is left over from an earlier one is refused. */
  private generation = 1;
  private readonly world: CourseWorld;
  /** A recovery that no step has been committed behind yet. */
  private resuming: (Omit<RunRecovery, "resumeMs"> & { readonly at: number }) | undefined;

  constructor(world: CourseWorld) {
    this.world = world;
    this.keeper = new Keeper(world.roster.devices, world.owner);
    // What it costs when this is not known is time.
    this.keeper.tell = (step, copies) =>
      void world.recovery?.continuity?.pointed(step, copies).catch(() => {});
  }

  /** Starts the plan's stages and gives them what they hold, once. */
  async deploy(plan: Plan, values: Readonly<Record<string, Tensor>>): Promise<void> {
    const { roster, segments, owner } = this.world;
    const { continuity } = this.world.recovery ?? {};
    this.plan = plan;
    if (continuity) {
      const ids = roster.living().map(({ id }) => id);
      await collect({ devices: roster.devices, owner, keeper: this.keeper }, continuity.run, ids);
      await continuity.planned(plan, this.generation);
    }
    this.deployed = await Deployment.start(plan, segments, roster.devices, owner, this.specs());
    await this.deployed.load(values);
  }

  /** Goes on with what devices have kept of a run that another coordinator led, or with its last checkpoint. */
  async takeOver(before: PlanBefore): Promise<TakenOver> {
    const { roster, recovery } = this.world;
    const { run } = recovery!.continuity!;
    let collected: Collected | undefined;
    for (;;) {
      roster.takeLosses();
      try {
        const taken = await roster.guard(async () => {
          const world = this.moveWorld();
          const ids = roster.living().map(({ id }) => id);
          collected ??= await collect(world, run, ids);
          this.generation = Math.max(this.generation, before.generation, collected.generation);
          return reattach(world, before, collected, roster.living(), this.further());
        });
        if (!taken) throw new DeviceLost("no device of the run is left");
        this.reached = taken.step;
        await this.adopt(taken);
        const { step, bytes, fromCheckpoint, plan } = taken;
        return { step, movedBytes: bytes, fromCheckpoint, plan };
      } catch (error) {
        // Somebody was lost meanwhile.
        if (!(error instanceof DeviceLost) || roster.living().length === 0) throw error;
      }
    }
  }

  /** All gradients of a step are there, and all know its loss when it is committed. */
  async committing(step: number, loss: number): Promise<void> {
    await this.world.recovery?.continuity?.committing(step, loss);
  }

  /** Keeps what a run begins with, after `step`. */
  async begin(step: number): Promise<void> {
    this.committed = step;
    if (!this.world.recovery) return;
    await this.deployed.keep(step);
    this.place();
    this.keeper.kept(step);
  }

  /** A step is committed by all stages; `keeps` says that they have copied what it leaves. */
  commit(step: number, keeps: boolean): void {
    this.committed = step;
    this.reached = Math.max(this.reached, step);
    this.world.roster.advanced();
    if (keeps) this.keeper.kept(step);
    if (!this.resuming) return;
    const { at, ...recovery } = this.resuming;
    this.resuming = undefined;
    this.world.recovery!.tell({ ...recovery, resumeMs: this.world.clock.now() - at });
  }

  /** @throws what somebody was lost with: work for a deployment that is given up is not to go on. */
  requireCurrent(deployed: Deployment): void {
    if (this.deployed !== deployed || this.world.roster.hasLosses) {
      throw new DeviceLost("a device was lost meanwhile");
    }
  }

  /** Runs `work` when the run is behind step `after`, and again behind it whenever devices are lost meanwhile. */
  async lasting<T>(work: () => Promise<T>, after = this.reached): Promise<T> {
    const { roster, repeat, recovery } = this.world;
    for (;;) {
      try {
        return await roster.guard(async () => {
          while (this.committed !== undefined && this.committed < after) await repeat(this.committed + 1);
          return work();
        });
      } catch (error) {
        if (!(error instanceof DeviceLost) || !recovery || this.committed === undefined) throw error;
        await this.recover(error);
      }
    }
  }

  /** Goes on with the plan that is wanted, if there is one: between two steps. */
  async goOver(): Promise<void> {
    const next = this.wanted;
    this.wanted = undefined;
    if (next)
      await this.adopt(await migrate(this.moveWorld(), next, this.deployed, this.further(), this.committed!));
  }

  /** Goes on without the devices that are gone. @throws DeviceLost when nobody is left. */
  private async recover(loss: DeviceLost): Promise<void> {
    const { roster, clock } = this.world;
    const lost: Loss[] = [];
    const at = clock.now();
    for (;;) {
      lost.push(...roster.takeLosses());
      try {
        if (await roster.guard(() => this.goOn(lost, at))) return;
        throw loss;
      } catch (error) {
        // Somebody else was lost meanwhile.
        if (error === loss || !(error instanceof DeviceLost)) throw error;
      }
    }
  }

  /** @param lost nobody where devices have lost each other. @param at when it was known. */
  private async goOn(lost: readonly Loss[], at: number): Promise<boolean> {
    const { roster } = this.world;
    const { plan, deployed } = this;
    // It was for devices that are not all there any more.
    this.wanted = undefined;
    const options = this.further();
    const world = this.moveWorld();
    const next = successorPlan(world, plan, deployed, roster.lost(), roster.living());
    if (!next) return false;
    const recovered = await recover(world, next, deployed, (id) => !roster.isGone(id), options);
    await this.adopt(recovered);
    const { step, bytes, fromCheckpoint } = recovered;
    const first = lost[0] ?? { silentMs: 0, at };
    // Where somebody is lost again before a step is committed, it is all one.
    const before = this.resuming ?? {
      ...{ lost: [], detectMs: first.silentMs, at: first.at, movedBytes: 0, fromCheckpoint: false },
    };
    this.resuming = {
      ...{ ...before, plan: next, stepsLost: this.reached - step },
      lost: [...before.lost, ...lost.map(({ id }) => roster.name(id))],
      movedBytes: before.movedBytes + bytes,
      fromCheckpoint: before.fromCheckpoint || fromCheckpoint,
    };
    return true;
  }

  private async adopt({ plan, deployment, step }: Moved): Promise<void> {
    this.plan = plan;
    this.deployed = deployment;
    this.committed = step;
    this.place();
    this.keeper.kept(step);
    await this.world.recovery!.continuity?.planned(plan, this.generation);
  }

  /** Says where copies of what stages hold go from here on. */
  private place(): void {
    const needs = new Map<string, number>();
    for (const { device, memoryBytes } of this.plan.stages.flatMap(({ members }) => members)) {
      needs.set(device, (needs.get(device) ?? 0) + memoryBytes);
    }
    const devices = this.world.roster.living().map(({ id, host, memoryBytes }) => {
      return { id, host, freeBytes: memoryBytes - (needs.get(id) ?? 0) };
    });
    const bytes = this.deployed.held().map((each) => each.bytes);
    const { copies } = this.world.recovery!;
    this.keeper.watch(this.deployed, placeReplicas(workersOf(this.plan), bytes, copies, devices));
  }

  private specs(): SpecOptions {
    return { generation: this.generation, ...this.world.specs };
  }

  private further(): SpecOptions {
    this.generation++;
    return this.specs();
  }

  private moveWorld(): MoveWorld {
    const { roster, segments, owner, clock, recovery } = this.world;
    const isCurrent = ({ generation }: SpecOptions) => generation === this.generation && !roster.hasLosses;
    return {
      ...{ devices: roster.devices, segments, owner, clock, isCurrent },
      ...{ keeper: this.keeper, restart: recovery!.restart, fixed: recovery!.fixed },
    };
  }
}
