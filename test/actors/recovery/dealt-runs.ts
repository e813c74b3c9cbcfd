/** Runs of plans whose stages have many members, who are dealt what a lost one of them had. For tests. */

import type { Fault } from "../../../actors/chaos/fault.ts";
import type { Feed } from "../../../actors/data/feed.ts";
import { workersOf } from "../../../actors/scheduler/plan.ts";
import { isOfMicroBatch } from "../../../actors/scheduler/program.ts";
import { Worker } from "../../../actors/stage/worker.ts";
import { dataInputs, type Model } from "../../../nn/model.ts";
import { mlp } from "../../../nn/models/mlp.ts";
import { findSegments } from "../../../nn/segments.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../../nn/engine/operator-cases.ts";
import type { Cluster } from "../cluster.ts";
import type { Bits } from "./apart.ts";
import type * as runs from "./runs.ts";
import {
  bitsAfter,
  microBatchOperationsOf,
  type Watched,
  type Watching,
  watched,
  whileBroken,
} from "./watched.ts";

export const STEPS = 3;
/** The step in which somebody is lost. */
export const STEP = 1;
const MICRO_BATCHES = 12;
const MODEL = mlp({ sample: [6], hidden: [5, 4], classes: 3, activation: "tanh" }, 2);
export const WATCHING: Watching = { microBatches: MICRO_BATCHES, model: MODEL, feed: feedOf(MODEL) };

/** Samples drawn at random, the same for a micro-batch of a step every time. */
function feedOf(model: Model): Feed {
  const drawn = (seed: number) => {
    const chance = new Chance(seed);
    return { features: chance.f32([2, 6], -1, 1), targets: Tensor.i64([2], [seed % 3, 1]) };
  };
  return {
    values: dataInputs(model),
    training: (step, microBatch) => drawn(MICRO_BATCHES * step + microBatch),
    validationCount: 1,
    validation: drawn,
  };
}

/** Where its segments end, and where it is cut. */
export const END = findSegments(MODEL).length;
export const CUT = END >> 1;

/** So many members, with micro-batches in turn. */
export function many(members: number): Pick<runs.Shape["stages"][number], "sharing" | "members"> {
  const dealt = Array.from({ length: members }, (): number[] => []);
  for (let m = 0; m < MICRO_BATCHES; m++) dealt[m % members]!.push(m);
  return { sharing: "data", members: dealt };
}

export const ALL: runs.Shape = { stages: [{ to: [END], ...many(10) }] };
export const BEFORE: runs.Shape = {
  stages: [
    { to: [CUT], ...many(9) },
    { to: [END], members: 1 },
  ],
};
export const BEHIND: runs.Shape = {
  stages: [
    { to: [CUT], ...many(2) },
    { to: [END], ...many(9) },
  ],
};
export const BOTH: runs.Shape = {
  stages: [
    { to: [CUT], ...many(9) },
    { to: [END], ...many(9) },
  ],
};

const undisturbed = new Map<runs.Shape, Promise<Bits>>();
/** Of a run that nobody disturbs. */
export function spared(clusters: Cluster[], shape: runs.Shape): Promise<Bits> {
  const known = undisturbed.get(shape) ?? run(clusters, shape).then(({ bits }) => bits);
  undisturbed.set(shape, known);
  return known;
}

export interface Made {
  readonly cluster: Watched;
  readonly bits: Bits;
  /** Operations of the step that were carried out, those that were lost among them. */
  readonly carriedOut: number;
}

export async function run(
  clusters: Cluster[],
  shape: runs.Shape,
  faults: readonly Fault[] = [],
  copies = 1,
): Promise<Made> {
  const cluster = await watched(clusters, shape, faults, { ...WATCHING, copies });
  let carriedOut = 0;
  const bits = await whileBroken(
    Worker,
    "carryOut",
    async (_, carryOut, operation, index, stepRun) => {
      await carryOut(operation, index, stepRun);
      if (stepRun.step === STEP && isOfMicroBatch(operation)) carriedOut++;
    },
    () => bitsAfter(cluster, STEPS),
  );
  return { cluster, bits, carriedOut };
}

/** All operations of a step. */
export function wholeStep(cluster: Watched): number {
  return microBatchOperationsOf(cluster, ...workersOf(cluster.plan).keys());
}
