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
 * (`recovery/keeper.ts`), so that the run goes on with those that are left (`recovery/course.ts`): from the latest step
 * of which there are copies of everything, whatever was being done.
 */

import { diverged, firstNonFinite } from "../../nn/optim/finite.ts";
import { findSegments, type Segment } from "../../nn/segments.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import { Actor, type Down, type Ref } from "../../runtime/index.ts";
import type { DataSource } from "../data/source.ts";
import type { Device, DeviceUsage } from "../device.ts";
import type { PlanBefore } from "../journal/run-journal.ts";
import { type ClusterRequest, measuredFor, profileCluster } from "../profile.ts";
import { Beginning, planAmong } from "../recovery/beginning.ts";
import { Course } from "../recovery/course.ts";
import { infoOf, Joining } from "../recovery/joining.ts";
import type { KeepingCost } from "../recovery/keeper.ts";
import { isSame, Replanner } from "../recovery/replanner.ts";
import { type Known, Roster, type Unknown } from "../recovery/roster.ts";
import { comesAgain } from "../recovery/takeover.ts";
import type { StepReport } from "../stage.ts";
import { Committing } from "./committing.ts";
import type { Deployment } from "./deployment.ts";
import { mean } from "./losses.ts";
import { hasIdle } from "./newcomers.ts";
import { segmentSizes } from "./parts.ts";
import { devicesOf, type Plan } from "./plan.ts";
import { requirePlan } from "./plan-check.ts";
import type {
  DriftedDevice,
  RecoveryOptions,
  SchedulerOptions,
  StepResult,
  TakenOver,
} from "./scheduler-options.ts";

export { DeviceLost } from "../recovery/roster.ts";
export type {
  Behind,
  DriftedDevice,
  RecoveryOptions,
  Replanning,
  RunRecovery,
  SchedulerOptions,
  StepResult,
  TakenOver,
} from "./scheduler-options.ts";

/** Something under way for a step to come, on one deployment. */
interface Ahead<T> {
  readonly step: number;
  readonly deployed: Deployment;
  readonly done: Promise<T>;
}

export class Scheduler extends Actor {
  static override readonly reentrant: readonly string[] = ["join", "layout", "kept", "release", "migrate"];

  readonly #data: Ref<DataSource>;
  readonly #options: SchedulerOptions;
  readonly #segments: readonly Segment[];
  readonly #given: readonly Ref<Device>[];
  #roster!: Roster;
  #course!: Course;
  #recovery: RecoveryOptions | undefined;
  #beginning!: Beginning;
  #plan: Plan | undefined;
  #joining!: Joining;
  /** Settles with the first step. */
  readonly #started = Promise.withResolvers<void>();
  /** The feed of the step that comes next, begun while the one before it runs. */
  #fed: Ahead<void> | undefined;
  /** The step that comes next where it has begun already, right behind the commit of the one before it. */
  #begun: Ahead<StepReport[]> | undefined;
  /** The last step that was told to be committed. */
  #committing: Committing | undefined;
  /** The last step that was made, as long as it need not be repeated. */
  #made: Omit<StepResult, "drifted"> | undefined;
  #lastStep = 0;
  /** What stages keep for others to ask for. */
  #held: { readonly step: number; readonly deployed: Deployment } | undefined;

  constructor(devices: readonly Ref<Device>[], data: Ref<DataSource>, options: SchedulerOptions) {
    super();
    this.#given = devices;
    this.#data = data;
    this.#options = options;
    this.#segments = findSegments(options.model);
  }

