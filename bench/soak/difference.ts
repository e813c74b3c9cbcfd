/** In what a run has come to something else than another one: where to look first. */

import { readCheckpoint } from "../../actors/checkpoint.ts";
import { files } from "../../runtime/platform/files.ts";

/** @param folder of a checkpoint. @returns in words. @throws CheckpointError when one of them cannot be read. */
export async function differenceOf(folder: string, other: string): Promise<string> {
  const [own, expected] = await Promise.all([folder, other].map((place) => readCheckpoint(files, place)));
  const apart: string[] = [];
  let most = 0;
  for (const [name, tensor] of expected!.parameters) {
    const [values, others] = [tensor.f32(), own!.parameters.get(name)!.f32()];
    const difference = values.reduce((max, value, i) => Math.max(max, Math.abs(value - others[i]!)), 0);
    if (difference > 0) apart.push(name);
    most = Math.max(most, difference);
  }
  const steps = own!.step === expected!.step ? "" : `, after ${own!.step} and ${expected!.step} steps`;
  return `${apart.length} of ${expected!.parameters.size} parameters differ, by ${most.toPrecision(2)} at most${steps}: ${apart.join(" ")}`;
}
