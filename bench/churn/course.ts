/** What a plan comes to in the simulation of churn: who works where, when which stage has its gradients, what copies take. */

import { alikeOf, placeReplicas } from "../../actors/recovery/placement.ts";
import { mayDeal } from "../../actors/scheduler/dealt.ts";
import { type Plan, type Worker, workersOf } from "../../actors/scheduler/plan.ts";
import { type PlanCost, planCost } from "../../actors/scheduler/plan-cost.ts";
import { type CollectiveWork, evenMs } from "../../actors/scheduler/simulate/collective.ts";
import { simulate } from "../../actors/scheduler/simulate.ts";
import { Going } from "./going.ts";
import { Order } from "./order.ts";
import type { Rules } from "./rules.ts";
import { type ChurnWorld, linkOf } from "./world.ts";

export interface Stage {
  readonly workers: readonly Worker[];
  /** To add up gradients; and when that is over in a step, from its beginning. */
  readonly sumMs: number;
  readonly summedMs: number;
  /** Part of a step in which its members wait. */
  readonly idle: number;
  readonly activationBytes: number;
}

/** What a plan comes to. */
export interface Course {
  readonly plan: Plan;
  readonly cost: PlanCost;
  readonly stepMs: number;
  /** Behind the commit gate. */
  readonly updateMs: number;
  readonly stages: readonly Stage[];
  readonly stageOf: ReadonlyMap<string, number>;
  /** Bytes that go to replicas after a step. */
  readonly copiedBytes: number;
  /** By which what is left of a step may be put in order. */
  readonly order: () => Order;
}

/** How a step of a plan goes, with all who are there in the beginning. */
export function courseOf(world: ChurnWorld, plan: Plan): Course {
  const { segments, devices, profile, options } = world.request;
  const cost = planCost(plan, { segments, devices, profile, stashBytes: options.stashBytes ?? 0 });
  const workers = workersOf(plan);
  const { idleMs, makespanMs, gateMs, spans } = simulate(cost.programs, cost.run);
  const sums = workers.map(() => 0);
  for (const { worker, operation, endMs } of spans) {
    if (operation.op === "reduce") sums[worker] = Math.max(sums[worker]!, endMs);
  }
  const link = linkOf(profile);
  const stages = plan.stages.map((stage): Stage => {
    const own = workers.filter((worker) => worker.stage === stage);
    const { chunks } = cost.workers[own[0]!.worker]!;
    const bytes = chunks.reduce((all, { gradientBytes }) => all + gradientBytes, 0);
    // What no operation adds up is added up before the gate.
    const summedMs = Math.max(...own.map(({ worker }) => sums[worker]!)) || gateMs;
    return {
      ...{ workers: own, sumMs: evenMs(sumOf(plan, bytes, own.length), link), summedMs },
      idle: own.reduce((all, { worker }) => all + idleMs[worker]!, 0) / own.length / makespanMs,
      activationBytes: Math.max(...segments.map((segment) => segment.activationBytes)),
    };
  });
  const stageOf = new Map(workers.map(({ member, stage }) => [member.device, stage.stage]));
  const hosts = devices.map(({ id, memoryBytes = Number.POSITIVE_INFINITY }) => {
    return { id, host: id, freeBytes: memoryBytes };
  });
  const bytes = cost.workers.map(({ copyBytes }) => copyBytes);
  const { copies = 1 } = options;
  const isShared = workers.every((worker) => alikeOf(worker, workers).length >= copies);
  const replicas = isShared ? [] : placeReplicas(workers, bytes, copies, hosts).replicas;
  const copiedBytes = replicas.reduce((all, to, worker) => all + to.length * bytes[worker]!, 0);
  let order: Order | undefined;
  return {
    order: () => (order ??= new Order(cost.programs, spans)),
    plan,
    cost,
    stepMs: plan.predictedStepMs,
    updateMs: makespanMs - gateMs,
    stages,
    stageOf,
    copiedBytes,
  };
}

/** What each device has behind a step, as a ledger is told. */
export function holdingsOf(plan: Plan) {
  return workersOf(plan).map(({ worker, member: { device }, stage: { stage } }) => {
    const names = [`stage ${stage}`];
    return { device, holding: { worker: `${worker}`, names, cuts: {}, rank: 0, ranks: 1, apart: false } };
  });
}

/** Gradients of so many bytes, as members of a stage add them up. */
function sumOf({ codecs }: Plan, bytes: number, ranks: number): CollectiveWork {
  return { op: "all-reduce", bytes, ranks, isEncoded: codecs.gradients !== null };
}

/** Passes that are passed over at most where one is waited for: as many more are in flight. */
const AHEAD = 2;

/** Messages to all and their answers, by which they are told how a step goes on. */
const ROUND_TRIPS = 3;

/** A step of it, in which devices may be lost. @param tellMs until it is known what all are to be told of a loss. */
export function goingOf(
  { plan, cost, order }: Course,
  { request }: ChurnWorld,
  { again, order: rest = "anew" }: Pick<Rules, "again" | "order">,
  tellMs: number,
): Going {
  const link = linkOf(request.profile);
  const workers = workersOf(plan);
  const bytes = plan.stages.map((stage) => {
    const first = workers.find((worker) => worker.stage === stage)!;
    return cost.run.chunks[first.worker]![0]!.gradientBytes;
  });
  return new Going(plan, cost, {
    resting: again === "each" ? "each" : "together",
    ...(rest !== "anew" && { order: order() }),
    ...(rest === "ready" && { ahead: AHEAD }),
    toldMs: tellMs + ROUND_TRIPS * 2 * link.latencyMs,
    sumMs: (stage, members) => evenMs(sumOf(plan, bytes[stage]!, members), link),
  });
}

/** The same by other rules: where whoever waits does something else first, steps without losses are shorter, too. */
export function courseBy(course: Course, world: ChurnWorld, rules: Rules): Course {
  if (rules.order !== "ready" || !mayDeal(course.plan)) return course;
  const going = goingOf(course, world, rules, 0);
  going.runTo(Number.POSITIVE_INFINITY);
  const gateMs = Math.min(going.gateMs!, course.stepMs - course.updateMs);
  const stages = course.stages.map((stage) => ({ ...stage, summedMs: Math.min(stage.summedMs, gateMs) }));
  return { ...course, stepMs: gateMs + course.updateMs, stages };
}
