/**
 * The search for hybrid pipelines: dynamic programming in the manner of Asteroid (Ye et al., "Asteroid: Resource-Efficient
 * Hybrid Pipeline Parallelism for Collaborative DNN Training on Heterogeneous Edge Devices", MobiCom 2024).
 *
 * Devices are in a row. A stage is a run of neighbours in that row with a run of segments; pipelines are built from the
 * last stage to the first, since that is what decides how many micro-batches a stage has in flight, and with it the
 * memory it needs and the time it may wait. The state is (first device, first segment, stages). Three things differ from
 * the paper: devices may be passed over between groups; a group may share micro-batches or the work inside them; and a
 * state keeps a few pipelines, none of which beats another in both the slowest stage and the way through all of them,
 * where the paper keeps one.
 *
 * The time of a step, as long as nothing is settled by simulation: the slowest stage's (or link's) work on all
 * micro-batches, the way of one micro-batch through all the others, and the last reduction and update.
 */

import { isSharded, type PlanCodecs } from "../plan.ts";
import type { ScheduleName } from "../schedule.ts";
import { type Draft, type DraftStage, inFlightOf } from "./draft.ts";
import type { Choice, Groups } from "./group.ts";
import { type Objective, score } from "./objective.ts";
import type { MeanLink, Tables } from "./tables.ts";

export interface SearchSpace {
  readonly tables: Tables;
  readonly groups: Groups;
  readonly objective: Objective;
  readonly microBatches: number;
  readonly schedule: ScheduleName;
  /** The row: runs of devices that are taken together, one each unless there are too many. */
  readonly row: readonly (readonly number[])[];
  /** Where a stage may begin or end, ascending, 0 and the number of segments included. */
  readonly cuts: readonly number[];
  /** At most so many stages, and so many members in one. */
  readonly mostStages: number;
  readonly mostMembers: number;
  /** At least so many: a strategy of sharing wants somebody to share with. */
  readonly leastMembers: number;
  readonly codecs: PlanCodecs;
  /** Of an activation's bytes, what travels. */
  readonly activationRatio: number;
  readonly localSteps: number;
  /** Pipelines that a state keeps. */
  readonly width: number;
  /** The mean links from run to run, as far as they are known. */
  readonly crossings: Map<number, { readonly there: MeanLink; readonly back: MeanLink }>;
}

export interface Found {
  readonly draft: Draft;
  /** By the closed form; the less the better. */
  readonly score: number;
}

/** A pipeline from some segment to the end. */
interface Suffix {
  readonly choice: Choice;
  /** A number for the first stage's run of devices. */
  readonly run: number;
  readonly from: number;
  readonly next: Suffix | null;
  readonly lanes: number;
  /** The most that one stage or link has to do in a step. */
  readonly peakMs: number;
  /** Of one micro-batch through everything, and through the slowest stage. */
  readonly wayMs: number;
  readonly peakPassMs: number;
  readonly tailMs: number;
  /** In a step, what goes out and comes in behind keeps the first stage's interfaces busy. */
  readonly upMs: number;
  readonly downMs: number;
  readonly joules: number;
  readonly idleWatts: number;
  readonly estimateMs: number;
  readonly score: number;
}

/** So many times as many drafts come out as a state keeps, as there are some for every number of stages. */
const FINISHED = 3;

