/** Small runs that keep copies, by plans written by hand. For tests. */

import type { Plan } from "../../../actors/scheduler/plan.ts";
import type { RecoveryOptions, RunRecovery, SchedulerOptions } from "../../../actors/scheduler/scheduler.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import type { Tensor } from "../../../protocols/tensor.ts";
import { type Cluster, type ClusterOptions, makeCluster } from "../cluster.ts";
import { type HandPlan, type HandStage, planOf } from "../plans.ts";

const GPT = { layers: 2, width: 8, heads: 2, context: 8, vocabulary: 256 };
export const STEPS = 6;
export const LAST = STEPS - 1;
export const MODEL = gptModel(GPT, 2);

export type Shape = Omit<HandPlan, "microBatches">;

export const PIPELINE: HandStage[] = [
  { to: [2], members: 1 },
  { to: [3], members: 1 },
  { to: [6], members: 1 },
];

export const SHARED_BY_DATA: Shape = {
  stages: [
    {
      to: [3],
      sharing: "data",
      members: [
        [0, 2],
        [1, 3],
      ],
    },
    { to: [6], members: 1 },
  ],
};

export const SHARED_BY_TENSOR: Shape = {
  stages: [
    { to: [3], members: 1 },
    { to: [6], sharing: "tensor", members: 2 },
  ],
};

/** A run whose devices are disturbed, and what it said of it. */
export interface Disturbed extends Cluster {
  readonly told: RunRecovery[];
}

/** The plan with other devices in the place of some of its workers. */
export function elsewhere(plan: Plan, places: Readonly<Record<number, number>>): Plan {
  let worker = 0;
  const stages = plan.stages.map((stage) => ({
    ...stage,
    members: stage.members.map((member) => {
      const place = places[worker++];
      return place === undefined ? member : { ...member, device: `${place}`, deviceName: `device-${place}` };
    }),
  }));
  const used = stages.flatMap(({ members }) => members);
  const devices = used.map(({ device, deviceName }) => {
    return { id: device, name: deviceName, used: true, reason: "" };
  });
  return { ...plan, stages, devices };
}

export const handPlan = (shape: Shape) => planOf(MODEL, { microBatches: 4, ...shape });

/** @param options besides; what is heard of recoveries is in `told`. */
export async function started(
  options: ClusterOptions,
  scheduling: Partial<SchedulerOptions> = {},
  recovery: Partial<RecoveryOptions> = {},
): Promise<Disturbed> {
  const told: RunRecovery[] = [];
  let initial: Readonly<Record<string, Tensor>> = {};
  const cluster = await makeCluster({
    ...{ apart: true, model: MODEL, ...options },
    scheduling: {
      ...scheduling,
      recovery: {
        copies: 1,
        restart: async () => ({ step: -1, values: initial }),
        fixed: async (names) => Object.fromEntries(names.map((name) => [name, initial[name]!])),
        tell: (each) => told.push(each),
        ...recovery,
      },
    },
  });
  initial = cluster.initial;
  return { ...cluster, told };
}

/** A run by this plan, with its stages in place. @param spare devices that the plan does not have. */
export async function deployed(
  cleanups: Cluster[],
  shape: Shape,
  { copies = 1, spare = 0 }: { readonly copies?: number; readonly spare?: number } = {},
): Promise<Disturbed> {
  const plan = handPlan(shape);
  const cluster = await started({ devices: plan.devices.length + spare }, { plan }, { copies });
  cleanups.push(cluster);
  await cluster.scheduler.ask.plan();
  await cluster.scheduler.ask.deploy(cluster.initial);
  return cluster;
}

/** All that training has changed, as bytes. */
export async function bitsOf({ scheduler }: Cluster): Promise<Record<string, string>> {
  const state = await scheduler.ask.state();
  return Object.fromEntries(
    Object.entries(state).map(([name, { bytes }]) => [name, Buffer.from(bytes).toString("base64")]),
  );
}
