/**
 * A run in which a loss stops nobody but those who wait for what was lost: simulated in time, with the decisions of the real
 * code (planner, adapted plans, placement of copies, the ledger's rule of what is lost, the decision for another plan).
 *
 * A step goes as the simulator says. Who leaves in it takes its gradients of that step with it: its micro-batches are done
 * again by one other member of its stage, in the part of its time in which it waits anyhow, or by all (`rules.ts`), which
 * have the same weights, among all else that they do (`again.ts`), and the gradients of that stage are added up behind that. A stage whose sum is complete has lost
 * nothing by a loss: every member has the sum. The step is committed when all stages have theirs. Between two steps
 * micro-batches are dealt anew to those that are there then, with all who have come; they are given what their stage holds
 * then, or in a step before, in which they have nothing to do.
 */

import { decide, moveMs, transfers } from "../../actors/recovery/decision.ts";
import { Ledger } from "../../actors/recovery/ledger.ts";
import type { ChurnEvent } from "../../actors/scheduler/cluster.ts";
import { transferMs } from "../../actors/scheduler/cost.ts";
import { OTHERS } from "../../actors/scheduler/dealt.ts";
import { type Plan, type Worker, workersOf } from "../../actors/scheduler/plan.ts";
import { PlanError } from "../../actors/scheduler/plan-error.ts";
import { adaptPlan, makePlan } from "../../actors/scheduler/planner.ts";
import { seededRandom } from "../../runtime/random.ts";
import { DoneAgain } from "./again.ts";
import { type Course, courseOf } from "./course.ts";
import type { Assumed, ChurnRun } from "./rules.ts";
import { among, type ChurnWorld, heldBytes, linkOf } from "./world.ts";

export function runInSpans(world: ChurnWorld, first: Plan, assumed: Assumed, fullEveryMs: number): ChurnRun {
  return new SpanRun(world, first, assumed, fullEveryMs).run();
}

class SpanRun {
  private readonly world: ChurnWorld;
  private readonly assumed: Assumed;
  private readonly fullEveryMs: number;
  private readonly random;
  private readonly there: Set<string>;
  /** Since when devices are measured. */
  private readonly ready = new Map<string, number>();
  /** Those that have been given what they hold, and those that are in this step, which takes so long at least. */
  private readonly given = new Set<string>();
  private giving: readonly string[] = [];
  private givingMs = 0;
  private readonly cameAt = new Map<string, number>();
  private readonly ledger = new Ledger<string>();
  private course: Course;
  private reference: Plan;
  /** A step of the undisturbed run, and how it was to one of this run when both were looked at. */
  private idealMs: number;
  private lead = 1;
  /** By stage, what of its end is for a loss that was not known at once. */
  private detects: number[] = [];
  /** By device, milliseconds of others' work that it has taken over in this step. */
  private taken = new Map<string, number>();
  /** What all others of stages do again in this step. */
  private again = new DoneAgain(0);
  private next = 0;
  private now = 0;
  /** Steps count as long as devices come and go; one that is committed behind that does not. */
  private isOver = false;
  private nextFull: number;
  private steps = 0;
  private ideal = 0;
  private idealAt = 0;
  private readonly sums = {
    ...{ leaves: 0, joins: 0, hits: 0, detectMs: 0, replayMs: 0, moveMs: 0, joinedBytes: 0, copiedBytes: 0 },
    ...{ bereft: 0, unevenMs: 0, waitedMs: 0, waited: 0, decisionMs: 0, decisions: 0, planned: 0, moves: 0 },
    lives: 0,
  };

  constructor(world: ChurnWorld, first: Plan, assumed: Assumed, fullEveryMs: number) {
    this.world = world;
    this.assumed = assumed;
    this.fullEveryMs = fullEveryMs;
    this.nextFull = fullEveryMs;
    this.random = seededRandom(world.seed + 1);
    this.there = new Set(world.request.devices.map(({ id }) => id));
    for (const id of this.there) {
      this.ready.set(id, 0);
      this.given.add(id);
    }
    this.reference = first;
    this.idealMs = first.predictedStepMs;
    this.course = courseOf(this.world, first);
  }

  run(): ChurnRun {
    while (!this.isOver) this.step();
    const { sums, now, steps, ideal } = this;
    return {
      ...{ totalMs: now, steps, idealSteps: ideal, ...sums },
      lives: sums.lives / Math.max(1, steps),
      waitedMs: sums.waitedMs / Math.max(1, sums.waited),
      decisionMs: sums.decisionMs / Math.max(1, sums.decisions),
      stepMs: sums.planned / Math.max(1, steps),
    };
  }