/** The best pipelines of the space by the closed form, the best first. */
export function search(space: SearchSpace): Found[] {
  const { row, cuts, mostStages } = space;
  const end = cuts.length - 1;
  const depth = Math.min(mostStages, row.length, end);
  /** `states[stages][device][cut]` */
  const states = Array.from({ length: depth + 1 }, () =>
    Array.from({ length: row.length + 1 }, () => Array.from({ length: end + 1 }, (): Suffix[] => [])),
  );
  for (let device = row.length - 1; device >= 0; device--) {
    const members: number[] = [];
    for (let stages = 1; stages <= depth; stages++) {
      for (let cut = 0; cut < end; cut++) {
        states[stages]![device]![cut]!.push(...states[stages]![device + 1]![cut]!);
      }
    }
    for (let behind = device + 1; behind <= row.length; behind++) {
      members.push(...row[behind - 1]!);
      if (members.length > space.mostMembers && behind > device + 1) break;
      if (members.length < space.leastMembers) continue;
      for (let from = 0; from < end; from++) {
        extend(space, states, { device, behind, from, members: [...members] });
      }
    }
  }
  const found = states.flatMap((of) => of[0]![0]!).sort((a, b) => a.score - b.score);
  return found
    .slice(0, FINISHED * space.width)
    .map((suffix) => ({ draft: draftOf(space, suffix), score: suffix.score }));
}

/** All pipelines whose first stage has these devices and begins at this cut. */
function extend(
  space: SearchSpace,
  states: readonly (readonly (readonly Suffix[][])[])[],
  first: { device: number; behind: number; from: number; members: readonly number[] },
): void {
  const { cuts, groups, microBatches } = space;
  const end = cuts.length - 1;
  const { device, behind, from, members } = first;
  const run = device * (space.row.length + 1) + behind;
  for (const choice of groups.choices(members, cuts[from]!, cuts[end]!, 0)) {
    keep(
      space,
      states[1]![device]![from]!,
      prepend(space, { choice, run, from: cuts[from]!, to: cuts[end]! }, null),
    );
  }
  for (let to = from + 1; to < end; to++) {
    // By lanes behind, which decide what memory is needed; where there is enough for the most, they do not matter.
    const choices = new Map<number, readonly Choice[]>();
    groups.bound = false;
    const most = groups.choices(members, cuts[from]!, cuts[to]!, microBatches);
    const { bound } = groups;
    for (let stages = 2; stages < states.length; stages++) {
      const kept = states[stages]![device]![from]!;
      for (const suffix of states[stages - 1]![behind]![to]!) {
        const lanes = Math.min(suffix.lanes, microBatches);
        let own = bound ? choices.get(lanes) : most;
        if (!own) {
          own = groups.choices(members, cuts[from]!, cuts[to]!, lanes);
          choices.set(lanes, own);
        }
        for (const choice of own)
          keep(space, kept, prepend(space, { choice, run, from: cuts[from]!, to: cuts[to]! }, suffix));
      }
    }
  }
}

/** A stage in front of a suffix. */
interface Front {
  readonly choice: Choice;
  /** A number for its run of devices. */
  readonly run: number;
  readonly from: number;
  readonly to: number;
}

function prepend(space: SearchSpace, { choice, run, from, to }: Front, next: Suffix | null): Suffix {
  const { microBatches, objective, schedule } = space;
  const lanes = choice.lanes + (next?.lanes ?? 0);
  let { stepMs: peakMs, passMs: wayMs, joules } = choice;
  let peakPassMs = wayMs;
  let [upMs, downMs] = [0, 0];
  if (next) {
    const { occupiedMs, roundMs, sentBytes, ...own } = crossing(space, choice, run, next, to);
    ({ upMs, downMs } = own);
    wayMs += next.wayMs + roundMs;
    if (next.peakMs > peakMs) {
      peakMs = next.peakMs;
      peakPassMs = next.peakPassMs;
    }
    if (occupiedMs > peakMs) {
      peakMs = occupiedMs;
      peakPassMs = occupiedMs / microBatches;
    }
    // A micro-batch keeps its place until it is back: with so few in flight the first stage waits for the way round.
    const inFlight = inFlightOf(schedule, microBatches)(microBatches, lanes - 1);
    const waitMs = (microBatches * wayMs) / inFlight;
    if (waitMs > peakMs) {
      peakMs = waitMs;
      peakPassMs = wayMs;
    }
    joules += next.joules + space.tables.networkJoules(choice.members[0]!, sentBytes);
  }
  const tailMs = Math.max(choice.tailMs, next?.tailMs ?? 0);
  const idleWatts = choice.idleWatts + (next?.idleWatts ?? 0);
  const estimateMs = peakMs + Math.max(0, wayMs - peakPassMs) + tailMs;
  const total = score(objective, estimateMs, joules + (idleWatts * estimateMs) / 1000);
  return {
    ...{ choice, run, from, next, lanes, peakMs, wayMs, peakPassMs, tailMs, upMs, downMs },
    ...{ joules, idleWatts, estimateMs },
    score: total,
  };
}

