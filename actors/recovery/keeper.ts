/**
 * Keeps a run's recovery points: has stages copy what a step left, and give copies to the replicas of others while they go
 * on with the next steps. A point is complete when all copies are where they are to be; then the one before it is given
 * up, and another may be begun. So there is always one, however slow lines are, and on fast ones it is of the last step;
 * where copies would take the time of activations, there are steps between two: as many as the plan says (`pace.ts`), and then
 * as many as copies are measured to be worth (`cadence.ts`). Where replicas make copies by themselves of gradients
 * (`giving.ts`), that is a part of the bytes.
 *
 * Two devices that live may not reach each other. What does not come through is given to another device instead, or, where
 * there is none, once more with the next step.
 */

import type { Clock, Ref } from "../../runtime/index.ts";
import type { Device } from "../device.ts";
import type { Deployment, Held } from "../scheduler/deployment.ts";
import type { Stage } from "../stage.ts";
import { Cadence, type CopyCost } from "./cadence.ts";
import { Ledger } from "./ledger.ts";
import type { Placement } from "./placement.ts";
import type { Replica } from "./replica.ts";

/** What recovery points have cost so far. */
export interface KeepingCost {
  readonly points: number;
  /** That others were given. */
  readonly bytes: number;
  /** Steps from one point to the next, at present. */
  readonly every: number;
  /** Of a step's time, as measured; null as long as there is nothing to compare. */
  readonly measured: CopyCost | null;
}

export class Keeper {
  readonly ledger = new Ledger<Ref<Stage> | Ref<Replica>>();
  /** Hears of every point that is complete: the step, and by worker the devices that have copies. */
  tell: (step: number, copies: Readonly<Record<string, readonly string[]>>) => void = () => {};
  /** Hears whenever there are to be more or fewer points from here on. */
  changed: (cost: KeepingCost) => void = () => {};
  private readonly devices: readonly Ref<Device>[];
  private readonly owner: Ref<any>;
  private readonly clock: Clock;
  private readonly replicas = new Map<string, Promise<Ref<Replica>>>();
  private deployment: Deployment | undefined;
  /** One that will be replaced: what there is of its points is what is gone on with. */
  private suspended: Deployment | undefined;
  private placement: Placement = { replicas: [], reserves: [], short: [] };
  /** From a device to another: what it gave did not come through. */
  private readonly cut = new Set<string>();
  /** Stages of earlier deployments, of which nothing is left but copies. */
  private superseded: Held[] = [];
  /** The step that is being copied, and whether some of it did not come through. */
  private copying: number | null = null;
  private isStuck = false;
  private cadence = new Cadence(1);
  /** Steps since one was copied. */
  private since = 0;
  /** When the step that is under way began, and whether copies are on their way in it. */
  private beganAt: number | null = null;
  private isCopying = false;
  /** What copies of earlier deployments cost. */
  private costBefore: CopyCost | null = null;
  /** A step that is asked for by others. */
  private held: number | null = null;
  /** One that is not asked for any more, and may still be there. */
  private released: number | null = null;
  private points = 0;
  private bytes = 0;

  /** @param devices by plan id. @param owner for whose life replicas are kept. */
  constructor(devices: readonly Ref<Device>[], owner: Ref<any>, clock: Clock) {
    this.devices = devices;
    this.owner = owner;
    this.clock = clock;
  }

  /** Goes on with copies of others that a device has kept already. */
  adopt(device: string, replica: Ref<Replica>): void {
    this.replicas.set(device, Promise.resolve(replica));
  }

  get cost(): KeepingCost {
    const { points, bytes, cadence } = this;
    return { points, bytes, every: cadence.apart, measured: cadence.cost ?? this.costBefore };
  }