  private step(): void {
    const { course, assumed } = this;
    const begin = this.now;
    for (const { worker, member, stage } of workersOf(course.plan)) {
      const holding = {
        worker: `${worker}`,
        names: [`stage ${stage.stage}`],
        cuts: {},
        rank: 0,
        ranks: 1,
        apart: false,
      };
      this.ledger.add({ holding, step: this.steps, device: member.device, source: member.device });
    }
    this.ledger.forgetBefore(this.steps);
    const undisturbed = begin + Math.max(course.stepMs, this.givingMs);
    const ends = course.stages.map(({ summedMs }) => begin + summedMs);
    const gone = course.stages.map(() => new Set<string>());
    this.detects = ends.map(() => 0);
    this.taken = new Map();
    this.again = new DoneAgain(begin + Math.max(...course.stages.map((each) => each.summedMs - each.sumMs)));
    // Whoever left behind the making of the plan is found missing when the step begins.
    for (const [id, stage] of course.stageOf) {
      if (!this.there.has(id)) this.hit(id, stage, begin, begin, begin, ends, gone);
    }
    for (;;) {
      const end = Math.max(undisturbed, ...ends.map((each) => each + course.updateMs));
      const event = this.world.events[this.next];
      if (!event || event.atMs >= end) break;
      this.next++;
      const stage = this.take(event);
      if (stage === undefined || event.atMs >= ends[stage]! || gone[stage]!.has(event.device)) continue;
      const detect = this.random.next() < assumed.silent ? assumed.silentMs : assumed.closedMs;
      this.hit(event.device, stage, begin, event.atMs, event.atMs + detect, ends, gone);
    }
    const last = ends.indexOf(Math.max(...ends));
    const end = Math.max(undisturbed, ends[last]! + course.updateMs);
    const overMs = this.world.minutes * 60_000;
    if (end > overMs) {
      this.isOver = true;
      if (this.steps > 0) return;
      // Nothing was done in all this time.
      this.takeIdeal(overMs);
      this.now = overMs;
      this.sums.replayMs = Math.max(0, overMs - undisturbed);
      this.sums.lives = this.there.size;
      return;
    }
    const waiting = Math.max(0, end - undisturbed);
    const detecting = Math.min(waiting, this.detects[last]!);
    this.sums.detectMs += detecting;
    this.sums.replayMs += waiting - detecting;
    this.sums.planned += course.stepMs;
    this.sums.unevenMs += course.stepMs - this.idealMs;
    this.sums.copiedBytes += course.copiedBytes;
    this.sums.lives += this.there.size;
    this.steps++;
    this.takeIdeal(end);
    this.now = end;
    this.replan(begin);
  }

  /** An event of the world. @returns the stage of a device that leaves, and has work. */
  private take({ atMs, what, device }: ChurnEvent): number | undefined {
    this.takeIdeal(atMs);
    const { assumed, sums } = this;
    if (what === "leave") {
      sums.leaves++;
      this.there.delete(device);
      this.ready.delete(device);
      this.given.delete(device);
      this.cameAt.delete(device);
      this.ledger.lose(device);
      return this.course.stageOf.get(device);
    }
    sums.joins++;
    this.there.add(device);
    this.cameAt.set(device, atMs);
    this.ready.set(device, atMs + assumed.profileMs);
    return undefined;
  }

  /**
   * Those that were given what they hold in the step that is over have work from here on. If there were none, all are given it
   * in the next one that were measured when this one began, and have compiled since.
   */
  private giveBeside(began: number): void {
    const { assumed, sums, ready, given } = this;
    for (const id of this.giving) if (this.there.has(id)) given.add(id);
    const until = Math.min(began, this.now - assumed.planMs - assumed.startMs);
    const waiting = [...ready].filter(([id, at]) => at <= until && !given.has(id)).map(([id]) => id);
    this.giving = this.giving.length > 0 ? [] : waiting;
    this.givingMs = 0;
    const link = linkOf(this.world.request.profile);
    const { plan } = this.course;
    for (const _ of this.giving) {
      const bytes = heldBytes(this.world, plan, Math.floor(this.random.next() * plan.stages.length));
      sums.joinedBytes += bytes;
      this.givingMs = Math.max(this.givingMs, transferMs(bytes, link));
    }
  }

