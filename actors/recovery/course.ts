/**
 * The course of a run: by which plan it goes, as which deployment, and behind which step it is. Whatever is being done goes
 * on behind a change of it (`lasting`): devices are lost, and others take their places (`recovery.ts`), or there is a better
 * plan, and the run goes over to that between two steps (`migration.ts`).
 */

import type { Tensor } from "../../protocols/tensor.ts";
import type { Down } from "../../runtime/index.ts";
import { type Collected, collect, reattach } from "../journal/reattach.ts";
import type { PlanBefore } from "../journal/run-journal.ts";
import { Deployment, type DeployOptions } from "../scheduler/deployment.ts";
import { DeviceFailed } from "../scheduler/device-failed.ts";
import { withoutWork } from "../scheduler/newcomers.ts";
import { type Plan, usesDevice, workersOf } from "../scheduler/plan.ts";
import type { TakenOver } from "../scheduler/scheduler-options.ts";
import type { CourseWorld } from "./course-world.ts";
import { Keeper } from "./keeper.ts";
import { neighboursOf } from "./links.ts";
import { goOver, keepAll, type Moved, type MoveWorld } from "./migration.ts";
import { Moves } from "./moves.ts";
import { Preparing } from "./preparing.ts";
import { planWithout, recover } from "./recovery.ts";
import { Resuming } from "./resuming.ts";
import { placementFor } from "./room.ts";
import { BegunAgain, DeviceLost, type Loss } from "./roster.ts";
import { toldOf } from "./takeover.ts";
import { gainOf } from "./updates.ts";

export class Course {
  readonly keeper: Keeper;
  plan!: Plan;
  deployed!: Deployment;
  /** The last step that is committed, and the last that ever was; undefined before the first. */
  committed: number | undefined;
  reached = -1;
  readonly moves: Moves;
  private readonly preparing: Preparing;
  /** The plan of a deployment that is being made. */
  private target: Plan | undefined;
  /** Counts deployments: what is left over from an earlier one is refused. */
  private generation = 0;
  /** The last number that was drawn for one, or for what may become one. */
  private drawn = 0;
  private readonly world: CourseWorld;
  private readonly resuming: Resuming;

  constructor(world: CourseWorld) {
    this.world = world;
    this.resuming = new Resuming(world.clock);
    const { roster, segments, owner, recovery } = world;
    this.preparing = new Preparing({
      ...{ devices: roster.devices, segments, owner, living: () => roster.living() },
      fixed: (names) => recovery!.fixed(names),
    });
    this.moves = new Moves(world, {
      prepare: (plan) => this.prepare(plan),
      release: () => this.preparing.release(),
    });
    this.keeper = new Keeper(world.roster.devices, world.owner, world.clock);
    world.roster.neighbourhood = {
      neighbours: () => [this.plan, this.target].flatMap((plan) => (plan ? neighboursOf(plan) : [])),
      leftOut: (id, why) => this.leaveOut(id, why),
    };
    this.keeper.changed = (cost) => world.recovery?.copying?.(cost);
    // What it costs when this is not known is time.
    this.keeper.tell = (step, copies) => {
      this.deployed.forgetBefore(step);
      void world.recovery?.continuity?.pointed(step, copies).catch(() => {});
    };
  }

  /** Starts the plan's stages and gives them what they hold, once. Of those that do not get it all, none is left. */
  async deploy(plan: Plan, values: Readonly<Record<string, Tensor>>): Promise<void> {
    const { roster, segments, owner, clock } = this.world;
    this.plan = plan;
    const options = this.further();
    await this.enlist(roster.living().map(({ id }) => id));
    await this.world.recovery?.continuity?.planned(plan, this.generation);
    const began = clock.now();
    this.deployed = await Deployment.start(plan, segments, roster.devices, owner, options);
    this.moves.started(clock.now() - began);
    try {
      await this.deployed.load(values);
    } catch (error) {
      await this.deployed.end(roster.devices);
      throw error;
    }
  }

  /** The run begins without these: told behind its first step. */
  lacks(lost: readonly Loss[]): void {
    const { roster } = this.world;
    const names = lost.map(({ id }) => roster.name(id));
    if (lost[0])
      this.resuming.begin(
        { losses: lost, names, at: lost[0].at, keptEvery: this.keeper.cost.every },
        this.plan,
      );
  }

  /** What these devices have of the run, they keep for a while when whoever leads it is lost. */
  async enlist(ids: readonly string[]): Promise<void> {
    const { roster, owner, recovery } = this.world;
    if (!recovery?.continuity) return;
    await collect({ devices: roster.devices, owner, keeper: this.keeper }, recovery.continuity, ids);
  }

