/** Why there is no plan: a model that fits nowhere, by how much, and what would help; or nothing for two to share. */

import { PlanError } from "../plan-error.ts";
import { residentBytes } from "./draft.ts";
import type { CheckedOptions, PlanRequest } from "./options.ts";

/** The error for a strategy that no draft can carry out, most often for want of room. */
export function unfit(request: PlanRequest, { strategy }: CheckedOptions): PlanError {
  const { segments, devices, options } = request;
  const chunks = LEAST_CHUNKS * devices.length;
  if (options.schedule === "interleaved" && devices.length > 1 && segments.length < chunks) {
    return new PlanError(
      `schedule interleaved on ${devices.length} devices needs ${chunks} segments at least, ${LEAST_CHUNKS} for each device, ` +
        `and the model has ${segments.length}: use fewer devices, or another schedule`,
    );
  }
  const held = segments.reduce((sum, segment) => sum + residentBytes(segment), 0);
  const stash = segments.reduce((sum, segment) => sum + segment.stashBytes, 0);
  const working = segments.reduce((most, segment) => Math.max(most, segment.workingBytes ?? 0), 0);
  const limits = devices.map(({ memoryBytes = Number.POSITIVE_INFINITY }) => memoryBytes);
  const whole = held + stash + working;
  const alone = strategy !== "auto" && strategy !== "hybrid" && strategy !== "pipeline";
  // Where every device has the whole of the model, only the largest counts; else they add up.
  const room = alone ? Math.max(...limits) : limits.reduce((a, b) => a + b, 0);
  const names = devices.slice(0, MOST_NAMED).map(({ name }, i) => `${name} ${mebibytes(limits[i]!)}`);
  if (devices.length > MOST_NAMED) names.push(`${devices.length - MOST_NAMED} more`);
  if (alone && strategy !== "single" && limits.filter((limit) => limit >= whole).length > 1) {
    return new PlanError(
      `no plan of strategy ${strategy} has work for two of the devices: use strategy auto, which leaves devices out`,
    );
  }
  const missing =
    whole > room
      ? `${mebibytes(whole - room)} are missing`
      : "together they have enough, but no cut of it into stages fits each";
  return new PlanError(
    `the model needs about ${mebibytes(whole)} (${mebibytes(held)} of parameters, gradients and optimiser, ` +
      `${mebibytes(stash)} of activations for a micro-batch) and does not fit the devices (${names.join(", ")}) ` +
      `with strategy ${strategy}: ${missing}; ${advice(stash, held, room, alone, options)}`,
  );
}

const MOST_NAMED = 8;
/** An interleaved pipeline has so many chunks on each device at least. */
const LEAST_CHUNKS = 2;

function advice(
  stash: number,
  held: number,
  room: number,
  alone: boolean,
  { recompute, microBatches }: PlanRequest["options"],
): string {
  const help: string[] = [];
  if (alone) help.push("strategy auto, which divides the model,");
  if (stash > held / 4 && recompute === false) help.push("recomputation");
  if (held < room) help.push(`more than ${microBatches} micro-batches (smaller ones)`);
  help.push(held < room ? "more devices" : "more devices, or an optimiser that keeps less");
  return `what would help: ${help.join(" or ")}`;
}

function mebibytes(bytes: number): string {
  return Number.isFinite(bytes) ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : "without limit";
}