  /** A member's micro-batches of this step are done again by others of its stage. */
  private hit(
    id: string,
    stage: number,
    begin: number,
    leftMs: number,
    knownMs: number,
    ends: number[],
    gone: readonly Set<string>[],
  ): void {
    this.sums.hits++;
    gone[stage]!.add(id);
    const { workers, sumMs, summedMs, idle, activationBytes } = this.course.stages[stage]!;
    const others = workers.filter(
      ({ member }) => this.there.has(member.device) && !gone[stage]!.has(member.device),
    );
    const link = linkOf(this.world.request.profile);
    if (others.length === 0) {
      // Nobody else has these weights but whoever keeps a copy of them.
      const names = this.course.plan.stages.map((_, i) => `stage ${i}`);
      if (this.ledger.point(names) === null) this.sums.bereft++;
      this.finish(stage, knownMs + this.assumed.startMs + this.course.stepMs, knownMs - leftMs, ends);
      return;
    }
    const pass = ({ member }: Worker) => member.forwardMs + member.backwardMs;
    const own = this.course.plan.stages[stage]!.members.find(({ device }) => device === id)!.microBatches
      .length;
    const ownEnd = begin + summedMs - sumMs;
    const known = Math.max(begin, knownMs);
    const sentMs = (2 * own * activationBytes) / link.bytesPerMs;
    if (this.assumed.rules.again === "all" && others.length >= OTHERS) {
      this.again.add(stage, own, known + 2 * link.latencyMs + sentMs / others.length, others.map(pass));
      for (const [i, each] of this.course.stages.entries()) {
        // Of what a member is through with, other stages have nothing left to do.
        if (i !== stage && leftMs >= ownEnd) continue;
        this.finish(i, this.again.untilMs + each.sumMs, knownMs - leftMs, ends);
      }
      return;
    }
    const busyMs = (other: Worker) =>
      other.member.microBatches.length * pass(other) + (this.taken.get(other.member.device) ?? 0);
    const { member } = others.reduce((a, b) => (busyMs(b) < busyMs(a) ? b : a));
    const work = (this.taken.get(member.device) ?? 0) + own * (member.forwardMs + member.backwardMs);
    this.taken.set(member.device, work);
    const from = known + this.assumed.startMs + sentMs;
    // Until its own work is done it has the time for it in which it would wait.
    const early = Math.max(0, ownEnd - from) * idle;
    const done = work <= early ? from + work / idle : Math.max(from, ownEnd) + work - early;
    this.finish(stage, done + 2 * link.latencyMs + sumMs, knownMs - leftMs, ends);
  }

  /** The sum of a stage is not complete before then. */
  private finish(stage: number, end: number, detectMs: number, ends: number[]): void {
    if (end <= ends[stage]!) return;
    ends[stage] = end;
    this.detects[stage] = detectMs;
  }

  /** Between two steps: the plan for those that are there. */
  private replan(stepBegan: number): void {
    const { assumed, sums, world } = this;
    const began = performance.now();
    const isBeside = assumed.rules.given === "beside";
    if (isBeside) this.giveBeside(stepBegan);
    let standsStill = !isBeside;
    const isReady = (id: string) => {
      if (!this.there.has(id)) return false;
      if (!standsStill) return this.given.has(id);
      return (this.ready.get(id) ?? Number.POSITIVE_INFINITY) <= this.now - assumed.planMs;
    };
    let next = this.planFor(isReady);
    while (!next) {
      // Too few are there for the model: the run waits for whoever comes.
      standsStill = true;
      const event = this.world.events[this.next++];
      if (!event) {
        this.isOver = true;
        return;
      }
      this.take(event);
      this.now = Math.max(
        this.now,
        event.atMs + (event.what === "join" ? assumed.profileMs + assumed.planMs : 0),
      );
      next = this.planFor(isReady);
    }
    sums.decisionMs += performance.now() - began;
    sums.decisions++;
    if (sums.decisions % REFERENCE_EVERY === 1) {
      this.reference = this.undisturbed(this.reference, next);
      this.lead = this.reference.predictedStepMs / next.predictedStepMs;
    }
    this.idealMs = this.lead * next.predictedStepMs;
    next = standsStill ? this.goOver(next) : this.moveBeside(next);
    if (this.now >= this.nextFull) next = this.full(next, isReady);
    this.course = courseOf(this.world, next);
    for (const id of this.course.stageOf.keys()) {
      const came = this.cameAt.get(id);
      if (came === undefined) continue;
      sums.waitedMs += this.now - came;
      sums.waited++;
      this.cameAt.delete(id);
    }
    // A step begins with a round trip and ends with one, which imagined devices have no measured times of.
    const pause = 2 * 2 * linkOf(world.request.profile).latencyMs;
    sums.moveMs += pause;
    this.now += pause;
  }

