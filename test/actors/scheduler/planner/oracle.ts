/**
 * The best plan of a small case, by trying all there are: every subset of the devices in every order, every way to make
 * groups of them, every cut, every way to share, and every way to deal the micro-batches of a step.
 */

import type { Sharing } from "../../../../actors/scheduler/plan.ts";
import { PlanError } from "../../../../actors/scheduler/plan-error.ts";
import type { Draft, DraftStage, Outcome, Workshop } from "../../../../actors/scheduler/planner/draft.ts";

/** The least score, and how many drafts were tried. */
export function exhaustive(
  workshop: Workshop,
  sharings: readonly Sharing[],
): { best: Outcome | null; tried: number } {
  const { devices, segments, microBatches } = workshop.inputs;
  let best: Outcome | null = null;
  let tried = 0;
  for (const groups of groupings(devices.length)) {
    for (const cuts of allCuts(groups.length, segments.length)) {
      for (const stages of staffed(groups, sharings, microBatches)) {
        const draft: Draft = {
          ...{ schedule: "1f1b", stages, cuts, owners: stages.map((_, i) => i), localSteps: 1 },
          codecs: { activations: null, gradients: null },
        };
        tried++;
        const outcome = workshop.outcome(draft);
        if (outcome instanceof PlanError) continue;
        if (!best || outcome.score < best.score) best = outcome;
      }
    }
  }
  return { best, tried };
}

/** Every device goes into one of 1 … n groups, or into none; no group is empty. */
function* groupings(devices: number): Generator<number[][]> {
  for (let count = 1; count <= devices; count++) {
    for (let code = 0; code < (count + 1) ** devices; code++) {
      const groups = Array.from({ length: count }, (): number[] => []);
      for (let device = 0, rest = code; device < devices; device++, rest = Math.floor(rest / (count + 1))) {
        groups[(rest % (count + 1)) - 1]?.push(device);
      }
      if (groups.every(({ length }) => length > 0)) yield groups;
    }
  }
}

function* allCuts(parts: number, segments: number, from = 0): Generator<number[]> {
  if (parts === 1) {
    yield [from, segments];
    return;
  }
  for (let to = from + 1; to <= segments - (parts - 1); to++) {
    for (const rest of allCuts(parts - 1, segments, to)) yield [from, ...rest];
  }
}

/** Every way in which each group can share its work. */
function* staffed(
  groups: readonly (readonly number[])[],
  sharings: readonly Sharing[],
  microBatches: number,
): Generator<DraftStage[]> {
  const [first, ...rest] = groups;
  if (!first) {
    yield [];
    return;
  }
  const own: DraftStage[] = [];
  const base = { members: first, recompute: false, shares: null, dealt: null };
  if (first.length === 1) own.push({ ...base, sharing: null });
  for (const sharing of first.length > 1 ? sharings : []) {
    if (sharing !== "data") own.push({ ...base, sharing });
    else for (const dealt of dealings(first.length, microBatches)) own.push({ ...base, sharing, dealt });
  }
  for (const stage of own)
    for (const others of staffed(rest, sharings, microBatches)) yield [stage, ...others];
}

/** Every way to deal micro-batches such that everyone has one. */
function* dealings(members: number, microBatches: number): Generator<number[][]> {
  for (let code = 0; code < members ** microBatches; code++) {
    const dealt = Array.from({ length: members }, (): number[] => []);
    for (let microBatch = 0, rest = code; microBatch < microBatches; microBatch++) {
      dealt[rest % members]!.push(microBatch);
      rest = Math.floor(rest / members);
    }
    if (dealt.every(({ length }) => length > 0)) yield dealt;
  }
}
