/** A plan in words for people: what it is called, who holds what of it, and what is not as on one device. */

import { isSharded, type Plan, type Worker, workersOf } from "../actors/scheduler/plan.ts";
import { isAsynchronous } from "../actors/scheduler/schedule.ts";
import { type ChurnOutlook, PAUSE_MS } from "../actors/scheduler/simulate/outlook.ts";
import type { CopiesTold } from "../actors/train-events.ts";
import { list } from "./options.ts";
import { bytes, type Column, count, percent } from "./terminal.ts";

/** `single device`, `data on 3 devices`, `pipeline of 3, 1f1b`, `hybrid of 2 stages on 5 devices, gpipe`. */
export function planTitle(plan: Plan): string {
  const { strategy, schedule, stages, localSteps } = plan;
  const devices = new Set(workersOf(plan).map(({ member }) => member.device)).size;
  const meets = localSteps > 1 ? `, meeting every ${localSteps} steps` : "";
  if (stages.length > 1) {
    const of = strategy === "pipeline" ? `${stages.length}` : `${stages.length} stages on ${devices} devices`;
    return `${strategy} of ${of}, ${schedule}`;
  }
  const name = devices === 1 ? "single device" : `${strategy} on ${devices} devices`;
  return name + meets + (isAsynchronous(schedule) ? `, ${schedule}` : "");
}

/** What a plan comes to: one of one stage may be called a pipeline, as it was asked for. */
export function strategyOf(plan: Plan): string {
  return workersOf(plan).length === 1 ? "single" : plan.strategy;
}

/**
 * That a plan is of another strategy than somebody asked for, in a line: few devices, or slow lines, make it no pipeline, and
 * a hybrid may have one stage. Null where it is what was asked for.
 * @param asked undefined where nobody asked for any.
 */
export function otherStrategy(plan: Plan, asked: string | undefined): string | null {
  if (asked === undefined || asked === "auto" || asked === strategyOf(plan)) return null;
  return `--strategy ${asked} was asked for: the best plan that was found for these devices is ${planTitle(plan)}`;
}

/** What makes the result another than one device's, a line each. */
export function caveats(plan: Plan): string[] {
  const { schedule, stages, codecs, microBatches } = plan;
  const why: string[] = [];
  if (stages.some(({ sharing }) => sharing === "local")) {
    why.push("local: devices train weights of their own between meetings");
  }
  if (isAsynchronous(schedule) && microBatches > 1) {
    why.push(`${schedule}: weights change after every micro-batch, not once a step`);
  }
  const coded = [
    ...(codecs.activations ? [`activations as ${codecs.activations}`] : []),
    ...(codecs.gradients ? [`gradients as ${codecs.gradients}`] : []),
  ];
  if (coded.length > 0) why.push(`on the wire: ${coded.join(", ")}`);
  return why.map((what) => `${what}; the result is not that of one device`);
}

/** What the plan says of copies, in a line; null where nobody asked for any. */
export function copyNote({ copies }: Plan): string | null {
  if (!copies) return null;
  const { asked, count, every, why } = copies;
  const lost = asked === 1 ? "a device that is lost" : `${asked} devices that are lost at once`;
  if (count === 0) return `no copies: ${why}; ${lost} will take the run back to its last checkpoint`;
  const often = every === 1 ? "after every step" : `after every ${every} steps, as lines have time for them`;
  const kept = `copies of each stage on ${count === 1 ? "another device" : `${count} others`} ${often}`;
  return why === null ? kept : `${kept}, not on ${asked}: ${why}`;
}

/** What copies have cost a run, in a line. */
export function copiesNote({ points, every, bytes: given, cost }: CopiesTold): string {
  const often = every === 1 ? "after every step" : `after every ${every} steps`;
  const costs =
    cost === null
      ? "steps are too few, or differ too much, to say what they cost"
      : `${percent(cost)} of the time, as measured`;
  return `${often}, ${points} so far with ${bytes(given)} to others: ${costs}`;
}

/** What devices that come and go mean for a plan, a line each. */
export function churnNotes(outlook: ChurnOutlook): string[] {
  const { lossesPerHour, present, stated, again, stepsBack, goodput } = outlook;
  const notes: string[] = [];
  if (lossesPerHour > 0) {
    const steps = +stepsBack.toFixed(1);
    const before = again === "part" ? ` and of ${steps} before it` : ` and goes back ${steps} steps`;
    const repeats =
      again === "part"
        ? "and whoever takes the lost place does its part of the step under way again"
        : "repeats the step that is under way";
    notes.push(
      `churn: losses expected in an hour: ${+lossesPerHour.toPrecision(3)}; with each the run stands still for some ` +
        `${PAUSE_MS / 1000} s, ${repeats}${stepsBack > 0 ? before : ""}: ${percent(goodput)} of its time counts`,
    );
    notes.push(
      present === null
        ? "churn: devices that leave do not come back, and steps take longer with each"
        : `churn: a device is there ${percent(present)} of the time, and steps take longer for the rest of it`,
    );
  }
  if (stated > 0) {
    notes.push(`churn: devices of the plan that leave at times that the cluster file states: ${stated}`);
  }
  return notes;
}

