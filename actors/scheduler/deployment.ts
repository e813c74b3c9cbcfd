/**
 * A plan that runs: its workers, as stages on devices, and what the scheduler does with all of them at once. What of the
 * model is where, is known here and nowhere above.
 */

import { LOSS_SCALE } from "../../nn/optim/loss-scale.ts";
import type { Segment } from "../../nn/segments.ts";
import { sliceTensor } from "../../nn/shards/slices.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Ref } from "../../runtime/index.ts";
import type { Destination } from "../data/source.ts";
import type { Device } from "../device.ts";
import type { Holding } from "../recovery/ledger.ts";
import {
  type CommitReport,
  holdingOf,
  type StageHoldings,
  type StageSpec,
  type StepReport,
} from "../stage/spec.ts";
import type { Stage } from "../stage.ts";
import { Commits, catchUp } from "./catching-up.ts";
import { DeviceFailed } from "./device-failed.ts";
import {
  type Before,
  DeploymentOver,
  type DeployOptions,
  type HandedOver,
  lackingOf,
  type Placed,
  repeatedIn,
} from "./handover.ts";
import type { Held } from "./held.ts";
import { endStage, type Hosted, hostAll } from "./hosting.ts";
import { Late } from "./late.ts";
import { lossesOf, mean } from "./losses.ts";
import type { Part } from "./parts.ts";
import { type Plan, type Worker, workersOf } from "./plan.ts";
import { microBatchesOf } from "./program.ts";
import { readersOf } from "./readers.ts";
import { Reading } from "./reading.ts";
import { Restoring } from "./restoring.ts";
import { isAsynchronous } from "./schedule.ts";
import { peersOf } from "./specs.ts";
import { squareSumsOf } from "./square-sums.ts";
import { devicesWith, Through } from "./through.ts";
import type { Copies } from "./whole.ts";

export type { DeployOptions } from "./handover.ts";
export type { Held } from "./held.ts";

export class Deployment {
  /** By worker. */
  readonly stages: readonly Ref<Stage>[];
  /** What has become of the deployment before. */
  readonly handed: Omit<HandedOver, "staying">;
  private readonly commits: Commits;
  /** Whether members train on their own and meet now and then. */
  private readonly isLocal: boolean;
  private readonly isAsynchronous: boolean;
  private readonly options: DeployOptions;
  private readonly microBatches: number;
  private readonly workers: readonly Worker[];
  /** What part of the micro-batches each has. */
  private readonly shares: readonly number[];
  readonly placed: readonly Placed[];
  /** Those whose stages were started for it. */
  readonly fresh: readonly Placed[];
  private readonly holdings: readonly StageHoldings[];
  /** By position. */
  private readonly parts: readonly Part[];
  private readonly reading: Reading;
  private readonly late = new Late();
  private readonly through: Through;

  private constructor(
    plan: Plan,
    { parts, placed, handed }: Hosted,
    options: DeployOptions,
    commits: Commits,
    underWay?: number,
  ) {
    this.handed = handed ?? { goesOn: false, busy: false, behind: 0, dealt: 0 };
    this.commits = commits;
    this.microBatches = plan.microBatches;
    this.workers = workersOf(plan);
    this.isLocal = plan.stages.some(({ sharing }) => sharing === "local");
    this.isAsynchronous = isAsynchronous(plan.schedule);
    this.shares = this.workers.map(({ member }) => member.microBatches.length / plan.microBatches);
    this.parts = parts;
    this.placed = placed;
    this.fresh = placed.filter(({ has }) => has === "nothing");
    this.stages = placed.map(({ stage }) => stage);
    this.holdings = placed.map(({ holdings }) => holdings);
    this.options = options;
    const { workers, stages, holdings, shares, isLocal } = this;
    const { optimizer } = options;
    this.reading = new Reading({ workers, stages, holdings, shares, parts, optimizer, isLocal });
    this.through = new Through(underWay, this.handed.gone);
  }

