/**
 * From one deployment of a run to the next. A worker that the next plan has as it is, on the same device, made from the very
 * same, stays: its stage goes on in the next generation with what it has compiled and holds, and nothing is moved. So does
 * one whose stage has the same part of the model, and other micro-batches or other members: it is told whose they are. The
 * others end: their engines' memory is given back, and copies of what they held remain.
 *
 * Where all that are there stay, in the middle of the step behind the one that the run goes back to, and those that are not
 * are replaced by the same, that step is not begun again: who is new carries out its own part, gets from the others what
 * those have sent already, and the others go on from where they are. So they do where copies are of an earlier step than all
 * have committed, if they have what they sent since: who is new makes the steps in between by itself (`catching-up.ts`). And
 * so they do where those that are not there are replaced by nobody, and the others of their stages have their micro-batches
 * (`dealt.ts`).
 */

import { sameBytes } from "../../nn/passes/rewrite.ts";
import type { Ref } from "../../runtime/index.ts";
import { BegunAgain } from "../recovery/roster.ts";
import {
  dealingOf,
  dealtAs,
  type Resumed,
  type StageHoldings,
  type StageSpec,
  type StepReport,
  updatesInPasses,
} from "../stage/spec.ts";
import type { Stage } from "../stage.ts";
import { isAlike } from "./alike.ts";
import type { Commits } from "./catching-up.ts";
import type { Worker } from "./plan.ts";
import { takeIn } from "./prepared.ts";
import { isOfMicroBatch } from "./program.ts";
import type { SpecOptions } from "./specs.ts";
import { goneOf } from "./through.ts";

export interface DeployOptions extends SpecOptions {
  /** Whether another deployment is to follow, which may have the same stages: nothing more is asked of them for this one. */
  readonly isOver: () => boolean;
}

/** A deployment that another one follows is asked for something. */
export class DeploymentOver extends Error {
  readonly code = "DEPLOYMENT_OVER";
  override readonly name = "DeploymentOver";

  constructor(generation: number) {
    super(`generation ${generation} is over: another one has begun`);
  }
}

/** A worker of a plan that runs, and what its stage is and holds. */
export interface Placed {
  readonly worker: Worker;
  readonly spec: StageSpec;
  /** What copies of it are known by: it keeps that as long as its stage runs. */
  readonly name: string;
  readonly stage: Ref<Stage>;
  readonly holdings: StageHoldings;
  /** Of a run that it goes on with: nothing yet, what training does not change, or all of it. */
  readonly has: "nothing" | "fixed" | "all";
}

/** A deployment that another one follows. */
export interface Before {
  readonly placed: readonly Placed[];
  /** By device id. */
  readonly isAlive: (device: string) => boolean;
  /** That the run goes back to; null where nobody has copies of one: then nothing stays, for all begins as it once did. */
  readonly step: number | null;
  /** The last that all have committed. */
  readonly reached: number | null;
  readonly commits: Commits;
  /** Whether a step is under way. Where none is, all that can be lost of one is a validation pass. */
  readonly midway: boolean;
  /** What those workers have said that are through with the step under way. */
  readonly through: ReadonlyMap<number, StepReport>;
  /** Stages that were made ready for what follows. */
  readonly prepared?: readonly Placed[];
}

/** What has become of a deployment. */
export interface HandedOver {
  /** By worker. */
  readonly staying: ReadonlyMap<number, Placed>;
  /** Whether the step that was under way goes on where it is. */
  readonly goesOn: boolean;
  /** Whether one was. */
  readonly busy: boolean;
  /** So many steps whoever is new has to make before it is where the others are. */
  readonly behind: number;
  /** Operations of that step which others do now in place of those that are lost, if it was under way. */
  readonly dealt: number;
  /** Those that go on by themselves, as soon as they have come to rest: by worker, what has become of them. */
  readonly resuming?: ReadonlyMap<number, Promise<Resumed>>;
  /** Those that are gone and were through with that step: what they have said of it. */
  readonly gone?: ReadonlyMap<number, StepReport>;
}

/** Whether a stage that was made from one can go on as what is made from the other: all but the generation is the same. */
export function isSame(a: StageSpec, b: StageSpec): boolean {
  const { generation: _, chunks: own, ...rest } = a;
  const { generation: __, chunks: others, ...other } = b;
  if (own.length !== others.length || !isAlike(rest, other)) return false;
  return own.every(({ graph, ...chunk }, i) => {
    const { graph: otherGraph, ...otherChunk } = others[i]!;
    return isAlike(chunk, otherChunk) && isSameGraph(graph.bytes, otherGraph.bytes);
  });
}

/** Graphs that have been found to be the same: all members of a stage have one. */
const known = new WeakMap<Uint8Array, WeakSet<Uint8Array>>();

function isSameGraph(a: Uint8Array, b: Uint8Array): boolean {
  if (a === b || known.get(a)?.has(b)) return true;
  if (!sameBytes(a, b)) return false;
  known.set(a, (known.get(a) ?? new WeakSet()).add(b));
  return true;
}

