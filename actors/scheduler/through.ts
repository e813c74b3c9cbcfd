/**
 * Workers that are through with a step: what they have to say of it is known, and all that they had to send has arrived. Where
 * one of them is lost before the step is committed, nothing of it is missing: the others go on as if it were there, and what
 * it would have done from then on is dealt to them behind the commit.
 */

import { DeviceLost } from "../recovery/roster.ts";
import type { StepReport } from "../stage/spec.ts";
import { isShort } from "./dealt.ts";
import type { Placed } from "./handover.ts";
import type { Plan, PlanMember, Worker } from "./plan.ts";

/** What workers say of a step, by worker. */
type Reports = ReadonlyMap<number, StepReport>;

export class Through {
  /** Those that are gone, of a deployment that goes on as if they were there. */
  private readonly gone: Reports;
  private step: number;
  private readonly reports: Map<number, StepReport>;

  /** @param gone those that are, with what they have said of a step. */
  constructor(step = -1, gone: Reports = new Map()) {
    this.step = step;
    this.gone = gone;
    this.reports = new Map(gone);
  }

  /** Whether one is gone. */
  lacks(worker: number): boolean {
    return this.gone.has(worker);
  }

  get lacksAny(): boolean {
    return this.gone.size > 0;
  }

  /** What one that is gone has said of a step; undefined of one that is there, or of another step. */
  said(step: number, worker: number): StepReport | undefined {
    return step === this.step ? this.gone.get(worker) : undefined;
  }

  /** @throws DeviceLost for one that is gone. */
  requireThere(worker: number): void {
    if (this.gone.has(worker)) throw new DeviceLost("a device was lost when it was through with a step");
  }

  /** A worker is through with a step. */
  heard(step: number, worker: number, report: StepReport): StepReport {
    if (step !== this.step) this.reports.clear();
    this.step = step;
    this.reports.set(worker, report);
    return report;
  }

  /** Those that are through with a step. */
  with(step: number): Reports {
    return step === this.step ? this.reports : new Map();
  }
}

/**
 * Of those that are lost, whose part of the step under way has to be done again: of those that were not through with it; of
 * all others of their stages, whose members add up anew then; of whoever has had the same micro-batches in a stage next to
 * theirs, for what it sent is to be sent again; and where too few of its stage are left to do without it from then on.
 * @param lost device ids. @param through those of the devices that are through with it.
 */
export function unfinished(
  { stages }: Plan,
  lost: ReadonlySet<string>,
  through: ReadonlySet<string>,
): ReadonlySet<string> {
  const gone = stages.map(({ members }) => members.filter(({ device }) => lost.has(device)));
  // By stage, the micro-batches that are done again; undefined where none are.
  const again: (ReadonlySet<number> | undefined)[] = stages.map(() => undefined);
  const isAgain = ({ device, microBatches }: PlanMember, stage: number) => {
    const beside = [again[stage - 1], again[stage + 1]];
    return !through.has(device) || microBatches.some((each) => beside.some((others) => others?.has(each)));
  };
  for (let isFurther = true; isFurther; ) {
    isFurther = false;
    for (const [stage, members] of gone.entries()) {
      const isLeftOut = members.length === 0 || isShort(stages[stage]!, members.length);
      if (again[stage] || (isLeftOut && !members.some((member) => isAgain(member, stage)))) continue;
      again[stage] = new Set(members.flatMap(({ microBatches }) => microBatches));
      isFurther = true;
    }
  }
  return new Set(gone.flatMap((members, stage) => (again[stage] ? members.map(({ device }) => device) : [])));
}

/** Ids of the devices all of whose workers have said what there is to say of a step. */
export function devicesWith(workers: readonly Worker[], reports: Reports): ReadonlySet<string> {
  const devices = new Set(workers.map(({ member }) => member.device));
  for (const { worker, member } of workers) if (!reports.has(worker)) devices.delete(member.device);
  return devices;
}

/** Those that are gone, and stay in the next plan: as workers of that, what they have said. */
export function goneOf(
  placed: readonly Placed[],
  isAlive: (device: string) => boolean,
  reports: Reports,
  heirs: readonly (number | undefined)[],
): Reports {
  const gone = new Map<number, StepReport>();
  for (const { worker } of placed) {
    const [report, heir] = [reports.get(worker.worker), heirs[worker.worker]];
    if (report && heir !== undefined && !isAlive(worker.member.device)) gone.set(heir, report);
  }
  return gone;
}