  /** Goes on with what devices have kept of a run that another coordinator led, or with its last checkpoint. */
  async takeOver(before: PlanBefore): Promise<TakenOver> {
    const { roster, recovery } = this.world;
    const { continuity } = recovery!;
    let collected: Collected | undefined;
    for (;;) {
      roster.takeLosses();
      try {
        const taken = await roster.guard(async () => {
          const world = this.moveWorld();
          const ids = roster.living().map(({ id }) => id);
          collected ??= await collect(world, continuity!, ids);
          this.drawn = Math.max(this.drawn, before.generation, collected.generation);
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
    this.resuming.passed();
    // Those that were through with it and are gone are done without from here on, which is still to come.
    if (!this.deployed.lacksSome) this.recovered();
  }

  /** Tells of a recovery that the run has come out of. */
  private recovered(): void {
    const { roster, recovery } = this.world;
    const told = this.resuming.end(this.plan);
    if (!told) return;
    const there = roster.present().map((id) => roster.name(id));
    recovery!.tell({ ...told, plan: toldOf(told.plan, there) });
  }

  /** @throws what somebody was lost with: work for a deployment that is given up is not to go on. */
  requireCurrent(deployed: Deployment): void {
    if (this.deployed !== deployed || deployed.isOver || this.world.roster.hasLosses) {
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
        if (!(error instanceof DeviceLost) || !recovery) throw error;
        // What the run begins with is kept nowhere yet: it is begun with again.
        this.committed ??= after;
        await this.recover(error);
      }
    }
  }

  /** The last step is made: what is left of going over to another plan is told. */
  async end(): Promise<void> {
    const { moves, plan, deployed } = this;
    // Whoever is lost behind it has been given what it held all the same.
    if (moves.isInFirstStep) moves.over(plan, await deployed.givenLate().catch(() => 0));
    moves.end();
  }

  /** Another device is there, which copies may go to. */
  joined(): void {
    if (this.committed !== undefined) this.place();
    this.moves.because("joined");
    this.world.roster.arrived();
  }

  /** A device is gone; where the run needs it, nothing goes on without. */
  lose(id: string, down: Down): void {
    const { roster } = this.world;
    const keptCopies = this.keeper.lose(id);
    this.preparing.release((device) => device === id);
    this.moves.lose(id);
    const isNeeded = [this.plan, this.target].some((plan) => plan && usesDevice(plan, id));
    if (this.committed === undefined || isNeeded) roster.lose(id, down);
    else {
      roster.dismiss(id);
      if (keptCopies && this.world.recovery) this.place();
    }
  }

  /** The run goes on without a device that lives: what that does for it is over, and nobody asks it for copies. */
  private leaveOut(id: string, why: string): void {
    const { roster, owner, recovery } = this.world;
    this.keeper.lose(id);
    void roster.devices[Number(id)]!.ask.dismiss(owner).catch(() => {});
    recovery?.leftOut?.(roster.name(id), why);
  }

  /** Has stages of a plan to come made ready. Of a run that has not begun there is nothing yet. */
  private async prepare(plan: Plan): Promise<void> {
    if (this.committed !== undefined) await this.preparing.prepare(plan, this, this.specs(++this.drawn));
  }

  /** What a plan begins with; null where that is the plan. Whoever makes no passes has no statistics to give the others. */
  private firstOf(plan: Plan): Plan | null {
    if (this.world.segments.some(({ statistics }) => Object.keys(statistics).length > 0)) return null;
    const first = withoutWork(plan, this.plan);
    return first && (this.moves.replanner?.overfull(first) ?? null) === null ? first : null;
  }

  /** Goes on with the plan that is wanted, if there is one whose stages are ready: between two steps. */
  async goOver(): Promise<void> {
    const next = this.moves.takeNext(this.committed! + 1);
    if (!next) return;
    const { plan } = next.wanted;
    const { deployed } = this;
    const { clock } = this.world;
    const step = this.committed!;
    const began = clock.now();
    const { generation } = this;
    this.target = plan;
    const lateBytes = await keepAll(this, deployed, step);
    // Whoever was lost meanwhile is dealt with by others: this is given up, and takes no generation from them.
    if (this.generation !== generation) throw new DeviceLost("a device was lost meanwhile");
    this.requireCurrent(deployed);
    const options = this.further();
    try {
      const prepared = this.preparing.take((device) => usesDevice(plan, device));
      const first = this.firstOf(plan);
      const moved = await goOver(
        ...([this.moveWorld(), first ?? plan, deployed, options, step, prepared] as const),
      );
      await this.adopt(moved);
      const { bytes } = moved;
      const change = { plan: moved.plan, isFirst: first !== null, bytes, lateBytes };
      this.moves.went(next, { ...change, ms: clock.now() - began });
    } catch (error) {
      if (!(error instanceof DeviceFailed) || !this.moveWorld().isCurrent(options)) throw error;
      await this.adopt(await goOver(this.moveWorld(), this.plan, deployed, this.further(), step));
      this.moves.stayed(next, this.plan, clock.now() - began, error.message);
    }
  }

  /** Goes on without the devices that are gone. @throws DeviceLost when those that are left cannot, and nobody may join. */
  private async recover(loss: DeviceLost): Promise<void> {
    const { roster, clock, recovery } = this.world;
    const lost: Loss[] = [];
    const at = clock.now();
    let told: string | undefined;
    let goesOn = !(loss instanceof BegunAgain);
    for (;;) {
      if (!goesOn) this.moves.underWay.end();
      lost.push(...roster.takeLosses());
      // What still goes on with those who were lost is to conclude nothing.
      this.generation++;
      const arrival = roster.nextArrival;
      try {
        const missing = await roster.guard(async () => {
          // Who is coming may have what there are no copies of now: a coordinator that stood still has lost everyone at once.
          await roster.expect(() => this.keeper.ledger.point(this.deployed.changingNames()) === null);
          return this.goOn(lost, at, goesOn, loss.message);
        });
        if (missing === null) {
          const { resuming, committed } = this;
          if (told !== undefined) recovery!.resumed?.({ ...resuming.soFar!, step: committed! });
          if (committed === this.world.lastStep()) this.recovered();
          return;
        }
        if (!recovery!.paused) throw loss;
        const reason = `${lost.map(({ id }) => roster.name(id)).join(", ")} gone: ${missing}`;
        if (reason !== told) recovery!.paused(reason);
        told = reason;
        await arrival;
      } catch (error) {
        // Somebody else was lost meanwhile.
        if (error === loss || !(error instanceof DeviceLost)) throw error;
        goesOn &&= !(error instanceof BegunAgain);
      }
    }
  }

  /**
   * @param lost nobody where devices have lost each other, and behind it. @param at when it was known. @param goesOn whether those that are
   *   through with the step under way need not be there. @param why what has happened, where nobody was lost.
   * @returns what is missing to go on; null when nothing is.
   */
  private async goOn(lost: Loss[], at: number, goesOn: boolean, why: string): Promise<string | null> {
    const { roster } = this.world;
    const { deployed } = this;
    await this.world.settle((id) => !roster.isGone(id));
    const committed = this.committed!;
    const { every: keptEvery } = this.keeper.cost;
    // One that was cut off and has come again may have copies of steps that the run has gone back behind since.
    this.keeper.ledger.forgetAfter(committed);
    const options = this.further();
    const world = this.moveWorld();
    const { recovery } = this.world;
    const through = goesOn ? deployed.devicesThrough(committed + 1) : new Set<string>();
    const { moves } = this;
    const within = { roster, ...moves.within(committed + 1), waits: recovery!.paused !== undefined, through };
    const next = planWithout(world, this.plan, deployed, within);
    // What is wanted was for devices that are not all there any more, unless others do their part in both plans.
    if (typeof next === "string" || workersOf(next).length === workersOf(this.plan).length) this.moves.drop();
    if (typeof next === "string") return next;
    this.target = next;
    // Whoever takes the place of another has its memory for that.
    this.preparing.release((device) => usesDevice(next, device));
    const recovered = await recover(world, next, deployed, (id) => !roster.isGone(id), options, committed);
    const adopted = this.adopt(recovered);
    // Those that are lost from here on are others.
    const losses = lost.splice(0);
    const names = losses.map(({ id }) => roster.name(id));
    this.resuming.add({ losses, names, at, keptEvery, why }, recovered, committed - recovered.step);
    this.moves.because("lost");
    await adopted;
    return null;
  }

  private async adopt({ plan, deployment, step, startMs }: Moved): Promise<void> {
    this.plan = plan;
    this.target = undefined;
    if (!deployment.handed.goesOn) this.moves.underWay.end();
    this.moves.started(startMs);
    this.moves.replanner?.follow(plan);
    this.deployed = deployment;
    this.committed = step;
    this.place();
    deployment.whenResumed(() => {
      if (this.deployed === deployment && this.committed === step) this.keeper.kept(step);
    });
    await this.world.recovery!.continuity?.planned(plan, this.generation);
  }

  /** Says where copies of what stages hold go from here on. */
  private place(): void {
    const held = this.deployed.held();
    const { roster, recovery } = this.world;
    const { placement, follows } = placementFor(this.plan, held, recovery!.copies, roster.living());
    this.keeper.watch(this.deployed, placement, this.plan.copies?.every ?? 1, follows ? gainOf(held) : 1);
  }

  private specs(generation: number): DeployOptions {
    const recovers = this.world.recovery !== undefined;
    return { generation, isOver: () => generation !== this.generation, recovers, ...this.world.specs };
  }

  private further(): DeployOptions {
    this.generation = ++this.drawn;
    return this.specs(this.generation);
  }

  private moveWorld(): MoveWorld {
    const { roster, segments, owner, clock, recovery, feed } = this.world;
    const isCurrent = ({ generation }: DeployOptions) => generation === this.generation && !roster.hasLosses;
    return {
      midway: this.moves.underWay.isIn((this.committed ?? -2) + 1),
      ...{ devices: roster.devices, segments, owner, clock, isCurrent, feed },
      ...{ keeper: this.keeper, restart: recovery!.restart, fixed: recovery!.fixed },
    };
  }
}
