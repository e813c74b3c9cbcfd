/**
 * What actors of training come to, by the names of their methods: where faults strike. Classes are changed once, for this
 * program; nodes that nobody listens to go on as if they were not.
 */

import { Device } from "../../../../actors/device.ts";
import { Inbox } from "../../../../actors/inbox.ts";
import { Copies } from "../../../../actors/recovery/copies.ts";
import { Course } from "../../../../actors/recovery/course.ts";
import { Replica } from "../../../../actors/recovery/replica.ts";
import { UpdateLog } from "../../../../actors/recovery/updates.ts";
import type { MoveOutcome } from "../../../../actors/recovery/wanted.ts";
import { Deployment } from "../../../../actors/scheduler/deployment.ts";
import { type Plan, workersOf } from "../../../../actors/scheduler/plan.ts";
import { Scheduler } from "../../../../actors/scheduler/scheduler.ts";
import { Stage } from "../../../../actors/stage.ts";
import type { NodeRuntime } from "../../../../runtime/node.ts";

export const STAGE_PHASES = [
  ...["train", "commit", "keep", "replicate", "recall", "evaluate", "forgetBefore", "retire", "state"],
  ...["holds", "fetch", "load", "connect", "abandon", "hold", "kept"],
] as const;
/** Comes to a stage with every tensor that another member of it gives it. */
const REDUCE = "Stage.reduce";
/** Comes to a stage that is through with a step, as it says so. */
const THROUGH = "Stage.through";
export const REPLICA_PHASES = [
  ...["put", "complete", "kept", "recall", "keep"],
  ...["follows", "putGradients", "advance", "checksum"],
] as const;
export const DEVICE_PHASES = ["host", "end", "replica", "attach", "describe"] as const;

/** A class's method, as `Stage.commit`. */
export type Phase =
  | `Stage.${(typeof STAGE_PHASES)[number]}`
  | typeof REDUCE
  | typeof THROUGH
  | `Replica.${(typeof REPLICA_PHASES)[number]}`
  | `Device.${(typeof DEVICE_PHASES)[number]}`;

const listeners = new WeakMap<NodeRuntime, (phase: Phase) => void>();

/** Told right before an actor of the node comes to a phase. */
export function onPhase(node: NodeRuntime, listener: (phase: Phase) => void): void {
  listeners.set(node, listener);
}

for (const [type, names] of [
  [Stage, STAGE_PHASES],
  [Replica, REPLICA_PHASES],
  [Device, DEVICE_PHASES],
] as const) {
  const prototype = type.prototype as any;
  for (const name of names) {
    const original = prototype[name];
    prototype[name] = function (...args: unknown[]) {
      listeners.get(this.context.node)?.(`${type.name}.${name}` as Phase);
      return original.apply(this, args);
    };
  }
}

const { deliver } = Stage.prototype;
Stage.prototype.deliver = function (this: any, slip, tensor) {
  if (slip.phase === "collective") listeners.get(this.context.node)?.(REDUCE);
  return deliver.call(this, slip, tensor);
};

const { train } = Stage.prototype;
Stage.prototype.train = async function (this: any, step) {
  const said = await train.call(this, step);
  listeners.get(this.context.node)?.(THROUGH);
  return said;
};

let course: any;

const { onStart } = Scheduler.prototype;
Scheduler.prototype.onStart = function () {
  course = undefined;
  onStart.call(this);
};

/** The plan that the run which goes on now goes by, or goes on with behind a first step of newcomers; undefined before its first. */
export function presentPlan(): Plan | undefined {
  return course?.moves.wanted.inFirstStep?.plan ?? course?.plan;
}

/** The run that goes on now is to go over to another plan, as one does that has found a better one. */
export function wantPlan(plan: Plan): void {
  course?.moves.want(plan, ({ bytes, ms, failure }: MoveOutcome) => {
    const moved = failure === undefined;
    course.world.recovery.considered({
      ...{ cause: "drifted", why: failure ?? "it was wanted", oldStepMs: null, newStepMs: null, planMs: 0 },
      ...{ moved, preparedMs: 0, movedBytes: bytes, moveMs: ms, plan: course.plan },
    });
  });
}

