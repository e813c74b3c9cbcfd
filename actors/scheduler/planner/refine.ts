/**
 * Local search from a draft: one small change at a time, kept where the simulator says that a step gets better. It makes
 * up for what the search's closed form leaves out (who waits for whom, whole micro-batches, thinned-out cuts and rows).
 */

import { isSharded, type Plan, type Sharing } from "../plan.ts";
import { PlanError } from "../plan-error.ts";
import { type Draft, type DraftStage, lanesOf, type Outcome, type Workshop } from "./draft.ts";

export interface RefineOptions {
  /** Whether a draft is of the strategy that was asked for. */
  readonly allows: (draft: Draft) => boolean;
  /** How members of a stage may share its work. */
  readonly sharings: readonly Sharing[];
  /** Simulated events that may be spent. */
  readonly budget: number;
}

/** The best that is found by going on from this outcome, by steps that gain. */
export function refine(
  workshop: Workshop,
  start: Outcome,
  { allows, budget, sharings }: RefineOptions,
): Outcome {
  let best = start;
  const end = workshop.events + budget;
  for (let improved = true; improved; ) {
    improved = false;
    for (const draft of changes(best, workshop.inputs.devices.length, sharings)) {
      if (workshop.events >= end) return best;
      if (!allows(draft)) continue;
      const outcome = workshop.outcome(draft);
      if (outcome instanceof PlanError || !(outcome.score < best.score * (1 - 1e-9))) continue;
      best = outcome;
      improved = true;
      // The same kind of change may gain again: begin anew from here.
      break;
    }
  }
  return best;
}

/** Drafts that differ a little, the likeliest to gain first. */
function* changes({ draft, plan }: Outcome, devices: number, sharings: readonly Sharing[]): Generator<Draft> {
  yield* moveCuts(draft);
  yield* moveMicroBatches(
    draft,
    plan.stages.map(({ members }) => members.map((member) => member.microBatches)),
  );
  yield* moveShares(
    draft,
    plan.stages.map(({ members }) => members.map(({ share }) => share)),
  );
  yield* changeSharing(draft, sharings);
  yield* moveDevices(draft, devices);
  yield* helpOut(draft, devices, plan);
  yield* mergeAndSplit(draft);
}

/** A segment more or less for a position. */
function* moveCuts(draft: Draft): Generator<Draft> {
  for (let at = 1; at < draft.cuts.length - 1; at++) {
    for (const by of [1, -1, 2, -2, 4, -4]) {
      const cut = draft.cuts[at]! + by;
      if (cut <= draft.cuts[at - 1]! || cut >= draft.cuts[at + 1]!) continue;
      yield { ...forgetful(draft), cuts: draft.cuts.with(at, cut) };
    }
  }
}

/** Work is dealt anew where it has changed. */
function forgetful(draft: Draft): Draft {
  return { ...draft, stages: draft.stages.map((stage) => ({ ...stage, dealt: null, shares: null })) };
}

/** A micro-batch more for a member and one less for another, or one for another. */
function* moveMicroBatches(
  draft: Draft,
  dealt: readonly (readonly (readonly number[])[])[],
): Generator<Draft> {
  for (const [index, stage] of draft.stages.entries()) {
    const own = dealt[index]!;
    if (lanesOf(stage) === 1) continue;
    const among = Math.min(own.length, MOST_MEMBERS);
    for (let from = 0; from < among; from++) {
      for (let to = 0; to < among; to++) {
        if (from === to) continue;
        const change = (off: number, on: number | null) =>
          withStage(draft, index, { ...stage, dealt: exchanged(own, from, to, off, on) });
        if (own[from]!.length > 1) {
          for (const moved of new Set([own[from]!.at(-1)!, own[from]![0]!])) yield change(moved, null);
        }
        // Turns change places: who takes the earlier one feeds the next stage first.
        for (const off of own[from]!.slice(0, MOST_TURNS)) {
          for (const on of own[to]!) if (on > off && on - off <= MOST_MEMBERS) yield change(off, on);
        }
      }
    }
  }
}

/** A micro-batch of one member goes to another, for one of its own or for none. */
function exchanged(
  dealt: readonly (readonly number[])[],
  from: number,
  to: number,
  off: number,
  on: number | null,
): readonly (readonly number[])[] {
  return dealt.map((own, i) => {
    if (i !== from && i !== to) return own;
    const [out, into] = i === from ? [off, on] : [on, off];
    const rest = own.filter((microBatch) => microBatch !== out);
    return (into === null ? rest : [...rest, into]).sort((a, b) => a - b);
  });
}

/** A unit of what is divided more for a rank, and one less for another. */
function* moveShares(draft: Draft, shares: readonly (readonly number[])[]): Generator<Draft> {
  for (const [index, stage] of draft.stages.entries()) {
    if (stage.members.length === 1 || lanesOf(stage) > 1) continue;
    const own = shares[index]!;
    for (let from = 0; from < Math.min(own.length, MOST_MEMBERS); from++) {
      for (let to = 0; to < Math.min(own.length, MOST_MEMBERS); to++) {
        if (from === to || own[from]! < 2) continue;
        yield withStage(draft, index, {
          ...stage,
          shares: own.with(from, own[from]! - 1).with(to, own[to]! + 1),
        });
      }
    }
  }
}