  override onStart(): void {
    const { self, clock, node } = this.context;
    const { model, optimizer, seed, stashBytes = 0 } = this.#options;
    const recovery = this.#openToAll();
    this.#recovery = recovery;
    this.#roster = new Roster(this.#given, clock, node.times, this.#options.called);
    this.#beginning = new Beginning(this.#roster, recovery !== undefined);
    this.#course = new Course({
      ...{ roster: this.#roster, segments: this.#segments, owner: self, clock, recovery },
      specs: { model, optimizer, seed, stashBytes },
      repeat: (step) => this.#step(step, false),
      feed: (step, to) => this.#data.ask.feed(step, to),
      lastStep: () => this.#lastStep,
      settle: async (isAlive) => this.#committing?.settle(this.#course, isAlive),
    });
    this.#course.moves.isGiven = this.#options.plan !== undefined;
    this.#joining = new Joining(
      { roster: this.#roster, course: this.#course, clock },
      this.#started.promise,
      () => this.#request(),
    );
    for (const device of this.#given) this.context.monitor(device);
  }

  /** Whoever comes to a run that has nobody is taken in at once, also before its first step. */
  #openToAll(): RecoveryOptions | undefined {
    const { recovery } = this.#options;
    const { paused } = recovery ?? {};
    if (!recovery || !paused) return recovery;
    return {
      ...recovery,
      paused: (reason) => {
        this.#started.resolve();
        paused(reason);
      },
    };
  }

  override onStop(): void {
    this.#course.moves.end();
  }

  override onDown(down: Down): void {
    this.#course.lose(this.#roster.idOf(down.ref), down);
  }

  /** Measures the devices and makes the plan. @throws PlanError in one line when there is none. */
  async plan(): Promise<Plan> {
    this.#plan = await this.#beginning.among(async () => {
      const roster = this.#roster;
      await roster.askAll();
      const { plan } = this.#options;
      if (plan) {
        this.#require(plan);
        return planAmong(plan, roster, undefined);
      }
      const living = roster.living();
      const ids = living.map(({ id }) => id);
      const devices = ids.map((id) => roster.devices[Number(id)]!);
      const measured = await profileCluster(devices, living, this.#request(), ids);
      const replanner = new Replanner(measured, living.map(infoOf), this.#options);
      this.#course.moves.replanner = replanner;
      return replanner.first();
    });
    return this.#plan;
  }

  /** @throws PlanError for a plan that is not for this run. */
  #require(plan: Plan): void {
    const { model, microBatches, optimizer } = this.#options;
    const segments = this.#segments.map((segment) => ({
      ...{ name: `segment ${segment.index}`, stashBytes: 0 },
      ...segmentSizes(model, segment, optimizer),
    }));
    requirePlan(plan, { segments, microBatches, devices: this.#given.map((_, i) => `${i}`) });
  }

  /** In place of `plan` and `deploy`: goes on with a run that another coordinator led. For runs that keep copies. */
  async takeOver(before: PlanBefore): Promise<TakenOver> {
    await this.#beginning.among(() => this.#roster.askAll());
    const taken = await this.#course.takeOver(before);
    this.#course.lacks(this.#beginning.takeLosses());
    this.#plan = taken.plan;
    if (!isSame(before.plan, taken.plan) || hasIdle(taken.plan)) this.#course.moves.because("lost");
    if (comesAgain(before.plan, this.#roster.living())) this.#course.moves.because("joined");
    if (!this.#options.plan) this.#joining.survey(this.#options);
    return taken;
  }

  /**
   * Starts the plan's stages and gives them what they hold, once: parameters, frozen values and statistics, and the
   * optimiser's state where given. The tensors are borrowed until it is done. If nobody is left meanwhile, it is done when a
   * device has joined, where some may.
   * @param behind the step that left these values.
   */
  async deploy(values: Readonly<Record<string, Tensor>>, behind = -1): Promise<void> {
    const course = this.#course;
    const { paused, resumed } = this.#recovery ?? {};
    let waited = false;
    const wait = (reason: string) => {
      waited = true;
      paused!(reason);
    };
    await this.#beginning.among(async () => {
      this.#plan = planAmong(this.#plan!, this.#roster, course.moves.replanner);
      course.moves.replanner?.follow(this.#plan);
      await course.deploy(this.#plan, values);
    }, paused && wait);
    course.lacks(this.#beginning.takeLosses());
    if (waited) resumed?.({ step: behind, stepsLost: 0, movedBytes: 0, fromCheckpoint: false });
  }

  /**
   * One training step: fed, run, and committed on every stage.
   * @param follows whether the next one is asked for directly: stages then go on to it from the commit, and do not stand
   *   still while its result is told. Whatever else is asked of them meanwhile waits until they are through, and finds
   *   weights as this step leaves them.
   * @param holds whether stages keep what the step leaves for `kept`, until it is released; for runs that keep copies.
   */
  async step(step: number, lastStep: number, follows = false, holds = false): Promise<StepResult> {
    const course = this.#course;
    this.#lastStep = lastStep;
    course.reached = Math.max(course.reached, step - 1);
    const made = await course.lasting(async () => {
      if (course.committed === undefined) await course.begin(step - 1);
      this.#started.resolve();
      // Somebody was lost right behind its commit, and nothing of it.
      if (course.committed! >= step && this.#made?.step === step) return this.#made;
      return this.#step(step, follows, holds);
    }, step - 1);
    if (step === lastStep) await course.end();
    return { ...made, drifted: await this.#drifted(made) };
  }

  async #step(step: number, follows: boolean, holds = false): Promise<Omit<StepResult, "drifted">> {
    const course = this.#course;
    const lastStep = this.#lastStep;
    const isNow = (ahead: Ahead<unknown>) => ahead.step === step && ahead.deployed === course.deployed;
    if (!this.#begun || !isNow(this.#begun)) await course.goOver();
    const { deployed, plan } = course;
    course.moves.underWay.begin(step, plan);
    const destination = deployed.destination();
    const fed = this.#fed && isNow(this.#fed) ? this.#fed.done : this.#data.ask.feed(step, destination);
    const running = this.#begun && isNow(this.#begun) ? this.#begun.done : deployed.train(step);
    this.#begun = undefined;
    // The next step's data travels while this one computes.
    if (step < lastStep) {
      const done = this.#data.ask.feed(step + 1, destination);
      done.catch(() => {});
      this.#fed = { step: step + 1, deployed, done };
    }
    const considered = fed.then(() => course.moves.consider(plan, step, lastStep));
    const [reports] = await Promise.all([running, considered]);
    const losses = deployed.losses(reports.map((report) => report.losses));
    const broken = firstNonFinite(losses);
    if (broken) throw diverged("loss", step + 1, broken.value);
    const meets = step === lastStep || (step + 1) % plan.localSteps === 0;
    const keeps = course.keeper.wants();
    await course.committing(step, mean(losses));
    const answers = deployed.commit(step, reports, meets, keeps || holds);
    const committing = new Committing({ step, deployed, plan }, answers, (said) => {
      const known = said.filter((each) => each !== null);
      // What somebody was lost of is not copied as one.
      const isWhole = known.length === said.length;
      course.commit(step, keeps && isWhole);
      const { learningRate, skipped } = known[0]!;
      this.#made = {
        ...{ step, loss: mean(losses), gradNorm: deployed.gradNorm(known), learningRate, skipped },
        reports: reports.map((each, i) => ({ ...each, spans: [...each.spans, ...(said[i]?.spans ?? [])] })),
        devices: devicesOf(plan),
      };
    });
    this.#committing = committing;
    if (follows && step < lastStep && !course.moves.isNext) {
      const done = deployed.train(step + 1);
      done.catch(() => {});
      this.#begun = { step: step + 1, deployed, done };
      course.moves.underWay.begin(step + 1, plan);
    }
    const said = await committing.all();
    course.requireCurrent(deployed);
    if (holds) {
      course.keeper.hold(step);
      this.#held = { step, deployed };
    }
    committing.done(said);
    return this.#made!;
  }

  /**
   * Goes on with another plan for the same model, from the next step on that is begun when this resolves: its stages are made
   * ready meanwhile, then everyone gets what they hold from whoever has it, and no step is lost. For runs that keep copies.
   */
  async migrate(plan: Plan): Promise<void> {
    await this.#course.moves.want(plan);
  }

  /**
   * Another device is there, or one is again: it is measured while the others work, and used from a next step on if that is
   * worth the move. Resolves with what it is, when it may be used. For runs that keep copies.
   * @throws what measuring it fails with.
   */
  async join(device: Ref<Device>): Promise<Known> {
    if (!this.#options.recovery) throw new RangeError("no device joins a run that keeps no copies");
    const id = this.#roster.add(device);
    this.context.monitor(device);
    return this.#joining.join(id);
  }

  /** Mean loss over the validation windows. `pass` tells one pass from another. */
  async evaluate(pass: number): Promise<number> {
    return this.#course.lasting(async () => {
      const { deployed } = this.#course;
      const count = await this.#data.ask.validationCount();
      const [losses] = await Promise.all([
        deployed.evaluate(pass, count),
        this.#data.ask.feedValidation(pass, deployed.destination()),
      ]);
      return mean(losses);
    });
  }

  /**
   * What training has changed, by name: parameters, the optimiser's state, statistics. Of a stage on this node it is
   * borrowed until the next step.
   */
  async state(): Promise<Record<string, Tensor>> {
    return this.#course.lasting(() => this.#course.deployed.state());
  }

  /** Names of what training changes, by stage. */
  layout(): readonly (readonly string[])[] {
    return this.#course.deployed.layout();
  }

  /**
   * Values as a step has left them that was held, while others are made; of a stage on this node borrowed until release.
   * @throws RangeError, and what asks fail with, where it is not there any more: somebody was lost, or has moved.
   */
  async kept(step: number, names: readonly string[]): Promise<Record<string, Tensor>> {
    if (this.#held?.step !== step) throw new RangeError(`what step ${step + 1} left is not held`);
    return this.#held.deployed.kept(step, names);
  }

  /** Nobody asks for what was held any more. */
  release(): void {
    this.#held = undefined;
    this.#course.keeper.release();
  }

  /** What each device has used, in the order of `descriptions`; null of those that are gone. */
  async usage(): Promise<(DeviceUsage | null)[]> {
    return this.#roster.usage();
  }

  /** What keeping copies has cost so far. */
  keepingCost(): KeepingCost {
    return this.#course.keeper.cost;
  }

  /** All devices that have ever been in the run. */
  descriptions(): readonly Known[] {
    return this.#roster.descriptions();
  }

  /** Names of those that are not known yet, and are not among these. */
  unknown(): Unknown {
    return this.#roster.unknown();
  }

  /** Devices that have drifted by this step; their profiles are forgotten, so that the next run measures anew. */
  async #drifted({ reports, devices }: Pick<StepResult, "reports" | "devices">): Promise<DriftedDevice[]> {
    if (devices.join() !== devicesOf(this.#course.plan).join()) return [];
    const { moves } = this.#course;
    const { replanner } = moves;
    const ids = replanner?.observe(reports.map(({ spans }) => spans)) ?? [];
    // One device alone does everything, however slow it is.
    const matters = this.#roster.living().length > 1;
    if (ids.length > 0 && matters) moves.because("drifted");
    const drifted = await Promise.all(
      ids.map(async (id) => {
        const { factor } = replanner!.drift(id);
        const key = replanner!.key(id);
        if (key !== undefined) await this.#options.profiles?.drop(key);
        return { device: this.#roster.name(id), factor };
      }),
    );
    return matters ? drifted : [];
  }

  /** What is measured for plans. Any two devices may become neighbours. */
  #request(): ClusterRequest {
    const { model, microBatches, optimizer, profiles, profileMs } = this.#options;
    return {
      ...{ model, microBatches, optimizer, segments: this.#segments },
      ...measuredFor(this.#options, profileMs),
      now: () => this.context.clock.now(),
      ...(profiles && { cache: profiles }),
    };
  }
}