let loads = 0;

/** How often a run has begun with given values, at its begin or with a checkpoint's, since this was asked before. */
export function timesLoaded(): number {
  const found = loads;
  loads = 0;
  return found;
}

const { load } = Deployment.prototype;
Deployment.prototype.load = function (values) {
  loads++;
  return load.call(this, values);
};

let committed: number[] = [];

/** Steps that all stages have committed, since this was asked before. */
export function committedSteps(): readonly number[] {
  const found = committed;
  committed = [];
  return found;
}

const { commit } = Course.prototype;
Course.prototype.commit = function (step, keeps) {
  committed.push(step);
  course = this;
  commit.call(this, step, keeps);
};

/** What was found where nothing is to be, in words. */
interface Strays {
  /** Tensors in stages of a run that is done. */
  readonly untaken: Set<string>;
  readonly early: Set<string>;
}

const noStrays = (): Strays => ({ untaken: new Set(), early: new Set() });
let stray = noStrays();
let isDone = false;

/** Since this was asked before. */
export function strays(): Strays {
  const found = stray;
  stray = noStrays();
  isDone = false;
  return found;
}

/** Whatever was sent has been taken, but for what was broken off before. */
export function runIsDone(): void {
  isDone = true;
}

const { fail } = Inbox.prototype;
Inbox.prototype.fail = function (this: any, error) {
  if (isDone) for (const place of this.arrived.keys()) stray.untaken.add(`nobody has taken ${place}`);
  fail.call(this, error);
};

const commitStage = Stage.prototype.commit;
Stage.prototype.commit = function (step, ...rest) {
  if (this.kept().steps.includes(step)) {
    stray.early.add(`somebody has a copy of step ${step + 1} before it is made`);
  }
  return commitStage.call(this, step, ...rest);
};

/** The most steps that one had copies of at once. */
interface Copied {
  /** Of what it holds itself. */
  stages: number;
  /** Of what one other holds. */
  replicas: number;
}

let most: Copied = { stages: 0, replicas: 0 };

/** Since this was asked before. */
export function mostCopies(): Readonly<Copied> {
  const found = most;
  most = { stages: 0, replicas: 0 };
  return found;
}

// Gradients that others make copies by are no copies: as many bytes as one at most.
const logs = new WeakSet<Copies>();
const { put: putUpdate } = UpdateLog.prototype;
UpdateLog.prototype.put = function (this: any, ...given) {
  logs.add(this.gradients);
  return putUpdate.apply(this, given);
};

// Stages keep what they hold in one go, replicas are given theirs in slices, or make them.
const { put, write, like } = Copies.prototype;
let isPut = false;
Copies.prototype.put = function (...given) {
  isPut = true;
  put.apply(this, given);
  isPut = false;
  if (!logs.has(this)) most.stages = Math.max(most.stages, this.ofSteps().length);
};
Copies.prototype.write = function (...given) {
  write.apply(this, given);
  if (!isPut) most.replicas = Math.max(most.replicas, this.ofSteps().length);
};

Copies.prototype.like = function (...given) {
  const made = like.apply(this, given);
  most.replicas = Math.max(most.replicas, this.ofSteps().length);
  return made;
};

let fewest = Number.POSITIVE_INFINITY;

/** The fewest workers that a run has gone on with since this was asked before; infinitely many where it had no need to. */
export function fewestWorkers(): number {
  const found = fewest;
  fewest = Number.POSITIVE_INFINITY;
  return found;
}

const { adopt } = Course.prototype as any;
(Course.prototype as any).adopt = function ({ plan, ...rest }: { plan: Plan }) {
  fewest = Math.min(fewest, workersOf(plan).length);
  return adopt.call(this, { plan, ...rest });
};
