/**
 * A device: one per node. It says what it is, measures itself and its links, and hosts stages on its engine.
 *
 * The engine is the device's: opened when first needed, shared by its stages, closed with the device. One that does not end
 * what it has begun ends the device (`recovery/lease.ts`).
 */

import { counted } from "../nn/engine/counted.ts";
import { createEngine, type EngineOptions } from "../nn/engine/create.ts";
import type { Engine } from "../nn/engine/engine.ts";
import type { Roles } from "../nn/model.ts";
import { decodeModel } from "../nn/onnx/proto.ts";
import type { OptimizerConfig } from "../nn/optim/optimizer.ts";
import { type ModelProfile, profileModel } from "../nn/profile.ts";
import type { ShardKind } from "../nn/shards/plan.ts";
import { Tensor } from "../protocols/tensor.ts";
import { Actor, type Down, type Ref } from "../runtime/index.ts";
import { machine, machineKind } from "../runtime/platform/machine.ts";
import { openPowerSensors, powerWorld } from "../runtime/platform/power.ts";
import type { MissingSensor } from "../runtime/platform/power-sensor.ts";
import type { Fault } from "./chaos/fault.ts";
import { type FaultEffects, FaultsRefused, Injector } from "./chaos/injector.ts";
import { slowed } from "./chaos/slowed.ts";
import { type DeviceUse, DeviceUses } from "./device-uses.ts";
import { type EnergyMeter, type EnergyReading, openMeter } from "./energy/meter.ts";
import type { DevicePower, DeviceWork } from "./energy/model.ts";
import { Custody } from "./journal/custody.ts";
import type { KeptOnDevice } from "./journal/kept.ts";
import { LARGEST_FAR_BYTES, measureLine } from "./profile-line.ts";
import { type DeviceStuck, Lease, leased } from "./recovery/lease.ts";
import { isLinkFailure } from "./recovery/links.ts";
import { Replica } from "./recovery/replica.ts";
import type { LinkProfile } from "./scheduler/cost.ts";
import { classOfMachine, type DeviceClassName } from "./scheduler/device-classes.ts";
import { Stage, type StageSpec } from "./stage.ts";

export interface DeviceDescription {
  readonly name: string;
  /** Of the machine the device runs on; devices of one machine share its cores. */
  readonly host: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly engine: string;
  /** The class that it is most like: whose power it is taken to draw. */
  readonly class: DeviceClassName;
  readonly pid: number;
}

/** A device may offer less memory than its machine has, or stand for a machine of its own, of another class. */
export type DeviceClaims = Partial<Pick<DeviceDescription, "host" | "memoryBytes" | "class">>;

export interface DeviceUsage {
  /** The most memory the device's process has had resident. */
  readonly peakBytes: number;
  /** Of tensors in the engine, without copies of what other devices hold. */
  readonly tensorBytes: number;
}

export interface ProfileRequest {
  /** The model's forward graph for one micro-batch: the bytes of an ONNX file, u8. */
  readonly graph: Tensor;
  /** What the graph's inputs are. */
  readonly roles: Roles;
  readonly microBatches: number;
  readonly optimizer: OptimizerConfig;
  /** Milliseconds to spend on runs. */
  readonly budgetMs: number;
  /** Whether the backward pass is measured in two as well. */
  readonly split: boolean;
  /** Ways to share work inside a micro-batch that are measured as well. */
  readonly sharings: readonly ShardKind[];
}

/** What a profile may hold at once, of what the device has. */
const PROFILE_MEMORY_SHARE = 0.5;

export class Device extends Actor {
  static override readonly reentrant: readonly string[] = ["describe", "usage", "take", "reaches", "giveUp"];

