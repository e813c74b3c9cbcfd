/**
 * The scheduler: has the devices measured, makes the plan, deploys the stages, and drives the steps through the
 * commit gate. Its thinking is pure and lives beside it (`partition`, `schedule`, `plan`, `simulate`); this file is
 * its hands.
 *
 * The commit gate: every stage reports when it has all gradients of a step; only when all have is the step
 * committed, which updates the parameters of every stage. A failure before that leaves the parameters of all
 * stages as the step before left them.
 *
 * Devices may be lost at any time. Stages keep copies of what steps leave, for themselves and for each other
 * (`recovery/keeper.ts`), so that the run goes on with those that are left (`recovery/recovery.ts`): from the latest step
 * of which there are copies of everything, whatever was being done.
 */

import type { Model } from "../../nn/model.ts";
import { diverged, firstNonFinite } from "../../nn/optim/finite.ts";
import type { OptimizerConfig } from "../../nn/optim/optimizer.ts";
import { findSegments, type Segment } from "../../nn/segments.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import { Actor, type Down, type Ref } from "../../runtime/index.ts";
import type { DataSource } from "../data/source.ts";
import type { Device, DeviceDescription, DeviceUsage } from "../device.ts";
import { type DriftWatch, watchPlan } from "../drift.ts";
import { type ClusterProfile, measuredFor, profileCluster } from "../profile.ts";
import type { ProfileCache } from "../profile-cache.ts";
import { Keeper, type KeepingCost } from "../recovery/keeper.ts";
import { placeReplicas } from "../recovery/placement.ts";
import { type Restart, recover } from "../recovery/recovery.ts";
import type { StepReport } from "../stage.ts";
import { Deployment } from "./deployment.ts";
import { DEVICE_CLASSES } from "./device-classes.ts";
import { segmentSizes } from "./parts.ts";
import { type Plan, workersOf } from "./plan.ts";
import { requirePlan } from "./plan-check.ts";
import { makePlan, type PlanOptions } from "./planner.ts";
import type { SpecOptions } from "./specs.ts";

export interface SchedulerOptions extends PlanOptions {
  readonly optimizer: OptimizerConfig;
  readonly model: Model;
  /** What randomness inside the model is drawn from. */
  readonly seed: number;
  /** Carried out as it is, with nothing measured; its devices' ids are their places in the order they are given in. */
  readonly plan?: Plan;
  /** Milliseconds of runs on each machine to measure its devices; two seconds when left out. */
  readonly profileMs?: number;
  /** Where profiles of earlier runs are; devices are measured every time when left out. */
  readonly profiles?: ProfileCache;
  /**
   * How a run survives the loss of devices; it ends with the first one when left out.
   */
  readonly recovery?: RecoveryOptions;
}

export interface RecoveryOptions {
  /** Copies of what each stage holds that others keep: so many devices may be lost at once. */
  readonly copies: number;
  /** What the run can begin with when no copies are left. */
  restart(): Promise<Restart>;
  /** Values that training does not change. */
  fixed(names: readonly string[]): Promise<Readonly<Record<string, Tensor>>>;
  /** Hears of every recovery once the run goes on: behind the first step that is committed after it. */
  tell(recovery: RunRecovery): void;
}

/** What the loss of devices has cost. */
export interface RunRecovery {
  /** Names of the devices that were lost. */
  readonly lost: readonly string[];
  /** Milliseconds from the last sign of life of the first of them until it was known to be gone. */
  readonly detectMs: number;
  /** From there to the next step that was committed. */
  readonly resumeMs: number;
  /** Steps that had been committed and were repeated. */
  readonly stepsLost: number;
  /** Bytes that stages were given. */
  readonly movedBytes: number;
  readonly fromCheckpoint: boolean;
  /** The plan that the run goes on with. */
  readonly plan: Plan;
}

export interface StepResult {
  readonly step: number;
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  /** Scaled gradients overflowed: nothing was updated, and the loss's scale was halved. */
  readonly skipped: boolean;
  readonly reports: readonly StepReport[];
  /** Devices of which it is known since this step that they are not as fast as they were measured to be. */
  readonly drifted: readonly DriftedDevice[];
}

/** A device that takes so many times as long as predicted. */
export interface DriftedDevice {
  readonly device: string;
  readonly factor: number;
}

export class DeviceLost extends Error {
  readonly code = "DEVICE_LOST";
  override readonly name = "DeviceLost";
}

/** A device that is gone, since when nothing was heard of it, and when that was known. */
interface Loss {
  readonly id: string;
  readonly silentMs: number;
  readonly at: number;
}