  /**
   * Starts the workers of a plan, whose device ids are places among `devices`, for as long as `owner` lives.
   * @param before what it follows: of that, whatever is the same stays, and the rest ends.
   * @throws ProgramError for a plan that cannot be carried out, DeviceFailed for a device that cannot do its part of it:
   *   nothing that was started is left then.
   */
  static async start(
    plan: Plan,
    segments: readonly Segment[],
    devices: readonly Ref<Device>[],
    owner: Ref<any>,
    options: DeployOptions,
    before?: { readonly deployment: Deployment } & Omit<Before, "placed" | "commits" | "through">,
  ): Promise<Deployment> {
    const old = before?.deployment;
    const underWay = before && (before.reached ?? before.step ?? -2) + 1;
    const through = old?.throughWith(underWay!) ?? new Map();
    const handing = before && { ...before, placed: old!.placed, commits: old!.commits, through };
    const hosted = await hostAll(plan, segments, { devices, owner }, options, handing);
    const { goesOn, resuming } = hosted.handed ?? {};
    const commits = goesOn || resuming ? old!.commits : new Commits();
    return new Deployment(plan, hosted, options, commits, underWay);
  }

  /** Whether another one is to follow: what comes of this one counts no more. */
  get isOver(): boolean {
    return this.options.isOver();
  }

  /** Workers of another plan, made from these, that none of its stages can go on as. */
  lacking(workers: readonly Worker[], specs: readonly StageSpec[]): readonly Worker[] {
    return lackingOf(this.placed, workers, specs);
  }

  /** Ends the stages that were started for it, not those that were there before. */
  async end(devices: readonly Ref<Device>[]): Promise<void> {
    await Promise.all(this.fresh.map((placed) => endStage(devices, placed).catch(() => {})));
  }

  /** Gives every stage what it holds, once. The tensors are borrowed until it is done. */
  async load(values: Readonly<Record<string, Tensor>>): Promise<void> {
    await Promise.all(
      this.workers.map(async ({ worker, rank, positions }) => {
        const { cuts } = this.holdings[worker]!;
        for (const position of positions) {
          const groups = this.reading.groups(position);
          for (const group of [...groups, [LOSS_SCALE]]) {
            const given = group.filter((name) => values[name]);
            if (given.length === 0) continue;
            const part = (name: string) => {
              const cut = cuts[name];
              return cut ? sliceTensor(values[name]!, cut, rank) : values[name]!;
            };
            await this.to(worker).load(Object.fromEntries(given.map((name) => [name, part(name)])));
          }
        }
        await this.connect(worker);
      }),
    );
  }

  /**
   * Gives every stage what it held after a step and does not hold now, from those who have copies, and each directly to the
   * other where it can be. What training does not change comes from `fixed`. Those that have nothing to do are given it while
   * the others go on (`newcomers.ts`).
   * @returns bytes that were moved.
   * @throws CopiesLost where a value is with nobody.
   */
  async restore(
    step: number,
    copies: Copies,
    fixed: (names: readonly string[]) => Promise<Readonly<Record<string, Tensor>>>,
  ): Promise<number> {
    const restoring = new Restoring(step, copies, fixed);
    const moved = await Promise.all(
      this.placed.map(async (placed) => {
        const { worker, positions } = placed.worker;
        const groups = positions.flatMap((position) => this.reading.groups(position));
        const isLate = this.isIdle(placed);
        if (this.through.lacks(worker)) return 0;
        const resuming = this.handed.resuming?.get(worker);
        if (resuming) {
          return this.late.resume(worker, resuming, this.handed.goesOn, async () => {
            await this.connect(worker);
            await this.to(worker).keep(step + this.handed.behind);
          });
        }
        const give = async () => {
          const bytes = await restoring.give(placed, () => this.to(worker), groups, isLate);
          await this.connect(worker);
          if (isLate) await this.to(worker).keep(step);
          return bytes;
        };
        return isLate ? this.late.add(worker, give()) : give();
      }),
    );
    return moved.reduce((sum, bytes) => sum + bytes, 0);
  }

