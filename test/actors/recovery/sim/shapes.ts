/** Runs for simulated worlds: a tiny model, what it learns from, and a plan of any shape; each follows from a number. */

import type { Feed } from "../../../../actors/data/feed.ts";
import { OTHERS } from "../../../../actors/scheduler/dealt.ts";
import type { Plan, Sharing } from "../../../../actors/scheduler/plan.ts";
import { checkPlan } from "../../../../actors/scheduler/plan-check.ts";
import { PlanError } from "../../../../actors/scheduler/plan-error.ts";
import { SCHEDULES, type ScheduleName } from "../../../../actors/scheduler/schedule.ts";
import { lora } from "../../../../nn/finetune/lora.ts";
import { dataInputs, type Model } from "../../../../nn/model.ts";
import { gptModel } from "../../../../nn/models/gpt.ts";
import { mlp } from "../../../../nn/models/mlp.ts";
import { findSegments } from "../../../../nn/segments.ts";
import { elements, Tensor } from "../../../../protocols/tensor.ts";
import { type Random, seededRandom } from "../../../../runtime/random.ts";
import { motley } from "../../../nn/motley.ts";
import { type HandPlan, type HandStage, planOf } from "../../plans.ts";

export interface Shape {
  readonly name: string;
  readonly model: Model;
  readonly feed: Feed;
  /** By hand; null where the run makes its own. */
  readonly plan: Plan | null;
  /** That it begins with. */
  readonly devices: number;
  /** That go through a step, at least. */
  readonly workers: number;
  readonly strategy: string;
  readonly schedule: string;
  /** Whether nothing it makes may differ by a bit, whatever is done to it, unless members of its stages become fewer. */
  readonly exact: boolean;
  readonly microBatches: number;
  readonly steps: number;
  /** Whether members of its stage train on their own, and meet now and then. */
  readonly isLocal: boolean;
  /** Steps between validation passes, and between checkpoints. */
  readonly validateEvery: number;
  readonly saveEvery: number;
}

export const SEED = 7;
const MOST_DEVICES = 5;
/** Of all runs, those that find their plans. */
const PLANNED = 0.25;
/** One of so many has stages of many members, which go on without one that is lost. */
const ONE_OF_MANY = 6;

/** Members of a stage that can be done without one or two. */
const LARGE = [OTHERS + 1, OTHERS + 2];

/** What a model is trained on: integers below `classes` and numbers, drawn from step and micro-batch. */
function feedOf(model: Model, classes: number): Feed {
  const values = dataInputs(model);
  const drawn = (place: number) => {
    const random = seededRandom(place);
    return Object.fromEntries(
      values.map(({ name, dtype, shape }) => {
        const count = elements(shape);
        const tensor =
          dtype === "i64"
            ? Tensor.i64(
                shape,
                Array.from({ length: count }, () => random.integer(classes)),
              )
            : Tensor.f32(
                shape,
                Float32Array.from({ length: count }, () => random.next() - 0.5),
              );
        return [name, tensor];
      }),
    );
  };
  return {
    values,
    training: (step, microBatch) => drawn(1 + step * 100 + microBatch),
    validationCount: 3,
    validation: (microBatch) => drawn(1_000_000 + microBatch),
  };
}

interface Kind {
  readonly name: string;
  readonly make: () => Model;
  readonly classes: number;
  readonly sharings: readonly Sharing[];
  /** Whether a parameter is used by more than one segment. */
  readonly isTied?: boolean;
}

const KINDS: readonly Kind[] = [
  {
    name: "mlp",
    make: () => mlp({ sample: [3], hidden: [4, 4, 3, 4, 4], classes: 3, activation: "tanh" }, 2),
    ...{ classes: 3, sharings: ["data", "local"] },
  },
  { name: "motley", make: () => motley(), classes: 256, sharings: ["data"], isTied: true },
  {
    name: "gpt",
    make: () => gptModel({ layers: 1, width: 4, heads: 2, context: 4, vocabulary: 8 }, 2),
    ...{ classes: 8, sharings: ["data", "tensor", "sequence", "tensor-sequence", "local"] },
  },
  {
    // Its first segments, and its last, have nothing to train.
    name: "adapters",
    make: () => {
      const model = gptModel({ layers: 2, width: 4, heads: 2, context: 4, vocabulary: 8 }, 2);
      return lora(model, { targets: ["attn"], rank: 1, alpha: 1 });
    },
    ...{ classes: 8, sharings: ["data"] },
  },
];

/** One of `values`. */
export function pick<T>(random: Random, values: readonly T[]): T {
  return values[random.integer(values.length)]!;
}

/** The shape of this number: the first in its row that can be carried out. */
export function shapeOf(number: number): Shape {
  const random = seededRandom(number + 1);
  const hasMany = number % ONE_OF_MANY === ONE_OF_MANY - 1;
  for (;;) {
    try {
      if (hasMany) return drawMany(random);
      return random.next() < PLANNED ? drawPlanned(random) : drawShape(random);
    } catch (error) {
      if (!(error instanceof PlanError)) throw error;
    }
  }
}

