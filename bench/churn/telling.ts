/**
 * What a coordinator does before all know how a step goes on without a device: the plan is dealt, it is looked whether that
 * leaves everybody enough memory, what stages are to be told is made of it and compared with what they have been told, and
 * written as it is sent. That is not simulated: it is done, and measured. What is simulated is its way over the coordinator's
 * link.
 */

import { dealLost } from "../../actors/scheduler/dealt.ts";
import { memoryMidway } from "../../actors/scheduler/device-load.ts";
import { lackingOf, type Placed } from "../../actors/scheduler/handover.ts";
import { partsOf } from "../../actors/scheduler/parts.ts";
import { chunksOf, type Plan, planPrograms, workersOf } from "../../actors/scheduler/plan.ts";
import { planCost } from "../../actors/scheduler/plan-cost.ts";
import { specsOf } from "../../actors/scheduler/specs.ts";
import { dealingOf } from "../../actors/stage/spec.ts";
import { DEFAULT_ADAMW } from "../../nn/optim/adamw.ts";
import { findSegments } from "../../nn/segments.ts";
import { encodePlain } from "../../protocols/codec.ts";
import { type ChurnWorld, linkOf, modelOf } from "./world.ts";

const TIMES = 9;

/** Milliseconds, here, of the quickest of some losses of a member each: others work on a machine, too. 0 where nothing is dealt. */
export function tellingMs(plan: Plan, world: Pick<ChurnWorld, "rows" | "adapters" | "request">): number {
  const model = modelOf(world);
  const { segments: costs, devices, profile } = world.request;
  const { bytesPerMs } = linkOf(profile);
  const segments = findSegments(model);
  const options = {
    ...{ model, seed: 1, stashBytes: 0, recovers: true },
    optimizer: { ...DEFAULT_ADAMW, steps: 1000 },
  };
  const specs = (own: Plan, generation: number) =>
    specsOf(own, partsOf(model, segments, chunksOf(own)), planPrograms(own), { ...options, generation });
  const told = specs(plan, 1);
  const placed = workersOf(plan).map((worker) => ({ worker, spec: told[worker.worker]! }) as Placed);
  const taken: number[] = [];
  for (let i = 0; i < TIMES; i++) {
    const lost = placed[Math.floor((i * placed.length) / TIMES)]!.worker.member.device;
    const began = performance.now();
    const next = dealLost(plan, new Set([lost]));
    if (!next) return 0;
    memoryMidway(plan, next, planCost(next, { segments: costs, devices, profile }));
    const anew = specs(next, i + 2);
    lackingOf(placed, workersOf(next), anew);
    const found = performance.now();
    const bytes = anew.reduce((sum, spec) => sum + encodePlain(dealingOf(spec)).byteLength, 0);
    // Each is sent while the next is written.
    taken.push(found - began + Math.max(performance.now() - found, bytes / bytesPerMs));
  }
  return Math.min(...taken);
}