  /**
   * Has those that are new make the steps that the others have made since `step`, which they have been given.
   * @returns the step behind which all are then.
   */
  async catchUp(step: number, feed: (step: number, to: Destination) => Promise<unknown>): Promise<number> {
    const last = step + this.handed.behind;
    const fresh = this.fresh.map(({ worker }) => worker);
    const to = this.destination(fresh);
    const askOf = ({ worker }: Worker) => this.to.bind(this, worker);
    await catchUp(
      { asks: fresh.map(askOf), feed: (each) => feed(each, to), commits: this.commits },
      step,
      last,
    );
    return last;
  }

  /** To ask something of a stage. @throws DeploymentOver where it may be at work for another one, which asks in its order. */
  private to(worker: number): Ref<Stage>["ask"] {
    const { isOver, generation } = this.options;
    if (isOver()) throw new DeploymentOver(generation);
    this.through.requireThere(worker);
    return this.stages[worker]!.ask;
  }

  private async connect(worker: number): Promise<void> {
    const there = [...peersOf(this.placed[worker]!.spec)].filter((peer) => !this.through.lacks(peer));
    const peers = there.map((peer) => [peer, this.stages[peer]!]);
    await this.to(worker).connect(Object.fromEntries(peers), this.handed.goesOn);
  }

  /** How many operations are carried out again, now that it has followed another one (`repeatedIn`). */
  repeated(steps: number): number {
    const busy = this.handed.busy || this.late.busy;
    return repeatedIn({ ...this.handed, busy }, this, steps);
  }

  /** Whether others of a stage can do what a lost one would have done, in the middle of a step. */
  get dealsLost(): boolean {
    return this.placed.every(({ spec }) => spec.keepsSummands);
  }

  /** Who holds what of what training changes, by worker. */
  held(): readonly Held[] {
    return this.workers.map(({ worker, member }) => ({
      ...{ holding: this.holding(worker), device: member.device, stage: this.stages[worker]! },
      bytes: this.holdings[worker]!.changingBytes,
      gradientBytes: this.holdings[worker]!.gradientBytes,
      isLate: this.late.lacks(worker) || this.through.lacks(worker),
    }));
  }

  private holding(worker: number): Holding {
    const { spec, holdings, name } = this.placed[worker]!;
    return { ...holdingOf(spec, holdings), worker: name };
  }

  /** All values that training changes. */
  changingNames(): readonly string[] {
    return [...new Set(this.holdings.flatMap(({ changing }) => changing))];
  }

  /** Keeps a copy of what all stages hold now, which is how this step has left it. Those that are given it later do then. */
  async keep(step: number): Promise<void> {
    const there = this.workers.filter(
      ({ worker }) => !this.late.before(worker) && !this.through.lacks(worker),
    );
    await Promise.all(there.map(({ worker }) => this.to(worker).keep(step)));
  }

  /** Does something when all go on that do so one by one, each of which has kept a copy then; at once where all do. */
  whenResumed(then: () => void): void {
    this.late.whenResumed(then);
  }

  /** Resolves when those that had nothing to do have what they hold: with the bytes that they were given. */
  givenLate(): Promise<number> {
    return this.late.all();
  }

  /** Not where others are behind as well: who is new makes the same steps as they do then. */
  private isIdle({ spec, has }: Placed): boolean {
    return has !== "all" && this.handed.behind === 0 && microBatchesOf(spec.program).size === 0;
  }

  /** Where data goes. @param workers whom it is for; all, when left out. */
  destination(workers = this.workers): Destination {
    const there = workers.filter(({ worker }) => !this.through.lacks(worker));
    const readers = readersOf(there, this.stages, this.parts);
    return { generation: this.options.generation, microBatches: this.microBatches, readers };
  }

  /** Runs a step on all workers, up to the commit gate. @throws DeviceFailed where an engine does. */
  train(step: number): Promise<StepReport[]> {
    const { through } = this;
    return this.onAll(async (ask, worker) => {
      return through.said(step, worker) ?? through.heard(step, worker, await ask().train(step));
    });
  }

