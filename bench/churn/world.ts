/**
 * The world of the churn bench: devices of seven classes that are imagined, who leaves and comes when, and what they train
 * together. Times of steps are the planner's and the simulator's; nothing is measured here.
 */

import { imaginedRequest } from "../../actors/plan.ts";
import { type ChurnEvent, readCluster } from "../../actors/scheduler/cluster.ts";
import { changingBytes, type Profile } from "../../actors/scheduler/cost.ts";
import type { DeviceClassName } from "../../actors/scheduler/device-classes.ts";
import type { Plan } from "../../actors/scheduler/plan.ts";
import type { PlanRequest } from "../../actors/scheduler/planner.ts";
import { churnEvents } from "../../actors/scheduler/simulate/churn-events.ts";
import { lora } from "../../nn/finetune/lora.ts";
import type { Model } from "../../nn/model.ts";
import { gptModel } from "../../nn/models/gpt.ts";
import { DEFAULT_ADAMW } from "../../nn/optim/adamw.ts";

export const CLASSES: readonly DeviceClassName[] = [
  "raspberry-pi-5",
  "jetson-nano",
  "jetson-xavier-nx",
  "jetson-orin-nano",
  "phone",
  "laptop",
  "desktop",
];

/** Of all that there are, on average so many are there. */
const PRESENT = 0.9;
/** Devices come and go for so many times as long as a run is: the step counts that is under way at its end. */
export const LONGER = 2;
const MINUTES_PER_HOUR = 60;
const MS_PER_MINUTE = 60_000;

export const LINK = { mbitPerS: 1000, latencyMs: 1 } as const;
export const MODEL = { layers: 12, width: 768, heads: 12, context: 512, vocabulary: 256 } as const;

export interface WorldOptions {
  /** That are there on average. */
  readonly devices: number;
  /** Of those that are there, the part that leaves or joins in a minute. */
  readonly churn: number;
  readonly minutes: number;
  readonly seed: number;
  /** Sequences in a micro-batch, and micro-batches in a step. */
  readonly rows: number;
  readonly microBatches: number;
  /** Rank of the adapters that are trained; all of the model is, when left out. */
  readonly adapters?: number;
}

export interface ChurnWorld extends WorldOptions {
  /** With all devices. */
  readonly request: PlanRequest;
  /** By time. Everybody is there in the beginning. */
  readonly events: readonly ChurnEvent[];
}

/** What is trained. @param rows sequences in a micro-batch. */
export function modelOf({ rows, adapters }: Pick<WorldOptions, "rows" | "adapters">): Model {
  const whole = gptModel(MODEL, rows);
  return adapters === undefined ? whole : lora(whole, { targets: ["*"], rank: adapters, alpha: adapters });
}

/** What is trained, and on what; the same for all rates of churn. */
export function worldOf(options: WorldOptions): ChurnWorld {
  const { devices, churn, minutes, seed, microBatches } = options;
  const slots = Math.round(devices / PRESENT);
  const count = (i: number) => Math.floor(slots / CLASSES.length) + (i < slots % CLASSES.length ? 1 : 0);
  const cluster = readCluster(
    JSON.stringify({
      devices: CLASSES.flatMap((name, i) => (count(i) > 0 ? [{ class: name, count: count(i), name }] : [])),
      links: { default: LINK },
      churn: { rates: ratesOf(churn, seed) },
    }),
  );
  const request = imaginedRequest(cluster, {
    model: modelOf(options),
    optimizer: { ...DEFAULT_ADAMW, steps: 1000 },
    options: { strategy: "hybrid", schedule: "auto", microBatches, recompute: "where-needed", copies: 1 },
  });
  return { ...options, request, events: churnEvents(cluster, LONGER * minutes * MS_PER_MINUTE) };
}

/** As many leave as join: half of the churn each, of those that are there and of those that are away. */
function ratesOf(churn: number, seed: number) {
  const leavesPerHour = (churn / 2) * MINUTES_PER_HOUR;
  return { leavesPerHour, joinsPerHour: (leavesPerHour * PRESENT) / (1 - PRESENT), seed };
}

/** The same with other churn: what is known of devices is kept. */
export function withChurn(
  world: ChurnWorld,
  change: Partial<Pick<WorldOptions, "churn" | "minutes">>,
): ChurnWorld {
  const { churn, minutes, seed } = { ...world, ...change };
  const rates = ratesOf(churn, seed);
  const devices = world.request.devices as Parameters<typeof churnEvents>[0]["devices"];
  const events = churnEvents({ devices, churn: { events: [], rates } }, LONGER * minutes * MS_PER_MINUTE);
  return { ...world, ...change, events };
}

/** Those that are there, as a request. */
export function among({ request }: ChurnWorld, isThere: (id: string) => boolean): PlanRequest {
  return { ...request, devices: request.devices.filter(({ id }) => isThere(id)) };
}

/** Any link: all are alike. */
export function linkOf({ links }: Profile): { readonly latencyMs: number; readonly bytesPerMs: number } {
  const [from] = Object.keys(links);
  return Object.values(links[from!]!)[0]!;
}

/** What a member of a stage is given that comes. */
export function heldBytes({ request }: ChurnWorld, plan: Plan, stage: number): number {
  return plan.stages[stage]!.ranges.flatMap(({ from, to }) => request.segments.slice(from, to)).reduce(
    (sum, segment) => sum + changingBytes(segment),
    0,
  );
}