/** As `isSame`, once it has been told who has which micro-batches: it has compiled the same, and holds the same. */
export function isSameButDealt(a: StageSpec, b: StageSpec): boolean {
  const isWhole = ({ group }: StageSpec) => group.sharing === null || group.sharing === "data";
  const { positions } = a.program;
  if (!isWhole(a) || !isWhole(b) || positions.join() !== b.program.positions.join()) return false;
  return isSame(dealtAs(a, b), b);
}

/** Stages that were told to give back what they hold, for a deployment that was broken off then: they cannot go on. */
const retired = new WeakSet<Ref<Stage>>();

/**
 * Ends what is under way, and whatever does not stay.
 * @param workers of the next plan, and what they are made from.
 * @throws DeploymentOver where another one is to follow meanwhile.
 */
export async function handOver(
  before: Before,
  options: DeployOptions,
  workers: readonly Worker[],
  specs: readonly StageSpec[],
): Promise<HandedOver> {
  const { placed, isAlive, step } = before;
  const { generation, isOver } = options;
  const staying = new Map<number, Placed>();
  const midway = new Set<number>();
  let busy = false;
  const same = sameOf(placed, specs);
  const isSamePlan = specs.length === placed.length && same.every(Boolean);
  const heirs = heirsOf(placed, same, workers, specs);
  const living = placed.filter(({ worker }) => isAlive(worker.member.device));
  if (isOver()) throw new DeploymentOver(generation);
  const gone = goneOf(placed, isAlive, before.through, heirs);
  if (isLeftOut(placed, living, gone.size, heirs, specs)) {
    const dealt = goOnDealt(before, living, gone, options, { heirs, workers, specs });
    if (dealt) return dealt;
  }
  if (gone.size > 0) throw new BegunAgain();
  // One that is lost meanwhile is found out by whoever watches devices.
  await Promise.all(living.map(({ stage }) => stage.ask.abandon().catch(() => {})));
  if (isSamePlan && living.every(({ worker }) => heirs[worker.worker] === worker.worker)) {
    const carried = await carryOn(before, living, options, workers);
    if (carried) return carried;
  }
  await Promise.all(
    living.map(async (old) => {
      const { stage, holdings, name } = old;
      const place = old.worker.worker;
      if (isOver()) return;
      const worker = workers[heirs[place] ?? -1];
      if (step !== null && worker) {
        const spec = specs[worker.worker]!;
        // One of a move that was broken off may have been told another dealing than it had.
        const resumed = await stage.ask.resume(generation, step, dealingOf(spec)).catch(() => null);
        if (resumed) {
          const has = resumed.holds ? "all" : "fixed";
          staying.set(worker.worker, { worker, spec, name, stage, holdings, has });
          if (resumed.midway) midway.add(worker.worker);
          busy ||= resumed.busy;
          return;
        }
        if (isOver()) return;
      }
      retired.add(stage);
      await stage.ask.retire().catch(() => {});
    }),
  );
  if (step !== null && before.prepared && !isOver()) {
    const lacking = workers.filter(({ worker }) => !staying.has(worker));
    const taken = await takeIn(before.prepared, options, step, lacking, specs);
    for (const [worker, each] of taken) staying.set(worker, each);
  }
  if (isOver()) throw new DeploymentOver(generation);
  const goesOn =
    isSamePlan &&
    busy &&
    placed.every(({ worker }) => midway.has(worker.worker) || !isAlive(worker.member.device));
  return { staying, goesOn, busy, behind: 0, dealt: 0 };
}

/** Whether the next workers are those that live, and so many that are gone, and could go on in the middle of a step. */
function isLeftOut(
  placed: readonly Placed[],
  living: readonly Placed[],
  gone: number,
  heirs: readonly (number | undefined)[],
  specs: readonly StageSpec[],
): boolean {
  return (
    living.length < placed.length &&
    specs.length === living.length + gone &&
    placed.every(({ spec }) => spec.keepsSummands) &&
    living.every(({ stage }) => !retired.has(stage)) &&
    living.every(({ worker }) => heirs[worker.worker] !== undefined)
  );
}

/**
 * All that live go on behind the last step that all have committed, with the micro-batches of those that are lost: nobody is
 * new, so it does not matter of which step there are copies. Each does so by itself once it is told, and waits for others
 * where it needs something of theirs. Whether they can is heard later: where one cannot, all are resumed in a further
 * generation.
 */
