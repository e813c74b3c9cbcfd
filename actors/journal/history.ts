/**
 * What a journal's records come to: how far the last run in it has got, and what it can go on from. Pure. Every fact is in
 * one record, so that of damaged ones nothing is missing but what they said; the last word on something holds.
 */

import type { Plan } from "../scheduler/plan.ts";
import type { DevicePlace, JournalRecord } from "./journal.ts";

export interface RunHistory {
  /** Its name, unlike those of others. */
  readonly run: string;
  readonly settings: Readonly<Record<string, unknown>>;
  /** The last plan that it went by, as which generation, and whose devices are where; null before the first. */
  readonly planned: {
    readonly plan: Plan;
    readonly generation: number;
    readonly devices: readonly DevicePlace[];
  } | null;
  /** The last step that is committed or was about to be, counted from 0; null before the first. */
  readonly step: number | null;
  /** By step, from 0. */
  readonly losses: ReadonlyMap<number, number>;
  /** By the number of steps before it. */
  readonly validations: ReadonlyMap<number, number>;
  /** The last recovery point that was complete, and who had copies of which worker; null where none was. */
  readonly point: {
    readonly step: number;
    readonly copies: Readonly<Record<string, readonly string[]>>;
  } | null;
  /** The last one: after how many steps, where, and its weights; null where there is none. */
  readonly checkpoint: { readonly step: number; readonly path: string; readonly weights: string } | null;
  readonly done: boolean;
}

/** The last run's; null where there is none. */
export function historyOf(records: readonly JournalRecord[]): RunHistory | null {
  const begin = records.findLastIndex(({ kind }) => kind === "run");
  const [first, ...rest] = begin < 0 ? [] : records.slice(begin);
  if (first?.kind !== "run") return null;
  const losses = new Map<number, number>();
  const validations = new Map<number, number>();
  let planned: RunHistory["planned"] = null;
  let step: number | null = null;
  let point: RunHistory["point"] = null;
  let checkpoint: RunHistory["checkpoint"] = null;
  let done = false;
  for (const record of rest) {
    switch (record.kind) {
      case "plan":
        planned = record;
        break;
      case "step":
        step = Math.max(step ?? 0, record.step);
        losses.set(record.step, record.loss);
        break;
      case "validation":
        validations.set(record.step, record.loss);
        break;
      case "point":
        point = record;
        break;
      case "checkpoint":
        checkpoint = record;
        break;
      case "done":
        done = true;
    }
  }
  const { run, settings } = first;
  return { run, settings, planned, step, losses, validations, point, checkpoint, done };
}