/** What it is to cross from a stage to the next behind segment `to`. */
function crossing(space: SearchSpace, a: Choice, run: number, next: Suffix, to: number) {
  const { tables, microBatches, activationRatio, crossings } = space;
  const b = next.choice;
  const bytes = tables.activationBytes(to) * activationRatio;
  const key = run * (space.row.length + 1) ** 2 + next.run;
  let link = crossings.get(key);
  if (!link) {
    link = { there: tables.between(a.members, b.members), back: tables.between(b.members, a.members) };
    crossings.set(key, link);
  }
  const { there, back } = link;
  // All ranks listen, one of them speaks.
  const copies = isSharded(b.sharing) ? b.members.length : 1;
  const copiesBack = isSharded(a.sharing) ? a.members.length : 1;
  const thereMs = microBatches * bytes * there.msPerByte;
  const backMs = microBatches * bytes * back.msPerByte;
  const rest = {
    roundMs: bytes * (there.msPerByte + back.msPerByte) + there.latencyMs + back.latencyMs,
    sentBytes: microBatches * bytes * (copies + copiesBack),
  };
  if (!tables.interfaced) {
    const links = copies > 1 ? a.members.length : Math.max(a.members.length, b.members.length);
    return { ...rest, occupiedMs: Math.max(thereMs, backMs) / links, upMs: 0, downMs: 0 };
  }
  const upMs = (thereMs * copies) / a.members.length;
  const downMs = (backMs * copiesBack) / a.members.length;
  // The stage behind sends gradients this way and activations the other.
  const outMs = (backMs * copiesBack) / b.members.length + next.upMs;
  const inMs = (thereMs * copies) / b.members.length + next.downMs;
  return { ...rest, occupiedMs: Math.max(upMs, downMs, outMs, inMs), upMs, downMs };
}

/** Keeps a suffix where no kept one is at least as good in everything, and the best of too many. */
function keep({ width, objective }: SearchSpace, kept: Suffix[], suffix: Suffix): void {
  const frugal = objective.of === "energy";
  const beats = (a: Suffix, b: Suffix) =>
    a.estimateMs <= b.estimateMs &&
    a.peakMs <= b.peakMs &&
    a.wayMs <= b.wayMs &&
    (!frugal || (a.joules <= b.joules && a.idleWatts <= b.idleWatts));
  if (kept.length === width && kept[width - 1]!.score <= suffix.score) return;
  for (const other of kept) if (beats(other, suffix)) return;
  for (let i = kept.length - 1; i >= 0; i--) if (beats(suffix, kept[i]!)) kept.splice(i, 1);
  let at = kept.length;
  while (at > 0 && kept[at - 1]!.score > suffix.score) at--;
  kept.splice(at, 0, suffix);
  if (kept.length > width) kept.pop();
}

function draftOf({ schedule, tables, codecs, localSteps }: SearchSpace, first: Suffix): Draft {
  const stages: DraftStage[] = [];
  const cuts: number[] = [];
  for (let at: Suffix | null = first; at; at = at.next) {
    const { sharing, recompute, members } = at.choice;
    const shared = members.length > 1 ? sharing : null;
    stages.push({ sharing: shared, members, dealt: null, shares: null, recompute });
    cuts.push(at.from);
  }
  const owners = stages.map((_, stage) => stage);
  return { schedule, stages, cuts: [...cuts, tables.segments.length], owners, codecs, localSteps };
}