/** So many of the first turns are changed one by one: it is there that a pipeline fills. */
const MOST_TURNS = 4;

/** Members share their work in another way. */
function* changeSharing(draft: Draft, sharings: readonly Sharing[]): Generator<Draft> {
  for (const [index, stage] of draft.stages.entries()) {
    if (stage.members.length === 1) continue;
    for (const sharing of sharings) {
      if (sharing !== stage.sharing)
        yield withStage(draft, index, fresh({ ...stage, sharing }, stage.members));
    }
  }
}

/** Of larger groups only the first so many members are looked at one by one. */
const MOST_MEMBERS = 6;

/** A device leaves, joins, changes its stage, or changes places with another. */
function* moveDevices(draft: Draft, devices: number): Generator<Draft> {
  const used = new Set(draft.stages.flatMap(({ members }) => members));
  const unused = Array.from({ length: devices }, (_, i) => i).filter((device) => !used.has(device));
  for (const [index, stage] of draft.stages.entries()) {
    for (const member of stage.members) {
      const without = stage.members.filter((other) => other !== member);
      if (without.length > 0) {
        yield withStage(draft, index, fresh(stage, without));
        for (const [other, target] of draft.stages.entries()) {
          if (other === index) continue;
          const left = withStage(draft, index, fresh(stage, without));
          yield withStage(left, other, fresh(target, [...target.members, member]));
        }
      }
      for (const device of unused.slice(0, MOST_MEMBERS)) {
        yield withStage(
          draft,
          index,
          fresh(
            stage,
            stage.members.map((other) => (other === member ? device : other)),
          ),
        );
      }
      for (const [other, target] of draft.stages.entries()) {
        if (other <= index) continue;
        for (const partner of target.members) {
          const swap = (from: readonly number[], out: number, into: number) =>
            from.map((each) => (each === out ? into : each));
          const stages = [
            fresh(stage, swap(stage.members, member, partner)),
            fresh(target, swap(target.members, partner, member)),
          ] as const;
          const swapped = withStage(withStage(draft, index, stages[0]), other, stages[1]);
          yield swapped;
        }
      }
    }
    for (const device of unused.slice(0, MOST_MEMBERS)) {
      yield withStage(draft, index, fresh(stage, [...stage.members, device]));
    }
  }
}

/** An unused device takes a single micro-batch of a stage: less than dealing by speed would give it. */
function* helpOut(draft: Draft, devices: number, plan: Plan): Generator<Draft> {
  const used = new Set(draft.stages.flatMap(({ members }) => members));
  const unused = Array.from({ length: devices }, (_, i) => i).filter((device) => !used.has(device));
  for (const [index, stage] of draft.stages.entries()) {
    if (isSharded(stage.sharing)) continue;
    const own = plan.stages[index]!.members.map(({ microBatches }) => microBatches);
    for (const device of unused.slice(0, MOST_MEMBERS)) {
      for (let taken = 0; taken < Math.min(plan.microBatches, MOST_MEMBERS); taken++) {
        const dealt = [...own.map((each) => each.filter((microBatch) => microBatch !== taken)), [taken]];
        if (dealt.some(({ length }) => length === 0)) continue;
        yield withStage(draft, index, { ...fresh(stage, [...stage.members, device]), dealt });
      }
    }
  }
}

/** Two stages become one that shares its work, or the other way round. Of stages of one chunk. */
function* mergeAndSplit(draft: Draft): Generator<Draft> {
  if (draft.owners.length > draft.stages.length) return;
  const owners = (count: number) => Array.from({ length: count }, (_, i) => i);
  for (let at = 0; at + 1 < draft.stages.length; at++) {
    const [a, b] = [draft.stages[at]!, draft.stages[at + 1]!];
    const sharing = a.sharing ?? b.sharing ?? "data";
    const both = fresh({ ...a, sharing }, [...a.members, ...b.members]);
    const stages = draft.stages.toSpliced(at, 2, both);
    yield { ...draft, stages, cuts: draft.cuts.toSpliced(at + 1, 1), owners: owners(stages.length) };
  }
  for (const [at, stage] of draft.stages.entries()) {
    const [from, to] = [draft.cuts[at]!, draft.cuts[at + 1]!];
    if (stage.members.length < 2 || to - from < 2) continue;
    for (let first = 1; first < Math.min(stage.members.length, MOST_MEMBERS); first++) {
      const halves = [fresh(stage, stage.members.slice(0, first)), fresh(stage, stage.members.slice(first))];
      const stages = draft.stages.toSpliced(at, 1, ...halves);
      const cut = from + Math.max(1, Math.round(((to - from) * first) / stage.members.length));
      yield {
        ...draft,
        ...{ stages, owners: owners(stages.length) },
        cuts: draft.cuts.toSpliced(at + 1, 0, Math.min(to - 1, cut)),
      };
    }
  }
}

/** The stage with other members, its work not yet shared out among them. */
function fresh(stage: DraftStage, members: readonly number[]): DraftStage {
  const sharing = members.length === 1 ? null : (stage.sharing ?? "data");
  return { ...stage, members, sharing, dealt: null, shares: null };
}

function withStage(draft: Draft, index: number, stage: DraftStage): Draft {
  return { ...draft, stages: draft.stages.with(index, stage) };
}
