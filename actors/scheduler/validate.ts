/**
 * Whether programs can be carried out, decided before anything is deployed.
 *
 * Two kinds of proof. Counting: every chunk is held by one stage; each of its micro-batches is taken by one worker, or by
 * all of them together, and goes forward and backward there exactly once, in the order that keeps gradients bit-identical;
 * everything that crosses from stage to stage is sent once, by whoever speaks for it, and received by all who listen; sums
 * over members come once, behind what they are of. Running: the programs are executed without time, which finds
 * deadlocks.
 */

import type { StageProgram } from "./program.ts";
import { checkDeadlock } from "./validate/deadlock.ts";
import { checkGradients, checkUpdates } from "./validate/gradients.ts";
import { checkMicroBatches } from "./validate/micro-batches.ts";
import { placesOf } from "./validate/places.ts";

/**
 * Proves programs complete and free of deadlock.
 * @throws ProgramError naming the worker and the operation at fault.
 */
export function validatePrograms(programs: readonly StageProgram[]): void {
  const places = placesOf(programs);
  for (const stage of places.stages) {
    for (const program of stage.workers) checkMicroBatches(program, stage, places);
    checkGradients(stage, places);
  }
  checkUpdates(places);
  checkDeadlock(programs, places);
}