function goOnDealt(
  { placed, step, reached, midway }: Before,
  living: readonly Placed[],
  gone: ReadonlyMap<number, StepReport>,
  { generation }: DeployOptions,
  next: {
    readonly heirs: readonly (number | undefined)[];
    readonly workers: readonly Worker[];
    readonly specs: readonly StageSpec[];
  },
): HandedOver | null {
  if (step === null) return null;
  const behind = Math.max(step, reached ?? step);
  const kept = new Set([...gone.keys()].map((heir) => next.heirs.indexOf(heir)));
  const lost = placed.filter((each, place) => !living.includes(each) && !kept.has(place));
  const staying = new Map<number, Placed>();
  const resuming = new Map<number, Promise<Resumed>>();
  for (const place of kept) {
    const heir = next.heirs[place]!;
    staying.set(heir, {
      ...placed[place]!,
      worker: next.workers[heir]!,
      spec: next.specs[heir]!,
      has: "all",
    });
  }
  // Telling all takes its time: those first who have more to do, and whom others will wait for.
  const short = new Set(lost.map(({ worker }) => worker.stage.stage));
  const [others, first] = [false, true].map((isShort) =>
    living.filter(({ worker }) => short.has(worker.stage.stage) === isShort),
  );
  for (const old of [...first!, ...others!]) {
    const heir = next.heirs[old.worker.worker]!;
    const [worker, spec] = [next.workers[heir]!, next.specs[heir]!];
    const { ask } = old.stage;
    ask.abandon().catch(() => {});
    const since = midway ? old.spec.generation : null;
    resuming.set(heir, ask.resume(generation, behind, dealingOf(spec), since));
    staying.set(heir, { ...old, worker, spec, has: "all" });
  }
  const operations = lost.flatMap(({ spec }) => spec.program.operations.filter(isOfMicroBatch));
  return {
    ...{ staying, resuming, gone, goesOn: midway, busy: false },
    ...{ behind: behind - step, dealt: operations.length },
  };
}

/**
 * Leaves all that live behind the last step that all have committed, though copies are of an earlier one. Not where members
 * train on their own: what they give each other when they meet is not kept.
 * @returns null where one of them cannot: then all can be resumed.
 */
async function carryOn(
  { placed, step, reached, commits }: Before,
  living: readonly Placed[],
  { generation, isOver }: DeployOptions,
  workers: readonly Worker[],
): Promise<HandedOver | null> {
  if (step === null || reached === null || reached <= step || !commits.cover(step, reached)) return null;
  const isKept = ({ spec }: Placed) => spec.keepsSent && spec.group.sharing !== "local";
  if (isOver() || living.length === 0 || !placed.every(isKept)) return null;
  const carried = await Promise.all(
    living.map(({ stage, spec }) =>
      stage.ask.carryOn(generation, reached, step, dealingOf(spec)).catch(() => null),
    ),
  );
  if (!carried.every((each) => each !== null)) return null;
  const staying = new Map<number, Placed>();
  for (const old of living) {
    const { worker } = old.worker;
    staying.set(worker, { ...old, worker: workers[worker]!, has: "all" });
  }
  return { staying, goesOn: true, busy: carried.some((each) => each.busy), behind: reached - step, dealt: 0 };
}

/**
 * How many operations of a deployment's programs are carried out again, which has followed another one.
 * @param fresh those of its workers whose stages were started for it. @param steps that had been committed and are made again.
 */
export function repeatedIn(
  { goesOn, behind, dealt, busy }: Pick<HandedOver, "goesOn" | "behind" | "dealt" | "busy">,
  { placed, fresh }: { readonly placed: readonly Placed[]; readonly fresh: readonly Placed[] },
  steps: number,
): number {
  const count = (all: readonly Placed[]) =>
    all.reduce((sum, { spec }) => sum + spec.program.operations.length, 0);
  const now = Number(busy);
  return goesOn ? count(fresh) * (behind + now) + now * dealt : count(placed) * (steps + now);
}

/** Workers that no stage of those that run can go on as. */
export function lackingOf(
  placed: readonly Placed[],
  workers: readonly Worker[],
  specs: readonly StageSpec[],
): readonly Worker[] {
  const heirs = new Set(heirsOf(placed, sameOf(placed, specs), workers, specs));
  return workers.filter(({ worker }) => !heirs.has(worker));
}

/** By place, whether the worker that has it is made from the same. */
function sameOf(placed: readonly Placed[], specs: readonly StageSpec[]): boolean[] {
  return placed.map(({ spec }, worker) => specs[worker] !== undefined && isSame(spec, specs[worker]));
}

/**
 * The worker that each can go on as, by place; undefined where there is none. Of asynchronous updates more is kept than what
 * is known of: weights of passes that are under way.
 */
function heirsOf(
  placed: readonly Placed[],
  same: readonly boolean[],
  workers: readonly Worker[],
  specs: readonly StageSpec[],
): (number | undefined)[] {
  const deviceOf = (worker: number) => workers[worker]!.member.device;
  const canStay = ({ spec }: Placed) => !updatesInPasses(spec.program);
  const heirs = placed.map((old, place) => {
    const isHere = same[place] && deviceOf(place) === old.worker.member.device;
    return isHere && canStay(old) ? place : undefined;
  });
  const taken = new Set(heirs);
  const places = Map.groupBy(specs.keys(), deviceOf);
  for (const [place, old] of placed.entries()) {
    if (heirs[place] !== undefined || !canStay(old)) continue;
    const own = places.get(old.worker.member.device) ?? [];
    const heir = own.find((worker) => !taken.has(worker) && isSameButDealt(old.spec, specs[worker]!));
    if (heir === undefined) continue;
    heirs[place] = heir;
    taken.add(heir);
  }
  return heirs;
}
