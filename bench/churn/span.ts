/**
 * A run in which a loss stops nobody but those who wait for what was lost: simulated in time, with the decisions of the real
 * code (planner, adapted plans, placement of copies, the ledger's rule of what is lost, the decision for another plan).
 *
 * A step goes as the simulator says. Who leaves in it takes its gradients of that step with it: its micro-batches are done
 * again by all others of its stage, which have the same weights, and what is left of the step is simulated as it goes on then
 * (`going.ts`); or by one of them (`rules.ts`), in the part of its time in which it waits anyhow, and the gradients of that
 * stage are added up behind that: there a stage whose sum is complete has lost nothing by a loss, for every member has the
 * sum. The step is committed when all stages have theirs. Between two steps
 * micro-batches are dealt anew to those that are there then, with all who have come; they are given what their stage holds
 * then, or in a step before, in which they have nothing to do.
 */

import { decide } from "../../actors/recovery/decision.ts";
import { Ledger } from "../../actors/recovery/ledger.ts";
import type { ChurnEvent } from "../../actors/scheduler/cluster.ts";
import { transferMs } from "../../actors/scheduler/cost.ts";
import { isShort, mayDeal } from "../../actors/scheduler/dealt.ts";
import type { Plan } from "../../actors/scheduler/plan.ts";
import { seededRandom } from "../../runtime/random.ts";
import { doneByOne } from "./alone.ts";
import { type Course, courseBy, courseOf, goingOf, holdingsOf } from "./course.ts";
import type { Going } from "./going.ts";
import { consideredUntil } from "./newcomers.ts";
import { cutsOf, isSearched, moving, nextPlan, outlook, searched, undisturbed } from "./plans.ts";
import type { Assumed, ChurnRun } from "./rules.ts";
import { type ChurnWorld, heldBytes, LONGER, linkOf } from "./world.ts";

const MS_PER_MINUTE = 60_000;

