/**
 * Ways to go on after a device was killed in the middle of a step, each on a cluster of its own, with the same plan, kill
 * and step: how long until that step is committed.
 *
 * - Troupe: copies in the memory of others, who take the lost one's place.
 * - Heavy rescheduling, as Asteroid calls what it beats (Ye et al., MobiCom 2024): all of the model is gathered at the
 *   coordinator, a plan is made for those that are left, and everything is given out again. What is gathered is what the
 *   step before left, and it is gathered before the kill, where the lost part still is; the time counts all the same.
 * - Restart: the run ends, and begins again on those that are left from a checkpoint that is as many steps old as a
 *   checkpoint is on the average. Reading it from a disk is left out, and its values are those of a later step, which
 *   takes no other time.
 */

import type { RecoveryOptions, RunRecovery, Scheduler } from "../../actors/scheduler/scheduler.ts";
import { initialState } from "../../actors/train.ts";
import { Tensor } from "../../protocols/tensor.ts";
import type { Ref } from "../../runtime/index.ts";
import { median } from "../statistics.ts";
import type { Training } from "../strategies/run.ts";
import { type Place, planFor, RecoveryCluster, without } from "./cluster.ts";

/** Before the kill; the first is not counted. */
const STEPS = 7;
/** Behind the one that was repeated; the first is not counted. */
const STEPS_AFTER = 3;
/** Of what each device holds, with others. */
const COPIES = 1;
/** Steps between two checkpoints. */
export const CHECKPOINT_EVERY = 10;
/** More than there are. */
const LAST = 1000;

export interface Resumed {
  /** From the kill to the commit of the step that it fell into. */
  readonly resumeMs: number;
  /** From there until the loss was known. */
  readonly detectMs: number;
  /** From then until those that are left held all that they go on with: recovery itself. */
  readonly readyMs: number;
  /** Committed steps that were repeated. */
  readonly stepsLost: number;
  /** Bytes that stages were given, as far as they are known. */
  readonly movedBytes: number | null;
  /** Of steps before the kill, median. */
  readonly stepMs: number;
  /** Of steps after it, on the devices that are left. */
  readonly stepAfterMs: number;
  readonly killed: string;
}

export type ContenderName = "troupe" | "heavy" | "restart";

/** @param victim its place among the devices that the plan uses, modulo their number. */
export async function resume(
  name: ContenderName,
  place: Place,
  training: Training,
  victim: number,
): Promise<Resumed> {
  const cluster = await RecoveryCluster.open(place, training);
  try {
    const request = await cluster.request();
    const plan = planFor(request, training.microBatches, COPIES);
    const used = [
      ...new Set(plan.stages.flatMap(({ members }) => members.map(({ device }) => Number(device)))),
    ];
    const lost = used[victim % used.length]!;
    const initial = await initialState(training.model, training.seed);
    const all = request.devices.map((_, i) => i);
    const told: (RunRecovery & { readonly at: number })[] = [];
    const recovery = keepingCopies(initial, (each) => told.push({ ...each, at: performance.now() }));
    const scheduler = await cluster.bed.unshaped(() =>
      cluster.deploy(plan, all, initial, name === "troupe" ? recovery : undefined),
    );
    const stepMs = await medianStep(scheduler, 0, STEPS);
    const gathering = performance.now();
    const state = name === "troupe" ? {} : { ...initial, ...copied(await scheduler.ask.state()) };
    const gatherMs = performance.now() - gathering;

    const stepping = scheduler.ask.step(STEPS, LAST);
    stepping.catch(() => {});
    await Bun.sleep(stepMs / 2);
    const killedAt = performance.now();
    cluster.kill(lost);
    const common = { stepMs, killed: cluster.bed.devices[lost]!.spec.name };
    if (name === "troupe") {
      await stepping;
      const resumeMs = performance.now() - killedAt;
      const [first] = told;
      if (!first) throw new Error("the run did not notice that a device was killed");
      const { stepsLost, movedBytes, readyMs } = first;
      // It is told behind the first step that is committed again.
      const detectMs = Math.max(0, first.at - first.resumeMs - killedAt);
      const stepAfterMs = await medianStep(scheduler, STEPS + 1, STEPS_AFTER);
      return { ...common, resumeMs, detectMs, readyMs, stepAfterMs, stepsLost, movedBytes };
    }
    const failed = await stepping.then(
      () => false,
      () => true,
    );
    if (!failed) throw new Error("the run did not notice that a device was killed");
    const detectMs = performance.now() - killedAt;
    await cluster.stop();
    const left = all.filter((i) => i !== lost);
    const smaller = planFor(without(request, lost), training.microBatches);
    const next = await cluster.deploy(smaller, left, state);
    const extraMs = name === "heavy" ? gatherMs : 0;
    const readyMs = performance.now() - killedAt - detectMs + extraMs;
    const stepsLost = name === "restart" ? CHECKPOINT_EVERY / 2 : 0;
    for (let step = STEPS - stepsLost; step <= STEPS; step++) await next.ask.step(step, LAST);
    const resumeMs = performance.now() - killedAt + extraMs;
    const stepAfterMs = await medianStep(next, STEPS + 1, STEPS_AFTER);
    return { ...common, resumeMs, detectMs, readyMs, stepAfterMs, stepsLost, movedBytes: null };
  } finally {
    await cluster.close();
  }
}