/** Who does what, in a line: `device-1 stage 1, device-3 stages 2 and 3`; where there is one stage, what part of it. */
export function whoDoesWhat(plan: Plan): string {
  const workers = workersOf(plan);
  const devices = Map.groupBy(workers, ({ member }) => member.device);
  const [first] = plan.stages;
  const what = (own: readonly Worker[]) => {
    if (plan.stages.length > 1) {
      const stages = [...new Set(own.map(({ stage }) => stage.stage + 1))];
      return `${stages.length === 1 ? "stage" : "stages"} ${list(stages.map(String))}`;
    }
    if (workers.length === 1) return "all";
    if (isSharded(first!.sharing)) return `${own.length} of ${workers.length} parts`;
    const taken = own.reduce((sum, { member }) => sum + member.microBatches.length, 0);
    return `${taken} of ${plan.microBatches} micro-batches`;
  };
  return [...devices.values()].map((own) => `${own[0]!.member.deviceName} ${what(own)}`).join(", ");
}

/** Of a move so many parts are said. */
const MOST_MOVES = 4;

/** What another plan gives to whom, in a line: `segments 2-3 from device-1 to device-2`; null where it is the same. */
export function whatMoves(from: Plan, to: Plan): string | null {
  const [before, after] = [from, to].map(holders) as [string[], string[]];
  const moves: { first: number; last: number; from: string; to: string }[] = [];
  for (const [segment, next] of after.entries()) {
    const old = before[segment] ?? "nobody";
    if (old === next) continue;
    const open = moves.at(-1);
    if (open?.last === segment - 1 && open.from === old && open.to === next) open.last = segment;
    else moves.push({ first: segment, last: segment, from: old, to: next });
  }
  if (moves.length === 0) return null;
  const said = moves.slice(0, MOST_MOVES).map(({ first, last, ...ends }) => {
    const what = first === last ? `segment ${first}` : `segments ${first}-${last}`;
    return `${what} from ${ends.from} to ${ends.to}`;
  });
  return said.join(", ") + (moves.length > MOST_MOVES ? ` and ${moves.length - MOST_MOVES} more` : "");
}

/** By segment, the names of the devices that hold it. */
function holders({ stages }: Plan): string[] {
  const found: string[] = [];
  for (const { ranges, members } of stages) {
    const names = list([...new Set(members.map(({ deviceName }) => deviceName))].sort());
    for (const { from, to } of ranges) for (let i = from; i < to; i++) found[i] = names;
  }
  return found;
}

export interface TableOptions {
  /** Memory that each device has, by id, where that is known. */
  readonly limits?: ReadonlyMap<string, number | undefined>;
  /** So many devices are listed, those first that are used. */
  readonly most?: number;
}

/** One row for each device, for `table`; columns that would say nothing are left out. */
export function planTable(plan: Plan, { limits, most = Number.POSITIVE_INFINITY }: TableOptions = {}) {
  const ofDevice = Map.groupBy(workersOf(plan), ({ member }) => member.device);
  const shared = plan.stages.some(({ members }) => members.length > 1);
  const cells: readonly (readonly [string, (worker: Worker) => string])[] = [
    ...(shared && plan.stages.length > 1
      ? [["stage", ({ stage }: Worker) => `${stage.stage + 1}`] as const]
      : []),
    [
      "segments",
      ({ stage }) =>
        stage.ranges.map(({ from, to }) => (to - from === 1 ? `${from}` : `${from}-${to - 1}`)).join(" "),
    ],
    ...(shared ? [["share", shareOf] as const] : []),
    ["parameters", ({ member }) => count(member.parameterBytes / 4)],
    ["micro-batch", ({ member }) => `${(member.forwardMs + member.backwardMs).toFixed(1)} ms`],
    [
      "memory",
      ({ member }) => {
        const limit = limits?.get(member.device);
        return bytes(member.memoryBytes) + (limit === undefined ? "" : ` of ${bytes(limit)}`);
      },
    ],
  ];
  const copied = plan.devices.some(({ copyBytes }) => copyBytes);
  const place = ({ id }: { readonly id: string }) =>
    ofDevice.get(id)?.at(0)?.worker ?? Number.POSITIVE_INFINITY;
  // Of those that are not used, none is before another.
  const devices = [...plan.devices].sort((a, b) => (place(a) === place(b) ? 0 : place(a) - place(b)));
  const rows = devices.slice(0, most).map(({ id, name, reason, copyBytes }) => {
    const workers = ofDevice.get(id);
    const own = cells.map(([, cell]) => workers?.map(cell).join(" + ") ?? "-");
    return [name, ...own, ...(copied ? [copyBytes ? bytes(copyBytes) : "-"] : []), reason];
  });
  const titles = ["device", ...cells.map(([title]) => title), ...(copied ? ["copies"] : []), "reason"];
  const columns = titles.map((title, i): Column => {
    return { title, align: i === 0 || i === titles.length - 1 ? "left" : "right" };
  });
  return { columns, rows, more: devices.length - rows.length };
}

/** `all`, `data 3 of 4` micro-batches, `tensor 62 %` of what is in a layer. */
function shareOf({ member, stage }: Worker): string {
  const { sharing, members } = stage;
  if (members.length === 1) return "all";
  const total = members.reduce((sum, { share }) => sum + share, 0);
  return isSharded(sharing)
    ? `${sharing} ${percent(member.share / total)}`
    : `${sharing} ${member.microBatches.length} of ${total}`;
}