  #name: string;
  readonly #openEngine: () => Promise<Engine>;
  readonly #claims: DeviceClaims;
  readonly #effects: FaultEffects | undefined;
  readonly #graceMs: number | undefined;
  readonly #uses: DeviceUses;
  #custody!: Custody;
  #engine: Engine | undefined;
  /** The same, for copies of what other devices hold. */
  #copies: Engine | undefined;
  #lease!: Lease;
  #stuck: DeviceStuck | undefined;
  #injector: Injector | undefined;
  #meter: EnergyMeter | undefined;
  /** The stages that run here, with whoever they run for. */
  readonly #hosted = new Map<Ref<Stage>, Ref<any>>();
  /** Copies of stages that run elsewhere, with whoever they are kept for. */
  readonly #replicas = new Map<Ref<Replica>, Ref<any>>();

  /**
   * @param engine by name, or what opens one that has none, such as a slower one.
   * @param claims said in place of what the machine tells.
   * @param effects what faults do, of a device that may be made to fail.
   * @param graceMs how long copies of a run wait for another coordinator when theirs is lost; as the node's
   *   patience says when left out.
   * @param hears of each run that uses the device, when it begins, loses its coordinator, and is over.
   */
  constructor(
    name: string,
    engine: NonNullable<EngineOptions["engine"]> | (() => Promise<Engine>) = "auto",
    claims: DeviceClaims = {},
    effects?: FaultEffects,
    graceMs?: number,
    hears: (use: DeviceUse) => void = () => {},
  ) {
    super();
    this.#uses = new DeviceUses(hears);
    this.#effects = effects;
    this.#graceMs = graceMs;
    this.#name = name;
    this.#claims = claims;
    this.#openEngine = typeof engine === "function" ? engine : () => createEngine({ engine });
  }

