/**
 * What tells plans apart: a plan is made for a model cut in one way into micro-batches, and nobody else can carry it out.
 */

import type { SegmentCost } from "../cost.ts";
import type { PlanRequest } from "./options.ts";

/** Hexadecimal digits of a digest that are of the model and its micro-batches; the rest is of devices and options. */
const MODEL_DIGITS = 8;

/** 16 hexadecimal digits, half of them of the model and its micro-batches, half of devices and options. */
export function planDigest({ segments, devices, options }: PlanRequest): string {
  const rest = fnv(JSON.stringify([devices.map(({ id }) => id), options]));
  return modelDigest(segments, options.microBatches) + rest.slice(MODEL_DIGITS);
}

/** Of what a model's segments are, and not of what was measured of them. */
export function modelDigest(segments: readonly SegmentCost[], microBatches: number): string {
  const sizes = segments.map(({ name, parameterBytes, activationBytes }) => [
    ...[name, parameterBytes, activationBytes],
  ]);
  return fnv(JSON.stringify([sizes, microBatches])).slice(0, MODEL_DIGITS);
}

/** Whether a plan of this digest is for the model of these segments. */
export function isForModel(digest: string, segments: readonly SegmentCost[], microBatches: number): boolean {
  return digest.startsWith(modelDigest(segments, microBatches));
}

/** FNV-1a, 64 bits, over text, as 16 hexadecimal digits: tells inputs apart, protects against nobody. */
function fnv(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, "0");
}