  /** The present plan for these, or another; undefined where they cannot hold the model. */
  private planFor(isReady: (id: string) => boolean): Plan | undefined {
    const request = among(this.world, isReady);
    return planned(() => adaptPlan(request, this.course.plan)) ?? planned(() => makePlan(request));
  }

  /** Whoever is not new, and has another part of the model than before, is given it while the run stands still. */
  private moveBeside(next: Plan): Plan {
    const { segments, profile } = this.world.request;
    const { plan } = this.course;
    const moves = transfers(plan, next, segments).filter(({ to }) => this.course.stageOf.has(to));
    const cost = moves.length > 0 ? moveMs(moves, profile, this.assumed.startMs) : 0;
    this.sums.moves += Number(moves.length > 0);
    this.sums.moveMs += cost;
    this.now += cost;
    return next;
  }

  /** The plan that is gone on with, and what it costs to go there, while the run stands still. */
  private goOver(next: Plan): Plan {
    const { world, assumed, course } = this;
    const { segments, profile } = world.request;
    const moves = transfers(course.plan, next, segments);
    const cost = moves.length > 0 ? moveMs(moves, profile, assumed.startMs) : 0;
    // Where somebody is lost, another does the work of two.
    const isWhole = [...course.stageOf.keys()].every((id) => this.there.has(id));
    const oldStepMs = (isWhole ? 1 : 2) * course.stepMs;
    if (!decide({ ...outlook(course.plan, next), oldStepMs, moveMs: cost }).moves) return course.plan;
    this.sums.moves++;
    this.sums.moveMs += cost;
    this.sums.joinedBytes += moves.reduce((all, { bytes }) => all + bytes, 0);
    this.now += cost;
    return next;
  }

  /** Once in a while all is planned anew, and gone over to where that pays. */
  private full(present: Plan, isReady: (id: string) => boolean): Plan {
    const { world, assumed } = this;
    this.nextFull += this.fullEveryMs;
    const { segments, profile } = world.request;
    const ideal = makePlan(among(world, (id) => this.there.has(id)));
    this.reference = this.undisturbed(ideal, this.reference);
    this.lead = this.reference.predictedStepMs / present.predictedStepMs;
    this.idealMs = this.reference.predictedStepMs;
    const found = makePlan(among(world, isReady));
    const cost = moveMs(transfers(present, found, segments), profile, assumed.startMs);
    if (!decide({ ...outlook(present, found), moveMs: cost }).moves) return present;
    this.sums.moves++;
    this.sums.moveMs += cost;
    this.now += cost;
    return found;
  }

  /** The best that is known to be planned for all devices that are there. */
  private undisturbed(...plans: readonly Plan[]): Plan {
    const request = among(this.world, (id) => this.there.has(id));
    const found = plans.flatMap((plan) => planned(() => adaptPlan(request, plan)) ?? []);
    return found.reduce((a, b) => (b.predictedStepMs < a.predictedStepMs ? b : a), plans.at(-1)!);
  }

  /** What the undisturbed run has done until then, by the plan for the devices that are there. */
  private takeIdeal(untilMs: number): void {
    if (untilMs <= this.idealAt) return;
    this.ideal += (untilMs - this.idealAt) / this.idealMs;
    this.idealAt = untilMs;
  }
}

/** Undefined where there is no plan. */
function planned(make: () => Plan): Plan | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof PlanError) return undefined;
    throw error;
  }
}

/** Steps after which it is looked anew at what the undisturbed run would do. */
const REFERENCE_EVERY = 4;

/** Nobody knows how long a run on such devices goes on: as long as an hour of steps. */
const STEPS_LEFT = 100;

function outlook(present: Plan, next: Plan) {
  return { oldStepMs: present.predictedStepMs, newStepMs: next.predictedStepMs, stepsLeft: STEPS_LEFT };
}