  /** What those workers have said that are through with a step. */
  throughWith(step: number): ReadonlyMap<number, StepReport> {
    return this.through.with(step);
  }

  /** Ids of devices that are through with a step, with all that they have of it. */
  devicesThrough(step: number): ReadonlySet<string> {
    return devicesWith(this.workers, this.through.with(step));
  }

  /** Whether it goes on as if all were there, though some are gone: until the step is committed. */
  get lacksSome(): boolean {
    return this.through.lacksAny;
  }

  /** Losses of a validation pass of so many micro-batches. @throws DeviceFailed where an engine does. */
  async evaluate(pass: number, count: number): Promise<number[]> {
    return this.losses(await this.onAll((ask) => ask().evaluate(pass, count)));
  }

  private onAll<T>(work: (ask: () => Ref<Stage>["ask"], worker: number) => Promise<T>): Promise<T[]> {
    return Promise.all(
      this.workers.map(async (worker) => {
        try {
          const late = this.late.before(worker.worker);
          if (late) await late;
          return await work(() => this.to(worker.worker), worker.worker);
        } catch (error) {
          throw (error as { code?: unknown }).code === "ENGINE" ? new DeviceFailed(worker, error) : error;
        }
      }),
    );
  }

  /** Losses of all micro-batches, from what those that hold the end of the model say of theirs. */
  losses(reported: readonly (readonly number[] | null)[]): number[] {
    return lossesOf(this.workers, this.parts.length - 1, reported);
  }

  /**
   * Commits a step on all workers, who are told so at once. Where members train on their own, they meet now if `meets`.
   * @returns what each says when it has.
   * @throws DivergedError at once when a gradient is no number: before the gate, so no stage has changed. Gradients of a scaled
   *   loss may overflow; whether that is an error is decided behind the gate, by all stages alike.
   */
  commit(
    step: number,
    reports: readonly StepReport[],
    meets: boolean,
    keeps = false,
  ): readonly Promise<CommitReport>[] {
    const { isLocal, workers, placed } = this;
    const sumsOf = (counted: readonly Placed[]) => squareSumsOf(this.options, step, reports, counted);
    const together = isLocal ? null : sumsOf(placed);
    if (together) this.commits.add(step, together);
    const sums = placed.map((worker) => together ?? sumsOf([worker]));
    return workers.map(async ({ worker }, i) =>
      this.to(worker).commit(step, sums[i]!, isLocal && meets, keeps),
    );
  }

  /** Others have copies of what this step has left: nobody makes it again, nor those before it. */
  forgetBefore(step: number): void {
    this.commits.forgetBefore(step + 1);
  }

  /** The norm of the gradients that a step went by, from what each worker knows of. */
  gradNorm(commits: readonly CommitReport[]): number {
    const norms = commits.map(({ gradNorm }) => gradNorm);
    if (this.isAsynchronous) return Math.hypot(...norms);
    return this.isLocal ? mean(norms) : norms[0]!;
  }

  /**
   * What training has changed, by name, whole; see `Stage.state`. Of members that train on their own and have not met, the
   * mean.
   */
  async state(): Promise<Record<string, Tensor>> {
    await this.givenLate();
    return this.reading.whole((stage, names) => stage.ask.state(names));
  }

  /**
   * As `state`, those of `names` as stages have kept them of a step, while they go on with others.
   * @throws RangeError where one has no copy of it any more.
   */
  kept(step: number, names: readonly string[]): Promise<Record<string, Tensor>> {
    const wanted = new Set(names);
    return this.reading.whole((stage, held, worker) => {
      const asked = held.filter((name) => wanted.has(name));
      return asked.length === 0 ? {} : stage.ask.recall(this.holding(worker).worker, step, asked);
    });
  }

  /** Names of what training changes, by stage. */
  layout(): readonly (readonly string[])[] {
    return this.reading.layout();
  }
}
