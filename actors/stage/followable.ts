/** How others make the updates of a stage's chunks, where they can. */

import { byteLength } from "../../protocols/tensor.ts";
import type { Followable } from "../recovery/updates.ts";
import type { StageProgram } from "../scheduler/program.ts";
import type { Chunk } from "./chunk.ts";
import { updatesInPasses } from "./spec.ts";

/**
 * Null where what a step leaves is more than one update by its gradients makes of what it began with: each micro-batch is an
 * update, passes move statistics, members become one again now and then.
 */
export function followable(chunks: readonly Chunk[], program: StageProgram): Followable | null {
  if (updatesInPasses(program)) return null;
  const recipe = chunks.flatMap(({ executor }) => executor.followed() ?? []);
  if (recipe.length < chunks.length) return null;
  const parameters = recipe.flatMap((followed) => followed.parameters);
  return {
    recipe,
    bytes: parameters.reduce((sum, { dtype, shape }) => sum + byteLength(dtype, shape), 0),
    gradients: async () => {
      const own = await Promise.all(chunks.map(({ executor }) => executor.summed()));
      return own.flatMap((gradients) => [...gradients]);
    },
  };
}
