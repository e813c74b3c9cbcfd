/**
 * Plans as files: a plan is printed as JSON, may be edited, and is read back. Who edits makes mistakes, so everything is
 * checked here, in itself and against the run it is for; what comes out can be carried out as far as a plan can know.
 */

import { type Entry, type Fields, object, ReadError } from "./cluster-fields.ts";
import {
  type Plan,
  type PlanCodecs,
  type PlanCopies,
  type PlanDevice,
  type PlanMember,
  type PlanStage,
  type SegmentRange,
  SHARINGS,
  STRATEGIES,
} from "./plan.ts";
import { checkPlan } from "./plan-check.ts";
import { PlanError } from "./plan-error.ts";
import { SCHEDULES, type ScheduleName } from "./schedule.ts";

/** A plan as text, for a file. */
export function planText(plan: Plan): string {
  return `${JSON.stringify(plan, null, 2)}\n`;
}

/** @throws PlanError in one line that names what is wrong and where. */
export function readPlan(text: string): Plan {
  try {
    const plan = readFields(object(parse(text), "the plan"));
    checkPlan(plan);
    return plan;
  } catch (error) {
    if (error instanceof ReadError) throw new PlanError(error.message);
    throw error;
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ReadError(`the plan is not JSON: ${(error as Error).message}`);
  }
}

function readFields(fields: Fields): Plan {
  const plan: Plan = {
    digest: fields.text("digest"),
    strategy: name(fields, "strategy", STRATEGIES),
    schedule: name(fields, "schedule", Object.keys(SCHEDULES) as ScheduleName[]),
    microBatches: fields.count("microBatches"),
    stages: fields.list("stages").map(readStage),
    forwardOnly: whole(fields, "forwardOnly"),
    localSteps: fields.count("localSteps"),
    codecs: readCodecs(fields.optional("codecs")),
    devices: fields.list("devices").map(readDevice),
    ...readCopies(fields.optional("copies")),
    predictedStepMs: fields.number("predictedStepMs"),
    bubbleFraction: fields.number("bubbleFraction"),
    predictedJoules: nullable(fields, "predictedJoules", (own) => own.number("predictedJoules")),
  };
  fields.noMore();
  return plan;
}

function readStage({ value, where }: Entry): PlanStage {
  const fields = object(value, where);
  const stage: PlanStage = {
    stage: whole(fields, "stage"),
    ranges: fields.list("ranges").map(readRange),
    sharing: nullable(fields, "sharing", (own) => name(own, "sharing", SHARINGS)),
    members: fields.list("members").map(readMember),
    recompute: flag(fields, "recompute"),
  };
  fields.noMore();
  return stage;
}

function readRange({ value, where }: Entry): SegmentRange {
  const fields = object(value, where);
  const range = { from: whole(fields, "from"), to: whole(fields, "to") };
  fields.noMore();
  return range;
}

function readMember({ value, where }: Entry): PlanMember {
  const fields = object(value, where);
  const member: PlanMember = {
    device: fields.text("device"),
    deviceName: fields.text("deviceName"),
    share: fields.positive("share"),
    microBatches: fields.list("microBatches").map((entry) => {
      if (Number.isSafeInteger(entry.value) && Number(entry.value) >= 0) return Number(entry.value);
      throw new ReadError(
        `${entry.where} is ${JSON.stringify(entry.value)}, a whole number from 0 up is needed`,
      );
    }),
    forwardMs: fields.number("forwardMs"),
    backwardMs: fields.number("backwardMs"),
    parameterBytes: fields.number("parameterBytes"),
    memoryBytes: fields.number("memoryBytes"),
  };
  fields.noMore();
  return member;
}

function readDevice({ value, where }: Entry): PlanDevice {
  const fields = object(value, where);
  const copies = fields.optional("copyBytes");
  const device = {
    ...{ id: fields.text("id"), name: fields.text("name") },
    ...{ used: flag(fields, "used"), reason: fields.text("reason") },
    ...(copies && { copyBytes: fields.number("copyBytes") }),
  };
  fields.noMore();
  return device;
}

function readCopies(entry: Entry | undefined): { readonly copies?: PlanCopies } {
  if (!entry) return {};
  const fields = object(entry.value, entry.where);
  const copies = {
    ...{ asked: whole(fields, "asked"), count: whole(fields, "count"), every: fields.count("every") },
    why: nullable(fields, "why", (own) => own.text("why")),
  };
  fields.noMore();
  return { copies };
}

function readCodecs(entry: Entry | undefined): PlanCodecs {
  if (!entry) return { activations: null, gradients: null };
  const fields = object(entry.value, entry.where);
  const codecs = {
    activations: nullable(fields, "activations", (own) => own.text("activations")),
    gradients: nullable(fields, "gradients", (own) => own.text("gradients")),
  };
  fields.noMore();
  return codecs;
}

function name<T extends string>(fields: Fields, field: string, names: readonly T[]): T {
  const given = fields.text(field);
  const found = names.find((known) => known === given);
  if (found) return found;
  throw new ReadError(`${fields.where}: ${field} is "${given}", known are ${names.join(", ")}`);
}

/** From 0 up. */
function whole(fields: Fields, field: string): number {
  const given = fields.number(field);
  if (Number.isSafeInteger(given)) return given;
  throw new ReadError(`${fields.where}: ${field} is ${given}, a whole number is needed`);
}

function flag(fields: Fields, field: string): boolean {
  const given = fields.optional(field);
  if (typeof given?.value === "boolean") return given.value;
  throw new ReadError(
    `${fields.where}: ${field} is ${JSON.stringify(given?.value)}, true or false is needed`,
  );
}

function nullable<T>(fields: Fields, field: string, read: (fields: Fields) => T): T | null {
  const entry = fields.optional(field);
  return entry === undefined || entry.value === null ? null : read(fields);
}