/** What copies cost: steps with them over steps without, in turns on one cluster each. */
export async function costOfCopies(
  place: Place,
  training: Training,
  steps: number,
): Promise<{
  readonly withoutMs: number;
  readonly withMs: number;
  readonly points: number;
  readonly every: number;
  readonly bytes: number;
  /** That the results of a step's kernels came late, on the device where they came latest; null where nobody knows. */
  readonly lateMs: number | null;
}> {
  const cluster = await RecoveryCluster.open(place, training);
  try {
    const request = await cluster.request();
    const plan = planFor(request, training.microBatches, COPIES);
    const initial = await initialState(training.model, training.seed);
    const all = request.devices.map((_, i) => i);
    const recovery = keepingCopies(initial, () => {});
    const found: Record<"plain" | "kept", number[]> = { plain: [], kept: [] };
    let cost = { points: 0, bytes: 0, every: 1 };
    const lateMs = async () => (await cluster.bed.usage()).map((usage) => usage.lateMs);
    const before = await lateMs();
    for (let round = 0; round < 2; round++) {
      for (const kind of ["plain", "kept"] as const) {
        const scheduler = await cluster.bed.unshaped(() =>
          cluster.deploy(plan, all, initial, kind === "kept" ? recovery : undefined),
        );
        for (let step = 0; step <= steps; step++) {
          const began = performance.now();
          await scheduler.ask.step(step, LAST, true);
          if (step > 0) found[kind].push(performance.now() - began);
        }
        if (kind === "kept") {
          const { points, bytes, every } = await scheduler.ask.keepingCost();
          cost = { points, bytes, every };
        }
        await cluster.stop();
      }
    }
    const late = (await lateMs()).map((ms, i) => (ms === null ? null : ms - before[i]!));
    const made = 2 * 2 * (steps + 1);
    const isKnown = late.every((ms) => ms !== null);
    return {
      ...{ withoutMs: median(found.plain), withMs: median(found.kept), ...cost },
      lateMs: isKnown ? Math.max(...(late as number[])) / made : null,
    };
  } finally {
    await cluster.close();
  }
}

type Values = Readonly<Record<string, Tensor>>;

/** A copy of everything with one other device; without it, a run begins again. */
function keepingCopies(initial: Values, tell: RecoveryOptions["tell"]): RecoveryOptions {
  return {
    ...{ copies: COPIES, restart: async () => ({ step: -1, values: initial }), tell },
    fixed: async (names) => Object.fromEntries(names.map((each) => [each, initial[each]!])),
  };
}

/** Makes steps from `from` on. @returns the median of their milliseconds without the first. */
async function medianStep(scheduler: Ref<Scheduler>, from: number, count: number): Promise<number> {
  const times: number[] = [];
  for (let step = from; step < from + count; step++) {
    const began = performance.now();
    await scheduler.ask.step(step, LAST);
    times.push(performance.now() - began);
  }
  return median(times.slice(1));
}

/** What stages lend until their next step, as one's own. */
function copied(state: Values): Record<string, Tensor> {
  const copies = Object.entries(state).map(([name, { dtype, shape, bytes }]): [string, Tensor] => [
    name,
    new Tensor(dtype, shape, bytes.slice()),
  ]);
  return Object.fromEntries(copies);
}
