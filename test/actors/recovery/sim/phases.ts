/**
 * What actors of training come to, by the names of their methods: where faults strike. Classes are changed once, for this
 * program; nodes that nobody listens to go on as if they were not.
 */

import { Device } from "../../../../actors/device.ts";
import { Copies } from "../../../../actors/recovery/copies.ts";
import { Course } from "../../../../actors/recovery/course.ts";
import type { MoveOutcome } from "../../../../actors/recovery/moves.ts";
import { Replica } from "../../../../actors/recovery/replica.ts";
import type { Plan } from "../../../../actors/scheduler/plan.ts";
import { Scheduler } from "../../../../actors/scheduler/scheduler.ts";
import { Stage } from "../../../../actors/stage.ts";
import type { NodeRuntime } from "../../../../runtime/node.ts";

export const STAGE_PHASES = [
  ...["train", "commit", "keep", "replicate", "recall", "evaluate", "forgetBefore", "retire", "state"],
  ...["holds", "fetch", "load", "connect", "abandon", "hold", "kept"],
] as const;
export const REPLICA_PHASES = ["put", "complete", "kept", "recall", "keep"] as const;
export const DEVICE_PHASES = ["host", "end", "replica", "attach", "describe"] as const;

/** A class's method, as `Stage.commit`. */
export type Phase =
  | `Stage.${(typeof STAGE_PHASES)[number]}`
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

let course: any;

const { onStart } = Scheduler.prototype;
Scheduler.prototype.onStart = function () {
  course = undefined;
  onStart.call(this);
};

/** The run that goes on now is to go over to another plan, as one does that has found a better one. */
export function wantPlan(plan: Plan): void {
  course?.moves.want(plan, ({ bytes, ms, failure }: MoveOutcome) => {
    const moved = failure === undefined;
    course.world.recovery.considered({
      ...{ cause: "drifted", why: failure ?? "it was wanted", oldStepMs: null, newStepMs: null, planMs: 0 },
      ...{ moved, movedBytes: bytes, moveMs: ms, plan: moved ? plan : course.plan },
    });
  });
}

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

let most = 0;

/** The most steps that somebody has had copies of at once, since this was asked before. */
export function mostCopies(): number {
  const found = most;
  most = 0;
  return found;
}

const { put } = Copies.prototype;
Copies.prototype.put = function (...given) {
  put.apply(this, given);
  most = Math.max(most, this.ofSteps().length);
};
