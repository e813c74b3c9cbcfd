/**
 * A stage: ranges of segments on one device, and the actor that runs its program.
 *
 * In a step it goes through an ordered list of operations (see `stage/worker.ts`). At the end of the list it has all
 * gradients of the step and says so; the update happens only when the scheduler, having heard that of every stage, commits
 * the step (the commit gate, as in torchft).
 *
 * A range is a chunk. The stage may be one of several members who share its work: where they have micro-batches of their
 * own, a chunk's gradients are added up over them in the background as soon as they are complete; where they have parts of
 * the weights or of the sequences, what they do together is inside a pass.
 */

import type { Engine } from "../nn/engine/engine.ts";
import type { Tensor } from "../protocols/tensor.ts";
import { Actor, type Down, type Monitor, type Ref } from "../runtime/index.ts";
import type { Injector } from "./chaos/injector.ts";
import { Abandoned, NeighbourLost, type Slip } from "./inbox.ts";
import type { KeptCopies } from "./journal/kept.ts";
import type { Fetch, Replicas } from "./recovery/replica.ts";
import { OWN_COPIES } from "./recovery/room.ts";
import { microBatchesOf } from "./scheduler/program.ts";
import { Chunk, holdingsOf, stateOf } from "./stage/chunk.ts";
import { Clearing } from "./stage/clearing.ts";
import { commitChunks } from "./stage/commit.ts";
import { Early } from "./stage/early.ts";
import { fetchFrom } from "./stage/fetching.ts";
import { followable } from "./stage/followable.ts";
import { Keeping } from "./stage/keeping.ts";
import type { Rest } from "./stage/rest.ts";
import { Session } from "./stage/session.ts";
import { assignSlots, type Slots } from "./stage/slots.ts";
import {
  type CommitReport,
  type Dealing,
  dealingOf,
  dealtAnew,
  isSameDealing,
  isSameWork,
  type Resumed,
  type StageHoldings,
  type StageSpec,
  type StepReport,
  updatesInPasses,
} from "./stage/spec.ts";
import { StandingCollectives } from "./stage/standing.ts";
import { type DealtStatistics, dealtStatistics } from "./stage/statistics.ts";

export type * from "./stage/spec.ts";

export class Stage extends Actor {
  static override readonly reentrant = ["deliver", "abandon", "replicate", "recall", "forgetBefore"];

  #spec: StageSpec;
  readonly #engine: Engine;
  readonly #injector: Injector | undefined;
  #slots: Slots;
  readonly #chunks: readonly Chunk[];
  /** Micro-batches of its own. */
  #taken: ReadonlySet<number>;
  readonly #clearing = new Clearing();
  /** Of the present generation. */
  #session!: Session;
  readonly #early = new Early();
  /** The generation in which it was told what it is to do. */
  #told: number;
  #monitors: Monitor[] = [];
  /** By chunk; where there is no need, left out. */
  #statistics: DealtStatistics[] = [];
  /** What it held after steps that a run may go back to, and after which step what it holds now is. */
  readonly #keeping = new Keeping(() => this.state());
  #retired = false;
  /** Whether what it has of an earlier generation goes on in this one, if all others' does. */
  #isCarried = false;
  /** Whether anything has been accumulated since the last update. */
  #dirty = false;

  /**
   * @param injector of a device that may be made to fail.
   * @throws GraphError for a chunk that cannot be trained, or not shared in this way.
   */
  constructor(spec: StageSpec, engine: Engine, injector?: Injector) {
    super();
    this.#spec = spec;
    this.#engine = engine;
    this.#injector = injector;
    this.#slots = assignSlots(spec.program);
    this.#chunks = spec.chunks.map((_, index) => new Chunk(index, spec, this.#slots));
    this.#taken = microBatchesOf(spec.program);
    this.#told = spec.generation;
  }