export class Scheduler extends Actor {
  readonly #devices: readonly Ref<Device>[];
  readonly #data: Ref<DataSource>;
  readonly #options: SchedulerOptions;
  readonly #segments: readonly Segment[];
  #descriptions: readonly DeviceDescription[] = [];
  #plan: Plan | undefined;
  /** Of a plan that was made here, and what the devices' profiles are kept under. */
  #watch: DriftWatch | null = null;
  #profileKeys: readonly string[] = [];
  #deployed!: Deployment;
  /** The feed of the step that comes next, begun while the one before it runs. */
  #fed: { step: number; done: Promise<void> } | undefined;
  /** The step that comes next where it has begun already, right behind the commit of the one before it. */
  #begun: { step: number; reports: Promise<StepReport[]> } | undefined;
  /** The first loss that has not been recovered from. */
  #lost: DeviceLost | undefined;
  #giveUp: (error: DeviceLost) => void = () => {};
  /** Ids of all devices that are gone, and of those among them that the plan still has. */
  readonly #gone = new Set<string>();
  readonly #unhandled: Loss[] = [];
  readonly #recovery: RecoveryOptions | undefined;
  #keeper!: Keeper;
  /** Counts deployments: what is left over from an earlier one is refused. */
  #generation = 1;
  /** The last step that is committed, and the last that ever was; undefined before the first. */
  #committed: number | undefined;
  #reached = -1;
  #lastStep = 0;
  /** A recovery that no step has been committed behind yet. */
  #resuming: (Omit<RunRecovery, "resumeMs"> & { readonly at: number }) | undefined;

  constructor(devices: readonly Ref<Device>[], data: Ref<DataSource>, options: SchedulerOptions) {
    super();
    this.#devices = devices;
    this.#data = data;
    this.#options = options;
    this.#recovery = options.recovery;
    this.#segments = findSegments(options.model);
  }