/** Steps after which it is looked anew at what the undisturbed run would do. */
const REFERENCE_EVERY = 4;

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
  /** A step by the rules of this run, to what a plan says of one. */
  private quicker = 1;
  /** By stage, what of its end is for a loss that was not known at once. */
  private detects: number[] = [];
  /** By device, milliseconds of others' work that it has taken over in this step. */
  private taken = new Map<string, number>();
  /** This step, from the first loss on whose micro-batches are dealt to all others, and what the last one took to be known. */
  private going: Going | undefined;
  private noticedMs = 0;
  private next = 0;
  private now = 0;
  private isOver = false;
  private nextFull: number;
  private steps = 0;
  private ideal = 0;
  private idealAt = 0;
  private readonly sums = {
    ...{ leaves: 0, joins: 0, hits: 0, detectMs: 0, replayMs: 0, moveMs: 0, joinedBytes: 0, copiedBytes: 0 },
    ...{ bereft: 0, unevenMs: 0, waitedMs: 0, waited: 0, decisionMs: 0, decisions: 0, planned: 0, moves: 0 },
    ...{ lives: 0 },
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
    this.course = this.courseOf(first);
    this.idealMs *= this.quicker;
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
    for (const { device, holding } of holdingsOf(course.plan)) {
      this.ledger.add({ holding, step: this.steps, device, source: device });
    }
    this.ledger.forgetBefore(this.steps);
    const undisturbed = begin + Math.max(course.stepMs, this.givingMs);
    const ends = course.stages.map(({ summedMs }) => begin + summedMs);
    const gone = course.stages.map(() => new Set<string>());
    this.detects = ends.map(() => 0);
    this.taken = new Map();
    this.going = undefined;
    // Whoever left behind the making of the plan is found missing when the step begins.
    for (const [id, stage] of course.stageOf) {
      if (!this.there.has(id)) this.hit(id, stage, begin, begin, begin, ends, gone);
    }
    for (;;) {
      const event = this.world.events[this.next];
      const gate = Math.max(...ends, this.goingEnd(begin, event?.atMs));
      if (!event || event.atMs >= Math.max(undisturbed, gate + course.updateMs)) break;
      this.next++;
      const stage = this.take(event);
      if (stage === undefined || gone[stage]!.has(event.device)) continue;
      if (event.atMs >= (this.isDealt(stage, gone[stage]!.size + 1) ? gate : ends[stage]!)) continue;
      const detect = this.random.next() < assumed.silent ? assumed.silentMs : assumed.closedMs;
      this.hit(event.device, stage, begin, event.atMs, event.atMs + detect, ends, gone);
    }
    const last = ends.indexOf(Math.max(...ends));
    const goingEnd = this.goingEnd(begin);
    const end = Math.max(undisturbed, Math.max(ends[last]!, goingEnd) + course.updateMs);
    const overMs = this.world.minutes * MS_PER_MINUTE;
    // The step that is under way then counts as well, and the time that it takes.
    this.isOver = end >= overMs;
    const latestMs = LONGER * overMs;
    if (end > latestMs) {
      this.takeIdeal(latestMs);
      if (this.steps > 0) return;
      // Nothing was done in all this time.
      this.now = latestMs;
      this.sums.replayMs = Math.max(0, latestMs - undisturbed);
      this.sums.lives = this.there.size;
      return;
    }
    const waiting = Math.max(0, end - undisturbed);
    const detecting = Math.min(waiting, goingEnd > ends[last]! ? this.noticedMs : this.detects[last]!);
    this.sums.detectMs += detecting;
    this.sums.replayMs += waiting - detecting;
    this.sums.planned += course.stepMs;
    this.sums.unevenMs += course.stepMs - this.idealMs;
    this.sums.copiedBytes += course.copiedBytes;
    this.sums.lives += this.there.size;
    this.steps++;
    this.takeIdeal(end);
    this.now = end;
    if (!this.isOver) this.replan(begin);
  }

  /** An event of the world. @returns the stage of a device that leaves, and has work. */
  private take(event: ChurnEvent): number | undefined {
    this.takeIdeal(event.atMs);
    const stage = this.change(event);
    if (isSearched(this.there)) {
      // Of few each makes a step another one.
      const { world, there, reference, course } = this;
      this.reference = undisturbed(world, there, [reference, course.plan]) ?? reference;
      this.idealMs = this.quicker * this.reference.predictedStepMs;
    }
    return stage;
  }

  private change({ atMs, what, device }: ChurnEvent): number | undefined {
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
   * Those that were given what they hold in the step that is over have work from here on; in the next one all are given it
   * who were considered in this one so early that they have compiled.
   */
  private giveBeside(began: number): void {
    const { assumed, course, sums, ready, given } = this;
    for (const id of this.giving) if (this.there.has(id)) given.add(id);
    const waiting = [...ready].filter(([id]) => !given.has(id));
    const measured = waiting.map(([, at]) => at);
    const step = { began, stepMs: course.stepMs, endedMs: this.now };
    const until = consideredUntil(step, assumed.planMs + assumed.startMs, measured);
    this.giving = waiting.filter(([, at]) => at <= until).map(([id]) => id);
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
    if (this.isDealt(stage, gone[stage]!.size)) {
      this.going ??= goingOf(this.course, this.world, this.assumed.rules, this.assumed.tellMs);
      if (leftMs > begin) this.going.runTo(leftMs - begin);
      this.going.lose(id, leftMs - begin, knownMs - begin);
      this.noticedMs = knownMs - leftMs;
      return;
    }
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
    const { members } = this.course.plan.stages[stage]!;
    const own = members.find(({ device }) => device === id)!.microBatches.length;
    const lost = {
      ...{ own, others, idle, taken: this.taken, ownEnd: begin + summedMs - sumMs },
      fromMs: Math.max(begin, knownMs) + this.assumed.startMs + (2 * own * activationBytes) / link.bytesPerMs,
    };
    this.finish(stage, doneByOne(lost) + 2 * link.latencyMs + sumMs, knownMs - leftMs, ends);
  }

  /** Whether all others of a stage do what so many do not. */
  private isDealt(stage: number, lost: number): boolean {
    const { plan } = this.course;
    return this.assumed.rules.again !== "one" && mayDeal(plan) && isShort(plan.stages[stage]!, lost);
  }

  /** When all has been added up that is dealt; infinite where that is not before `untilMs`. */
  private goingEnd(begin: number, untilMs = Number.POSITIVE_INFINITY): number {
    if (!this.going) return 0;
    this.going.runTo(untilMs - begin);
    return begin + (this.going.gateMs ?? Number.POSITIVE_INFINITY);
  }

  /** The sum of a stage is not complete before then. */
  private finish(stage: number, end: number, detectMs: number, ends: number[]): void {
    if (end <= ends[stage]!) return;
    ends[stage] = end;
    this.detects[stage] = detectMs;
  }

  /** What a plan comes to by the rules of this run. */
  private courseOf(plan: Plan): Course {
    const course = courseBy(courseOf(this.world, plan), this.world, this.assumed.rules);
    this.quicker = course.stepMs / plan.predictedStepMs;
    return course;
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
    const look = () => nextPlan(world, this.course.plan, isReady, assumed.startMs);
    let next = look();
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
      next = look();
    }
    sums.decisionMs += performance.now() - began;
    sums.decisions++;
    if (isSearched(this.there) || sums.decisions % REFERENCE_EVERY === 1) {
      this.refer(next);
      this.lead = this.reference.predictedStepMs / next.predictedStepMs;
    }
    this.idealMs = this.lead * this.quicker * next.predictedStepMs;
    next = standsStill ? this.goOver(next) : this.moveBeside(next);
    if (this.now >= this.nextFull) next = this.full(next, isReady);
    this.course = this.courseOf(next);
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

  /** Whoever is not new to stages that stay, and has another part of the model than before, is given it while the run stands still. */
  private moveBeside(next: Plan): Plan {
    const { plan, stageOf } = this.course;
    const isKept = cutsOf(next) === cutsOf(plan);
    const { moves, costMs } = this.moving(plan, next, (to) => !isKept || stageOf.has(to));
    if (moves.length > 0) this.stand(costMs);
    return next;
  }

  /** The plan that is gone on with, and what it costs to go there, while the run stands still. */
  private goOver(next: Plan): Plan {
    const { course } = this;
    const { moves, costMs } = this.moving(course.plan, next);
    // Where somebody is lost, another does the work of two.
    const isWhole = [...course.stageOf.keys()].every((id) => this.there.has(id));
    const oldStepMs = (isWhole ? 1 : 2) * course.stepMs;
    if (!decide({ ...outlook(course.plan, next), oldStepMs, moveMs: costMs }).moves) return course.plan;
    this.sums.joinedBytes += moves.reduce((all, { bytes }) => all + bytes, 0);
    this.stand(costMs);
    return next;
  }

  /** Once in a while all is planned anew, and gone over to where that pays. */
  private full(present: Plan, isReady: (id: string) => boolean): Plan {
    const { world } = this;
    this.nextFull += this.fullEveryMs;
    const ideal = searched(world, (id) => this.there.has(id));
    this.refer(...(ideal ? [ideal] : []));
    this.lead = this.reference.predictedStepMs / present.predictedStepMs;
    this.idealMs = this.quicker * this.reference.predictedStepMs;
    const found = searched(world, isReady);
    if (!found) return present;
    const { costMs } = this.moving(present, found);
    if (!decide({ ...outlook(present, found), moveMs: costMs }).moves) return present;
    this.stand(costMs);
    return found;
  }

  private moving(present: Plan, next: Plan, isWaitedFor?: (to: string) => boolean) {
    return moving(this.world, { present, next, startMs: this.assumed.startMs, isWaitedFor });
  }

  private stand(ms: number): void {
    this.sums.moves++;
    this.sums.moveMs += ms;
    this.now += ms;
  }

  /** Looks anew at what the undisturbed run goes by. */
  private refer(...plans: readonly Plan[]): void {
    const { world, there } = this;
    const best = isSearched(there) ? searched(world, (id) => there.has(id)) : undefined;
    const known = [...(best ? [best] : []), this.reference, ...plans];
    this.reference = undisturbed(world, there, known) ?? this.reference;
  }

  /** What the undisturbed run has done until then, by the plan for the devices that are there. */
  private takeIdeal(untilMs: number): void {
    if (untilMs <= this.idealAt) return;
    this.ideal += (untilMs - this.idealAt) / this.idealMs;
    this.idealAt = untilMs;
  }
}