  override async onStart(): Promise<void> {
    const { rank, workers } = this.#spec.group;
    this.#open(this.#spec.generation);
    const collectives = new StandingCollectives(rank, workers.length, () => this.#session.collectives);
    try {
      for (const chunk of this.#chunks) {
        const before = this.#chunks.find(({ position }) => position === chunk.position - 1);
        await chunk.build(this.#engine, collectives, before);
      }
    } catch (error) {
      this.#release();
      throw error;
    }
    // The session that is open has them too.
    this.#statistics.push(...dealtStatistics(this.#chunks, rank === 0));
  }

  #open(generation: number): void {
    const { clock, node } = this.context;
    this.#session = new Session(generation, node.id, {
      ...{ spec: this.#spec, chunks: this.#chunks, slots: this.#slots, statistics: this.#statistics },
      ...{ clearing: this.#clearing, clock, injector: this.#injector },
    });
    this.#early.reached(generation);
  }

  override onStop(): void {
    this.#session.fail(new Abandoned("the run is over"));
    this.#early.fail(new Abandoned("the run is over"));
    if (!this.#retired) this.#release();
  }

  #release(): void {
    // What a chunk lends to the one behind it is there as long as that is.
    for (const chunk of this.#chunks.toReversed()) chunk.release();
  }

  /** Another stage is gone: what it would have sent will never come. */
  override onDown(down: Down): void {
    this.#session.giveUp(new NeighbourLost(`a neighbouring stage is gone: ${down.reason.message}`));
  }

  /**
   * Says where the workers are that this one exchanges tensors with, by number.
   * @param goesOn with the step that was under way in the generation before; else that is forgotten.
   * @throws TensorError when something that the stage holds has not been loaded.
   */
  async connect(peers: Readonly<Record<number, Ref<Stage>>>, goesOn = false): Promise<void> {
    if (this.#isCarried && !goesOn) await this.#renew(this.#session.generation);
    this.#isCarried = false;
    this.#session.hasGivenUp &&= goesOn;
    for (const { executor } of this.#chunks) executor.requireLoaded();
    this.#session.mail.connect(peers);
    const known = new Map(Object.values(peers).map((peer) => [peer.key, peer] as const));
    for (const peer of known.values()) this.#monitors.push(this.context.monitor(peer));
  }

  /** What it holds of the model: parameters in the order of its reports, and of which values it has a part. */
  async holds(): Promise<StageHoldings> {
    const follows = followable(this.#chunks, this.#spec.program);
    const holds = holdingsOf(this.#chunks, await this.state(), follows);
    this.#keeping.describe(this.#spec, holds, follows);
    return holds;
  }

  /**
   * Copies some of what the stage holds into it: parameters, frozen values, statistics, optimiser state; of what it has a
   * part of, that part.
   * @throws TensorError when they do not fit.
   */
  async load(values: Readonly<Record<string, Tensor>>): Promise<void> {
    this.#keeping.replaced();
    for (const { executor } of this.#chunks) await executor.put(new Map(Object.entries(values)));
  }

  /**
   * As `load`, from those who have copies of it.
   * @param step of the copies. @param from whom, by the name it knows the worker by, and what.
   * @param keeps whether that is the last of what the step left, of which it keeps a copy then.
   * @returns bytes that came from other devices.
   */
  async fetch(step: number, from: readonly Fetch[], keeps = false): Promise<number> {
    await this.#injector?.reached(["recovery"], step + 1);
    const { self, node } = this.context;
    const bytes = await fetchFrom(from, step, {
      ...{ self: self as Ref<Stage>, node: node.id, copies: this.#keeping.copies },
      load: (values) => this.load(values),
    });
    if (keeps) await this.keep(step);
    return bytes;
  }

  /** Keeps a copy of what it holds now, which is how this step has left it, unless it has. */
  async keep(step: number): Promise<void> {
    await this.#keeping.keep(step);
  }

  /** Keeps a copy of what the last step left, unless there is one, or that step's commit was broken off. */
  async hold(): Promise<void> {
    if (!this.#retired) await this.#keeping.hold();
  }

  /**
   * Gives others a copy of what it kept of a step, piece by piece, while it goes on with others.
   * @param worker, follows see `Keeping.give`. @returns bytes that they were given.
   */
  async replicate(worker: string, step: number, to: Replicas, follows = false): Promise<number> {
    const { generation } = this.#session;
    await this.#injector?.reached(["copy"], step);
    // Behind a recovery, what a step leaves may be copied again.
    const isOver = () => this.#session.generation !== generation;
    return this.#keeping.give(worker, step, to, follows, isOver, this.context.clock);
  }

  /** Copies that it has kept of what it holds: for whoever did not have it keep them. */
  kept(): KeptCopies {
    return this.#keeping.kept();
  }

  /**
   * Those of `names` that it holds, as it kept them of a step; they are borrowed until they have been sent.
   * @throws RangeError where there is no copy of that step.
   */
  recall(worker: string, step: number, names: readonly string[]): Record<string, Tensor> {
    return this.#keeping.recall(worker, step, names);
  }

  /**
   * Nobody asks for copies of steps before this one any more, but for those of `asked`.
   * @param point the step that others have copies of: nobody carries it out again, nor those before it.
   */
  forgetBefore(step: number, asked: readonly number[] = [], point = step): void {
    this.#keeping.copies.forgetBefore(step, asked);
    this.#session.mail.forgetBefore(point + 1);
  }

  /**
   * Accepts a tensor (transferred) for an operation to come. In training that is all, for slots bound how far a
   * stage runs ahead; nothing does in validation, where the answer comes when the tensor is taken.
   * @throws RangeError for a tensor of an earlier generation, InboxError for a second one in one place. One of a later
   *   generation waits until the stage is told of that.
   */
  deliver(slip: Slip, tensor: Tensor): Promise<void> | undefined {
    const later = this.#early.until(slip.generation);
    if (later) return later.then(() => this.deliver(slip, tensor));
    const taken = this.#session.mail.inbox.put(slip, tensor);
    return slip.phase === "evaluate" ? taken : undefined;
  }

  /** Gives up what is under way: nothing more will be delivered. */
  abandon(): void {
    this.#session.giveUp(new Abandoned("the run is over"));
  }

  /** Begins a generation in which nothing is under way. */
  async #renew(generation: number): Promise<void> {
    await this.idle();
    for (const chunk of this.#chunks) chunk.letGo();
    this.#open(generation);
  }

  /**
   * Goes on in a further generation, as the worker that it is, once it has been told to give up what is under way: what is
   * compiled stays, and what it holds. A step under way waits for `connect`. @param step that the run goes back to.
   * @param dealing of the micro-batches from there on, where it is another one: a step that is under way is begun again then.
   * @param since with that step all the same, where it can, as all others do: the generation in which all of them were told
   *   last what they are to do; if it was told something else, they would not have the same of each other. Null: all begin anew.
   * @throws RangeError once it is retired, EngineError where the engine has no memory for what it is dealt.
   */
  async resume(generation: number, step: number, dealing?: Dealing, since?: number | null): Promise<Resumed> {
    if (this.#retired) throw new RangeError("a stage that has given its memory back does not go on");
    this.#keeping.forgetAfter(step);
    const session = this.#session;
    const isAsked = since === this.#told && this.#keeping.step === step && session.canGoOn(step + 1);
    const spec = dealing && dealtAnew(this.#spec, dealing);
    if (dealing) this.#told = dealing.generation;
    const isSame = isAsked && isSameWork(this.#spec, spec!);
    const rest = isSame
      ? this.#readdress(step + 1, spec!)
      : isAsked && (await session.dealAnew(step + 1, this.#spec, spec!));
    if (rest && !isSame) this.#deal(spec!, rest.slots);
    const isDealtAnew = dealing !== undefined && !isSameDealing(dealing, dealingOf(this.#spec));
    const carried =
      isDealtAnew || since === null ? null : this.carryOn(generation, step, step, undefined, rest || null);
    if (carried) return carried;
    for (const monitor of this.#monitors.splice(0)) this.context.demonitor(monitor);
    const busy = session.under !== undefined;
    const holds = this.#keeping.isAt(step);
    if (isDealtAnew) await this.idle();
    if (isDealtAnew) this.#deal(spec!);
    this.#isCarried = false;
    await this.#renew(generation);
    this.#session.hasGivenUp = true;
    return { holds, midway: false, busy };
  }

  /**
   * Goes on in a further generation from where it is: behind `step`, though copies are of an earlier one. Whoever is new makes
   * the steps in between by itself, of what this one has sent in them.
   * @param point the step that copies are of. @param dealing that it is to have: a move that was broken off may have changed it.
   * @returns null where it cannot, and nothing has changed.
   */
  carryOn(
    generation: number,
    step: number,
    point: number,
    dealing?: Dealing,
    rest: Rest | null = null,
  ): Resumed | null {
    const session = this.#session;
    if (dealing && !isSameDealing(dealing, dealingOf(this.#spec))) return null;
    if (this.#retired || this.#keeping.step !== step) return null;
    // Those who are new go through all of a step, by the programs that it was begun with.
    if (session.rest && !rest) return null;
    if (!session.carryOn(generation, step, point)) return null;
    for (const monitor of this.#monitors.splice(0)) this.context.demonitor(monitor);
    this.#isCarried = true;
    this.#early.reached(generation);
    return { holds: true, midway: true, busy: session.under !== undefined || (rest?.run ?? null) !== null };
  }

  /** Its own work is the same. @returns what is left of a step that it goes on with in another way than it began it. */
  #readdress(step: number, spec: StageSpec): Rest | undefined {
    this.#spec = spec;
    for (const chunk of this.#chunks) chunk.spec = spec.chunks[chunk.index]!;
    return this.#session.readdress(step, spec);
  }

  /** @param rest slots of what is left of the step that goes on with it. */
  #deal(spec: StageSpec, rest?: Slots): void {
    this.#spec = spec;
    this.#slots = assignSlots(spec.program);
    this.#taken = microBatchesOf(spec.program);
    for (const chunk of this.#chunks) chunk.dealAnew(spec, rest ?? this.#slots);
    this.#statistics = dealtStatistics(this.#chunks, spec.group.rank === 0);
  }

  /** Gives back what it holds in the engine, once nothing is under way; what it has copies of remains. */
  async retire(): Promise<void> {
    if (this.#retired) return;
    this.#retired = true;
    this.#early.fail(new Abandoned("the run is over"));
    await this.idle();
    this.#release();
  }

  /** Ends what is under way; answered when nothing is any more. */
  idle(): Promise<void> {
    return this.#session.end(new Abandoned("the run is over"));
  }

  /** Runs the program of one step, up to the commit gate, or the rest of it where it is in the middle of it. */
  async train(step: number): Promise<StepReport> {
    const session = this.#session;
    if (!this.#spec.keepsSent || !session.isMidway(step)) await this.#begin(step);
    return session.reported();
  }

  async #begin(step: number): Promise<void> {
    const isDirty = this.#dirty;
    this.#dirty = true;
    if (updatesInPasses(this.#spec.program)) this.#keeping.step = null;
    const stepping = { spec: this.#spec, chunks: this.#chunks, statistics: this.#statistics };
    // What is kept of earlier steps spares going back to copies: it is worth as much memory as those, and no more.
    await this.#session.begin(step, stepping, this.#slots, isDirty, OWN_COPIES * this.#keeping.bytes);
  }

  /**
   * Updates the parameters: every stage has all gradients of `step`. Where members train on their own, `meets` says
   * whether they become one again behind it; where each micro-batch has been an update, nothing is left to do.
   * @param squareSums of the whole model. @param keeps whether a copy is kept of what comes of it.
   */
  async commit(step: number, squareSums: Tensor, meets = false, keeps = false): Promise<CommitReport> {
    await this.#injector?.reached(["commit"], step);
    const session = this.#session;
    await this.#keeping.committing(step, squareSums);
    session.committing(meets);
    const report = await commitChunks({
      ...{ chunks: this.#chunks, session, clock: this.context.clock, step, squareSums },
      share: meets ? this.#taken.size / this.#spec.microBatches : null,
    }).finally(() => {
      session.isBound = false;
    });
    this.#dirty = false;
    this.#keeping.step = step;
    if (keeps) await this.keep(step);
    return report;
  }

  /**
   * Takes those of `count` micro-batches that are its own through the forward pass. Resolves with their losses where the
   * model ends, NaN for those of others, and with nothing elsewhere.
   */
  async evaluate(pass: number, count: number): Promise<number[]> {
    const { microBatches } = this.#spec;
    const takes = (microBatch: number) => this.#taken.has(microBatch % microBatches);
    const worker = this.#spec.program.worker;
    return this.#session.validate({ chunks: this.#chunks, worker, microBatches, takes }, pass, count);
  }

  /**
   * What training changes, by name: parameters, the optimiser's state, statistics; all of it, or those of `names` that
   * there are. Views of the stage's memory: they are borrowed, by a link until they have been sent and by whoever asks on
   * the same node until the next step.
   */
  async state(names: readonly string[] | null = null): Promise<Record<string, Tensor>> {
    return stateOf(this.#chunks, names);
  }
}