  override async onStart(): Promise<void> {
    const { self, clock, node } = this.context;
    this.#custody = new Custody(clock, this.#graceMs ?? node.times.graceMs);
    this.#lease = new Lease(clock, node.times, (stuck) => {
      this.#stuck = stuck;
      self.tell.giveUp();
    });
    const engine = await this.#openEngine();
    this.#use(engine);
    if (!this.#effects) return;
    const slow = slowed(engine, clock);
    this.#use(slow);
    const slowDown = (factor: number) => {
      slow.factor = factor;
    };
    this.#injector = new Injector(this.#effects, slowDown, this.context.clock);
  }

  #use(engine: Engine): void {
    this.#engine = leased(engine, this.#lease);
    this.#copies = counted(this.#engine);
  }

  override async onStop(): Promise<void> {
    this.#custody.close();
    this.#lease?.close();
    this.#injector?.arm([]);
    if (this.#stuck) {
      // What runs in the engine cannot be broken off, and nobody waits for it to hear that the device is gone.
      void this.closeMeter();
      return;
    }
    await this.#endStages(() => true);
    await this.closeMeter();
    await this.#engine?.close();
  }

  /** Ends the device if it is stuck, at once: with a last word, and with what it hosts. @throws DeviceStuck. */
  giveUp(): void {
    if (!this.#stuck) return;
    const { node } = this.context;
    for (const hosted of [...this.#hosted.keys(), ...this.#replicas.keys()]) void node.kill(hosted);
    throw this.#stuck;
  }

  /**
   * A scheduler is gone: its run is over, and what was done for it is of no use any more; or it has been lost, and copies of
   * its run wait for another one.
   */
  override async onDown({ ref, reason }: Down): Promise<void> {
    const isOwner = (owner: Ref<any>) => owner.key === ref.key;
    const isLost = reason.code === "nodelost";
    const letGo = () => {
      this.#uses.ends(ref);
      void this.#endStages(isOwner);
    };
    if (isLost && this.#custody.lose(ref, letGo)) {
      this.#uses.keeps(ref);
      await Promise.all(ownedBy(this.#hosted, isOwner).map((stage) => this.#retire(stage)));
    } else {
      this.#custody.release(ref);
      this.#uses.ends(ref);
      await this.#endStages(isOwner);
    }
    if ([...this.#hosted.values()].some((owner) => !isOwner(owner))) return;
    this.#injector?.arm([]);
    await this.closeMeter();
  }

  describe(): DeviceDescription {
    const { host, cores, memoryBytes, pid } = machine();
    const engine = this.#engine!.name;
    const own = classOfMachine(machineKind(), engine);
    return { name: this.#name, host, cores, memoryBytes, engine, class: own, pid, ...this.#claims };
  }

  /** What it is called from here on: where it has come to, another device may have its name. */
  called(name: string): void {
    this.#name = name;
  }

  /**
   * These faults are to come over it while it works for the next run, and no others: for finding out what that survives. If
   * they come `besides` others, each comes within the time that it lasts, or not at all.
   * @throws FaultsRefused where that was not allowed when the device was started.
   */
  arm(faults: readonly Fault[], besides = false): void {
    if (!this.#injector)
      throw new FaultsRefused(
        `${this.#name} was not started to be broken: start it with troupe node --chaos`,
      );
    if (!besides) this.#injector.arm(faults);
    else for (const fault of faults) this.#injector.offer(fault);
  }

  /** One of those that were to come besides others is not to come any more. Returns whether it has not. */
  withdraw(fault: Fault): boolean {
    return this.#injector?.withdraw(fault) ?? false;
  }

  /** Faults that are still to come over it. */
  armed(): readonly Fault[] {
    return this.#injector?.toCome ?? [];
  }

  usage(): DeviceUsage {
    const [all, copies] = [this.#engine!, this.#copies!].map((engine) => engine.usage().tensorBytes);
    return { peakBytes: machine().peakBytes, tensorBytes: all! - copies! };
  }

  /**
   * Opens the device's energy meter, in place of one that is open. Sensors measure the machine: with several devices on
   * one, each would count all of it.
   * @param power for the model, where nothing measures.
   * @returns why each kind of sensor is not used that is not.
   */
  async openMeter(power: DevicePower): Promise<readonly MissingSensor[]> {
    await this.closeMeter();
    const { clock } = this.context;
    const sensors = await openPowerSensors(powerWorld(clock));
    this.#meter = await openMeter({ sensors, clock, power });
    return [...this.#meter.missing];
  }

  /** Joules since the meter was opened; null when none is. @param done what the device has done since, for the model. */
  async readMeter(done: DeviceWork): Promise<EnergyReading | null> {
    return (await this.#meter?.read(done)) ?? null;
  }

  async closeMeter(): Promise<void> {
    const meter = this.#meter;
    this.#meter = undefined;
    await meter?.release();
  }

  /** Measures every segment of a model on this device's engine. */
  profile(request: ProfileRequest): Promise<ModelProfile> {
    const { graph, roles, ...options } = request;
    const { clock } = this.context;
    const model = { ...roles, graph: decodeModel(graph.bytes) };
    const memoryBytes = this.describe().memoryBytes * PROFILE_MEMORY_SHARE;
    return profileModel(this.#engine!, model, { ...options, memoryBytes }, () => clock.now());
  }

  /** Takes what it is given, and answers with nothing: how another device measures its line to here. */
  take(_tensor: Tensor): void {}

  /** Whether another device can be reached from here, by a link that is there or a new one. */
  async reaches(other: Ref<Device>): Promise<boolean> {
    try {
      await other.ask.usage();
      return true;
    } catch (error) {
      if (isLinkFailure(error)) return false;
      throw error;
    }
  }

  /** Measures the link to another device, from here to there. */
  measureLink(other: Ref<Device>): Promise<LinkProfile> {
    const { clock } = this.context;
    const probe = Tensor.zeros("u8", [LARGEST_FAR_BYTES]);
    const send = (bytes: number) => other.ask.take(new Tensor("u8", [bytes], probe.bytes.subarray(0, bytes)));
    return measureLine(send, () => clock.now());
  }

  /**
   * Starts a stage on this device, for as long as `owner` lives and can be reached.
   * @throws EngineError, GraphError when its graph cannot be compiled here.
   */
  async host(spec: StageSpec, owner: Ref<any>): Promise<Ref<Stage>> {
    this.#custody.require(owner);
    const stage = await this.context.spawn(Stage, [spec, this.#engine!, this.#injector]).catch((error) => {
      // Not that it could not be started matters, but why.
      throw error.cause ?? error;
    });
    this.#hosted.set(stage, owner);
    this.#uses.begins(owner);
    this.context.monitor(owner);
    return stage;
  }

  /** Room for copies of what other devices' stages hold, for as long as `owner` lives and can be reached. */
  async replica(owner: Ref<any>): Promise<Ref<Replica>> {
    this.#custody.require(owner);
    const replica = await this.context.spawn(Replica, [this.#copies!]);
    this.#replicas.set(replica, owner);
    this.context.monitor(owner);
    return replica;
  }

  /**
   * What is done here for `owner` from now on is of this run, whose copies are kept for a while when the owner is lost. Those
   * that are kept of it are the owner's from here on; whatever else is left of another owner's work for it is ended.
   * @param epoch of the owner, where several may lead the run.
   * @throws Superseded where one of a later epoch has taken it over; so do `host` and `replica`.
   */
  async attach(run: string, owner: Ref<any>, epoch = 0): Promise<KeptOnDevice> {
    const before = this.#custody.take(run, owner, epoch);
    this.#uses.passes(before ?? owner, owner);
    this.context.monitor(owner);
    const isBefore = (other: Ref<any>) => other.key === before?.key;
    const [stages, replicas] = [ownedBy(this.#hosted, isBefore), ownedBy(this.#replicas, isBefore)];
    for (const stage of stages) this.#hosted.set(stage, owner);
    for (const replica of replicas) this.#replicas.set(replica, owner);
    await Promise.all(stages.map((stage) => this.#retire(stage)));
    const kept = await Promise.all(stages.map(async (stage) => ({ stage, kept: await stage.ask.kept() })));
    // Of a deployment that was not completed there may be stages with nothing in them.
    const empty = kept.filter((each) => each.kept.steps.length === 0);
    await Promise.all(empty.map(({ stage }) => this.#endStage(stage)));
    return {
      stages: kept.filter((each) => !empty.includes(each)),
      replicas: await Promise.all(
        replicas.map(async (replica) => ({ replica, kept: await replica.ask.kept() })),
      ),
    };
  }

  /** What it does for this owner is over: the owner's run goes on without it. */
  async dismiss(owner: Ref<any>): Promise<void> {
    this.#custody.release(owner);
    this.#uses.ends(owner);
    await this.#endStages((other) => other.key === owner.key);
  }

  /** Ends a stage that runs here; what it has copies of is gone with it. */
  async end(stage: Ref<Stage>): Promise<void> {
    const own = [...this.#hosted.keys()].find(({ key }) => key === stage.key);
    if (own) await this.#endStage(own);
  }

  async #endStages(ofOwner: (owner: Ref<any>) => boolean): Promise<void> {
    await Promise.all([
      ...ownedBy(this.#hosted, ofOwner).map((stage) => this.#endStage(stage)),
      ...ownedBy(this.#replicas, ofOwner).map((replica) => {
        this.#replicas.delete(replica);
        return this.context.node.stop(replica);
      }),
    ]);
  }

  async #endStage(stage: Ref<Stage>): Promise<void> {
    this.#hosted.delete(stage);
    // It may be waiting for a tensor that will never come; or it has failed, and there is nothing to end.
    await stage.ask.abandon().catch(() => {});
    // A kernel cannot be broken off, and its memory must outlive it.
    await stage.ask.idle().catch(() => {});
    await this.context.node.stop(stage);
  }

  /** Ends what a stage does, and leaves its copies, also of the last step. */
  async #retire(stage: Ref<Stage>): Promise<void> {
    await stage.ask.abandon().catch(() => {});
    // Both are answered when nothing is under way any more.
    await stage.ask.hold().catch(() => {});
    await stage.ask.retire().catch(() => {});
  }
}

/** Those whose owner is meant. */
function ownedBy<T>(owners: ReadonlyMap<T, Ref<any>>, isMeant: (owner: Ref<any>) => boolean): T[] {
  return [...owners].flatMap(([each, owner]) => (isMeant(owner) ? [each] : []));
}