  /**
   * Goes on with a new deployment; points of the one before remain until it has one of its own.
   * @param every of so many steps one is to be copied, as far as the plan knows. @param gain see `Cadence`.
   */
  watch(deployment: Deployment, placement: Placement, every = 1, gain = 1): void {
    if (deployment === this.suspended) return;
    this.suspended = undefined;
    this.placement = placement;
    this.cut.clear();
    if (deployment === this.deployment) {
      // Whoever has come or gone: what is on its way goes on, and the next step is copied for those that are there.
      this.since = this.cadence.every;
      return;
    }
    this.costBefore = this.cadence.cost ?? this.costBefore;
    this.cadence = new Cadence(every, gain);
    this.beganAt = null;
    this.since = 0;
    this.deployment = deployment;
    this.copying = null;
    this.isStuck = false;
  }

  /** Nothing more is copied of what the present deployment leaves, whoever joins: there will be another one. */
  suspend(): void {
    this.suspended = this.deployment ?? this.suspended;
    this.deployment = undefined;
  }

  /**
   * These stages have been replaced. As long as the new ones' copies are with nobody but themselves, theirs are of use; they
   * end when that is over.
   */
  supersede(stages: readonly Held[]): void {
    this.superseded.push(...stages);
  }

  /** Whether stages are to copy what the step that is about to be committed leaves. */
  wants(): boolean {
    this.forgetReleased();
    // Copies of another step would not come through either, and would be kept all the same.
    if (this.isStuck && this.deployment) this.spread(this.deployment, this.copying!);
    this.since++;
    this.stepped();
    const { cadence } = this;
    const isDue = this.since >= cadence.every && this.copying === null && !cadence.lacksPlain;
    const wants = this.deployment !== undefined && isDue && !this.isAlone;
    this.isCopying = wants || this.copying !== null;
    return wants;
  }

  /** A step has come to its end, but for what all of them end with. */
  private stepped(): void {
    const now = this.clock.now();
    if (this.beganAt !== null) this.cadence.passed(now - this.beganAt, this.isCopying);
    this.beganAt = now;
  }

  /** Whether all that is held, and all that could be copied, is with one device: with that device all of it is lost. */
  private get isAlone(): boolean {
    const owners = new Set(this.deployment!.held().map(({ device }) => device));
    return owners.size === 1 && this.placement.replicas.every((to) => to.length === 0);
  }

  /** All stages have copied what a step left. Others are given theirs from here on; nobody waits for it. */
  kept(step: number): void {
    const { deployment } = this;
    if (!deployment) return;
    this.copying = step;
    this.isCopying = true;
    this.since = 0;
    for (const { holding, device, stage, isLate } of deployment.held()) {
      if (!isLate) this.ledger.add({ holding, step, device, source: stage });
    }
    this.spread(deployment, step);
  }

  /** Gives those copies to others that they do not have yet. */
  private spread(deployment: Deployment, step: number): void {
    this.isStuck = false;
    const { bytes } = this;
    let whole = 0;
    const given = deployment.held().flatMap((held, worker) => {
      // Others have the same.
      if (held.isLate) return [];
      const has = this.ledger.devicesWith(step, held.holding.worker);
      const to = this.targets(held.device, worker);
      const lacking = to.filter((id) => !has.includes(id));
      whole += lacking.length * held.bytes;
      return lacking.map((id) => this.give(deployment, held, step, id));
    });
    void Promise.all(given).then((all) => {
      if (this.deployment !== deployment) return;
      if (all.every(Boolean)) this.complete(deployment, step, this.bytes - bytes >= whole);
      else this.isStuck = true;
    });
  }

  /** Devices that are to have copies of what a worker holds, as far as they can be reached from where it is. */
  private targets(from: string, worker: number): readonly string[] {
    const reserves = (this.placement.reserves[worker] ?? []).filter((id) => !this.cut.has(`${from}>${id}`));
    return (this.placement.replicas[worker] ?? []).map((id) =>
      this.cut.has(`${from}>${id}`) ? (reserves.shift() ?? id) : id,
    );
  }