function drawShape(random: Random): Shape {
  const kind = pick(random, [KINDS[0]!, ...KINDS]);
  const model = kind.make();
  const segments = findSegments(model).length;
  const drawn = pick(random, Object.keys(SCHEDULES) as ScheduleName[]);
  // Updates at once do not wait for another stage's gradients.
  const schedule = drawn === "pipedream" && kind.isTied ? "1f1b" : drawn;
  const microBatches = pick(random, [2, 3, 4]);
  const stageCount = Math.min(pick(random, [1, 2, 2, 3, 3, 4]), segments);
  const runs = schedule === "interleaved" && 2 * stageCount <= segments ? 2 : 1;
  const ends = cuts(random, segments, stageCount * runs);
  let left = MOST_DEVICES - stageCount;
  const stages = Array.from({ length: stageCount }, (_, stage): HandStage => {
    const to = Array.from({ length: runs }, (_, run) => ends[run * stageCount + stage]!);
    const recompute = random.next() < 0.2;
    if (left === 0 || random.next() < (stageCount === 1 ? 0 : 0.6)) return { to, recompute };
    const sharings = kind.sharings.filter((sharing) => {
      if (sharing === "local") return stageCount === 1;
      // The first segment has no product to share, and shared backward passes are not split.
      return sharing === "data" || (schedule !== "zero-bubble" && to.every((end) => end > 1));
    });
    const sharing = pick(random, sharings);
    const count = Math.min(pick(random, [2, 2, 3]), left + 1, microBatches);
    left -= count - 1;
    if (sharing !== "data" && sharing !== "local") return { to, sharing, members: count };
    const members = deal(random, microBatches, count);
    return { to, sharing, members, shares: members.map(({ length }) => length), recompute };
  });
  const localSteps = stages[0]!.sharing === "local" ? pick(random, [1, 2, 3]) : 1;
  return byHand(random, kind, model, { stages, schedule, microBatches, localSteps }, [4, 6]);
}

/** Of two stages at most, one or both with more members than any of the others has; few steps, as each takes many operations. */
function drawMany(random: Random): Shape {
  const kind = KINDS[0]!;
  const model = kind.make();
  const segments = findSegments(model).length;
  const schedule = pick(random, ["gpipe", "1f1b", "eager-1f1b", "zero-bubble"] as const);
  const microBatches = pick(random, [10, 12]);
  const stageCount = pick(random, [1, 2, 2]);
  const large = random.integer(stageCount);
  const stages = cuts(random, segments, stageCount).map((end, stage): HandStage => {
    const to = [end];
    const count = stage === large ? pick(random, LARGE) : pick(random, [1, 2, ...LARGE, ...LARGE]);
    if (count === 1) return { to };
    const members = deal(random, microBatches, count);
    return { to, sharing: "data", members, shares: members.map(({ length }) => length) };
  });
  return byHand(random, kind, model, { stages, schedule, microBatches }, [3]);
}

/** @param steps that it may have. */
function byHand(
  random: Random,
  { name, classes }: Kind,
  model: Model,
  hand: HandPlan,
  steps: readonly number[],
): Shape {
  const { stages, schedule = "1f1b", microBatches } = hand;
  const every = pick(random, [1, 1, 2, 4]);
  const plan: Plan = { ...planOf(model, hand), copies: { asked: 1, count: 1, every, why: null } };
  checkPlan(plan);
  const held = stages.map(({ to, sharing, members = 1, recompute }) => {
    const shared = sharing
      ? ` ${sharing} ${typeof members === "number" ? members : JSON.stringify(members)}`
      : "";
    return `${to}${shared}${recompute ? " recomputed" : ""}`;
  });
  return {
    name: `${name}, ${schedule}, ${microBatches} micro-batches, kept every ${every}, stages to ${held.join(" | ")}`,
    ...{ model, plan, microBatches, feed: feedOf(model, classes) },
    ...{ devices: plan.devices.length, strategy: "pipeline", schedule, exact: true },
    workers: plan.devices.length,
    isLocal: stages[0]!.sharing === "local",
    ...lengths(random, steps),
  };
}

/** A run that finds its plan, and looks for better ones. */
function drawPlanned(random: Random): Shape {
  const kind = pick(random, KINDS);
  const model = kind.make();
  const microBatches = pick(random, [2, 4]);
  const strategy = pick(random, ["pipeline", "pipeline", "auto", "single"]);
  const schedule = pick(random, ["gpipe", "1f1b"]);
  // Searching all plans for four takes longer than ten runs.
  const devices = Math.min(
    pick(random, strategy === "auto" ? [2, 3] : [2, 3, 4]),
    findSegments(model).length,
  );
  return {
    name: `${kind.name}, ${devices} devices planned as ${strategy}, ${microBatches} micro-batches`,
    ...{ model, plan: null, microBatches, feed: feedOf(model, kind.classes) },
    ...{ devices, workers: 1, isLocal: false, strategy, schedule, exact: strategy !== "auto" },
    ...lengths(random, [4, 6, 12]),
  };
}

function lengths(random: Random, steps: readonly number[]) {
  return {
    steps: pick(random, steps),
    validateEvery: pick(random, [2, 3, 100]),
    saveEvery: pick(random, [2, 3, 100]),
  };
}

/** Where so many ranges of `segments` end. */
export function cuts(random: Random, segments: number, count: number): number[] {
  const inner = Array.from({ length: segments - 1 }, (_, i) => i + 1);
  while (inner.length > count - 1) inner.splice(random.integer(inner.length), 1);
  return [...inner, segments];
}

/** Every micro-batch to one of `count` members; everyone has at least one. */
function deal(random: Random, microBatches: number, count: number): number[][] {
  const members: number[][] = Array.from({ length: count }, (_, member) => [member]);
  for (let m = count; m < microBatches; m++) members[random.integer(count)]!.push(m);
  return members;
}