  override onStart(): void {
    this.#keeper = new Keeper(this.#devices, this.context.self);
    for (const device of this.#devices) this.context.monitor(device);
  }

  /** A device is gone; the first loss is the one that is told. */
  override onDown(down: Down): void {
    const index = this.#devices.findIndex((device) => device.key === down.ref.key);
    const name = this.#descriptions[index]?.name ?? `device ${index + 1}`;
    this.#gone.add(`${index}`);
    this.#keeper.lose(`${index}`);
    const silentMs = down.reason.silentMs ?? 0;
    this.#unhandled.push({ id: `${index}`, silentMs, at: this.context.clock.now() });
    this.#lost ??= new DeviceLost(`${name} is gone: ${down.reason.message}`);
    this.#giveUp(this.#lost);
  }

  /** Measures the devices and makes the plan. @throws PlanError in one line when there is none. */
  async plan(): Promise<Plan> {
    return this.#guard(async () => {
      this.#descriptions = await Promise.all(this.#devices.map((device) => device.ask.describe()));
      if (this.#options.plan) {
        const { model, microBatches, optimizer, plan } = this.#options;
        const segments = this.#segments.map((segment) => ({
          ...{ name: `segment ${segment.index}`, stashBytes: 0 },
          ...segmentSizes(model, segment, optimizer),
        }));
        requirePlan(plan, { segments, microBatches, devices: this.#devices.map((_, i) => `${i}`) });
        this.#plan = plan;
        return this.#plan;
      }
      const { segments, profile, keys } = await this.#measure();
      const devices = this.#descriptions.map(({ name, memoryBytes, class: own }, i) => {
        return { id: `${i}`, name, memoryBytes, power: DEVICE_CLASSES[own].power };
      });
      this.#plan = makePlan({ segments, devices, profile, options: this.#options });
      const { stashBytes = 0 } = this.#options;
      this.#watch = watchPlan(this.#plan, { segments, devices, profile, stashBytes });
      this.#profileKeys = keys;
      return this.#plan;
    });
  }

  /**
   * Starts the plan's stages and gives them what they hold, once: parameters, frozen values and statistics, and the
   * optimiser's state where given. The tensors are borrowed until it is done.
   */
  async deploy(values: Readonly<Record<string, Tensor>>): Promise<void> {
    await this.#guard(async () => {
      const { self } = this.context;
      this.#deployed = await Deployment.start(
        this.#plan!,
        this.#segments,
        this.#devices,
        self,
        this.#specOptions(),
      );
      await this.#deployed.load(values);
    });
  }

  /**
   * One training step: fed, run, and committed on every stage.
   * @param follows whether the next one is asked for directly: stages then go on to it from the commit, and do not stand
   *   still while its result is told. Whatever else is asked of them meanwhile waits until they are through, and finds
   *   weights as this step leaves them.
   */
  async step(step: number, lastStep: number, follows = false): Promise<StepResult> {
    this.#lastStep = lastStep;
    this.#reached = Math.max(this.#reached, step - 1);
    return this.#lasting(async () => {
      if (this.#committed === undefined) await this.#begin(step - 1);
      return this.#step(step, follows);
    }, step - 1);
  }

  async #step(step: number, follows: boolean): Promise<StepResult> {
    const lastStep = this.#lastStep;
    const destination = this.#deployed.destination();
    const fed = this.#fed?.step === step ? this.#fed.done : this.#data.ask.feed(step, destination);
    const running = this.#begun?.step === step ? this.#begun.reports : this.#deployed.train(step);
    this.#begun = undefined;
    // The next step's data travels while this one computes.
    if (step < lastStep) {
      const done = this.#data.ask.feed(step + 1, destination);
      done.catch(() => {});
      this.#fed = { step: step + 1, done };
    }
    const [reports] = await Promise.all([running, fed]);

    const losses = this.#deployed.losses(reports.map((report) => report.losses));
    const broken = firstNonFinite(losses);
    if (broken) throw diverged("loss", step + 1, broken.value);
    const meets = step === lastStep || (step + 1) % this.#plan!.localSteps === 0;
    const keeps = this.#keeper.wants();
    const committed = this.#deployed.commit(step, reports, meets, keeps);
    if (follows && step < lastStep) {
      const begun = this.#deployed.train(step + 1);
      begun.catch(() => {});
      this.#begun = { step: step + 1, reports: begun };
    }
    const commits = await committed;
    this.#committed = step;
    this.#reached = Math.max(this.#reached, step);
    if (keeps) this.#keeper.kept(step);
    this.#tellRecovered();
    const { learningRate, skipped } = commits[0]!;
    return {
      ...{ step, loss: mean(losses), gradNorm: this.#deployed.gradNorm(commits), learningRate, skipped },
      reports: reports.map((report, i) => ({ ...report, spans: [...report.spans, ...commits[i]!.spans] })),
      drifted: await this.#drifted(reports),
    };
  }

  /** Mean loss over the validation windows. `pass` tells one pass from another. */
  async evaluate(pass: number): Promise<number> {
    return this.#lasting(async () => {
      const count = await this.#data.ask.validationCount();
      const [losses] = await Promise.all([
        this.#deployed.evaluate(pass, count),
        this.#data.ask.feedValidation(pass, this.#deployed.destination()),
      ]);
      return mean(losses);
    });
  }

  /**
   * What training has changed, by name: parameters, the optimiser's state, statistics. Of a stage on this node it is
   * borrowed until the next step.
   */
  async state(): Promise<Record<string, Tensor>> {
    return this.#lasting(() => this.#deployed.state());
  }

  /** What each device has used, in the devices' order; null of those that are gone. */
  async usage(): Promise<(DeviceUsage | null)[]> {
    const usage = this.#devices.map((device, i) =>
      this.#gone.has(`${i}`) ? null : device.ask.usage().catch(() => null),
    );
    return Promise.all(usage);
  }

  /** What keeping copies has cost so far. */
  keepingCost(): KeepingCost {
    return this.#keeper.cost;
  }

  descriptions(): readonly DeviceDescription[] {
    return this.#descriptions;
  }

  /** Devices that have drifted by this step; their profiles are forgotten, so that the next run measures anew. */
  async #drifted(reports: readonly StepReport[]): Promise<DriftedDevice[]> {
    const ids = this.#watch?.observe(reports.map(({ spans }) => spans)) ?? [];
    for (const id of ids) await this.#options.profiles?.drop(this.#profileKeys[Number(id)]!);
    return ids.map((id) => {
      const { factor } = this.#watch!.drifts[id]!;
      return { device: this.#descriptions[Number(id)]!.name, factor };
    });
  }

  /** What plans are made from. Any two devices may become neighbours. */
  #measure(): Promise<ClusterProfile> {
    const { model, microBatches, optimizer, profiles, profileMs } = this.#options;
    return profileCluster(this.#devices, this.#descriptions, {
      ...{ model, microBatches, optimizer, segments: this.#segments },
      ...measuredFor(this.#options, profileMs),
      now: () => this.context.clock.now(),
      ...(profiles && { cache: profiles }),
    });
  }

  #specOptions(): SpecOptions {
    const { model, optimizer, seed, stashBytes = 0 } = this.#options;
    return { generation: this.#generation, model, optimizer, seed, stashBytes };
  }

  /** Keeps what a run begins with, after `step`. */
  async #begin(step: number): Promise<void> {
    this.#committed = step;
    if (!this.#recovery) return;
    await this.#deployed.keep(step);
    this.#watchCopies(step);
  }

  /** Recovery points are of this deployment from here on; all its stages have kept a copy of this step. */
  #watchCopies(step: number): void {
    const plan = this.#plan!;
    const held = this.#deployed.held();
    const needs = new Map<string, number>();
    for (const { device, memoryBytes } of plan.stages.flatMap(({ members }) => members)) {
      needs.set(device, (needs.get(device) ?? 0) + memoryBytes);
    }
    const devices = this.#descriptions.flatMap(({ host, memoryBytes }, i) => {
      const id = `${i}`;
      return this.#gone.has(id) ? [] : [{ id, host, freeBytes: memoryBytes - (needs.get(id) ?? 0) }];
    });
    const bytes = held.map((each) => each.bytes);
    const { copies } = this.#recovery!;
    this.#keeper.watch(this.#deployed, placeReplicas(workersOf(plan), bytes, copies, devices));
    this.#keeper.kept(step);
  }

  /** Runs `work` when the run is behind step `after`, and again behind it whenever devices are lost meanwhile. */
  async #lasting<T>(work: () => Promise<T>, after = this.#reached): Promise<T> {
    for (;;) {
      try {
        return await this.#guard(async () => {
          while (this.#committed !== undefined && this.#committed < after) {
            await this.#step(this.#committed + 1, false);
          }
          return work();
        });
      } catch (error) {
        if (!(error instanceof DeviceLost) || !this.#recovery || this.#committed === undefined) throw error;
        await this.#recover(error);
      }
    }
  }

  /** Goes on without the devices that are gone. @throws DeviceLost when nobody is left. */
  async #recover(loss: DeviceLost): Promise<void> {
    const lost: Loss[] = [];
    for (;;) {
      lost.push(...this.#unhandled.splice(0));
      this.#lost = undefined;
      try {
        if (await this.#guard(() => this.#redeploy(lost))) return;
        throw loss;
      } catch (error) {
        // Somebody else was lost meanwhile.
        if (error === loss || !(error instanceof DeviceLost)) throw error;
      }
    }
  }

  async #redeploy(lost: readonly Loss[]): Promise<boolean> {
    const { restart, fixed } = this.#recovery!;
    this.#generation++;
    this.#fed = undefined;
    this.#begun = undefined;
    // What was predicted is not what is carried out any more.
    this.#watch = null;
    const alive = this.#descriptions.flatMap(({ name }, i) =>
      this.#gone.has(`${i}`) ? [] : [{ id: `${i}`, name }],
    );
    const world = {
      ...{ devices: this.#devices, segments: this.#segments, owner: this.context.self },
      ...{ keeper: this.#keeper, restart, fixed },
    };
    const options = this.#specOptions();
    const recovered = await recover(world, this.#plan!, this.#deployed, this.#gone, alive, options);
    if (!recovered) return false;
    const { plan, deployment, step, bytes, fromCheckpoint } = recovered;
    this.#plan = plan;
    this.#deployed = deployment;
    this.#committed = step;
    this.#watchCopies(step);
    const first = lost[0]!;
    this.#resuming = {
      ...{ lost: lost.map(({ id }) => this.#descriptions[Number(id)]!.name), plan, fromCheckpoint },
      ...{ detectMs: first.silentMs, at: first.at, stepsLost: this.#reached - step, movedBytes: bytes },
    };
    return true;
  }

  #tellRecovered(): void {
    if (!this.#resuming) return;
    const { at, ...recovery } = this.#resuming;
    this.#resuming = undefined;
    this.#recovery!.tell({ ...recovery, resumeMs: this.context.clock.now() - at });
  }

  /** Runs `work`, but no longer than all devices live: what a lost one would have sent will never come. */
  async #guard<T>(work: () => Promise<T>): Promise<T> {
    if (this.#lost) throw this.#lost;
    const lost = new Promise<never>((_, reject) => {
      this.#giveUp = reject;
    });
    lost.catch(() => {});
    try {
      return await Promise.race([work(), lost]);
    } catch (error) {
      // A stage may notice a loss before the scheduler does: let the loss be what is told.
      if (!this.#lost) await Promise.race([this.context.clock.sleep(LOSS_GRACE_MS), lost]).catch(() => {});
      throw this.#lost ?? error;
    }
  }
}

/** How long after a stage's failure the loss of a device may still explain it. */
const LOSS_GRACE_MS = 100;

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