  /**
   * Devices that have a copy of what a worker of the last deployment holds, as of a step: first those that are meant to, the
   * best first, whoever was the first to have it.
   */
  devicesWith(step: number, worker: number, { holding }: Held): readonly string[] {
    const having = this.ledger.devicesWith(step, holding.worker);
    const meant = (this.placement.replicas[worker] ?? []).filter((id) => having.includes(id));
    return [...new Set([...meant, ...having])];
  }

  /** @returns whether the copy is there now. */
  private async give(deployment: Deployment, from: Held, step: number, to: string): Promise<boolean> {
    const { holding, device, stage } = from;
    try {
      const known = this.replicaOn(to);
      const replica = await known;
      const bytes = await stage.ask.replicate(holding.worker, step, [replica], this.cadence.follows);
      this.bytes += bytes;
      // Whoever was lost before this was heard has it no more.
      if (this.deployment !== deployment || this.replicas.get(to) !== known) return false;
      this.ledger.add({ holding, step, device: to, source: replica });
      return true;
    } catch {
      // If somebody is lost, that is told elsewhere.
      this.cut.add(`${device}>${to}`);
      return false;
    }
  }

  /** Stages do not forget what this step has left before it is released: one step at a time. */
  hold(step: number): void {
    this.held = step;
    // Where no others are given copies no point is made; this is one as it is, and those that were held before are forgotten.
    if (this.deployment && this.isAlone) this.kept(step);
  }

  /** What was held is forgotten with the next step, unless it belongs to a point. */
  release(): void {
    this.released = this.held ?? this.released;
    this.held = null;
  }

  /** A point may take many steps to be complete, and there may be as many that are held in turn meanwhile. */
  private forgetReleased(): void {
    const { released, deployment } = this;
    this.released = null;
    if (released !== null && deployment) this.forgetUnfinished(deployment, released + 1);
  }

  /** Stages forget what steps before this one have left, unless that belongs to a point, or is asked for. */
  forgetUnfinished(deployment: Deployment, step: number): void {
    const points = this.ledger.steps();
    for (const { stage } of deployment.held()) {
      const forgotten = stage.ask.forgetBefore(
        step,
        [...points, ...this.asked],
        Math.min(step - 1, ...points),
      );
      forgotten.catch(() => {});
    }
  }

  private get asked(): readonly number[] {
    return this.held === null ? [] : [this.held];
  }

  /** A device is gone, with all that it held. @returns whether that was copies of what others hold. */
  lose(device: string): boolean {
    this.ledger.lose(device);
    this.superseded = this.superseded.filter((held) => held.device !== device);
    return this.replicas.delete(device);
  }

  private complete(deployment: Deployment, step: number, isWhole: boolean): void {
    if (this.deployment !== deployment) return;
    this.copying = null;
    this.points++;
    if (this.cadence.complete(isWhole)) this.changed(this.cost);
    const holdings = deployment.held();
    const workers = holdings.map(({ holding }) => holding.worker);
    this.ledger.forgetBefore(step);
    this.ledger.keepWorkers((worker) => workers.includes(worker));
    const over = this.superseded.splice(0);
    for (const { stage } of over) this.ledger.drop(stage);
    this.tell(
      step,
      Object.fromEntries(workers.map((worker) => [worker, this.ledger.devicesWith(step, worker)])),
    );
    const forgotten = [
      ...over.map(({ device, stage }) => this.devices[Number(device)]!.ask.end(stage)),
      ...holdings.map(({ stage }) => stage.ask.forgetBefore(step, this.asked)),
      ...[...this.replicas.values()].map(async (replica) => (await replica).ask.keep(step, workers)),
    ];
    for (const each of forgotten) each.catch(() => {});
  }

  private replicaOn(device: string): Promise<Ref<Replica>> {
    const known = this.replicas.get(device) ?? this.devices[Number(device)]!.ask.replica(this.owner);
    this.replicas.set(device, known);
    known.catch(() => {
      if (this.replicas.get(device) === known) this.replicas.delete(device);
    });
    return known;
  }
}
