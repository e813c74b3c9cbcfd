/** The sums of squares of all gradients of a model, from what its workers say of theirs: what clipping goes by. */

import { diverged, firstNonFinite } from "../../nn/optim/finite.ts";
import { isScaled } from "../../nn/optim/loss-scale.ts";
import { Tensor } from "../../protocols/tensor.ts";
import type { StepReport } from "../stage/spec.ts";
import type { Placed } from "./handover.ts";
import type { SpecOptions } from "./specs.ts";

/**
 * Those of the parameters that some workers have gradients of, in the model's order, each once.
 * @param reports by worker.
 * @throws DivergedError for one that is no number, unless the loss is scaled.
 */
export function squareSumsOf(
  { model, optimizer }: Pick<SpecOptions, "model" | "optimizer">,
  step: number,
  reports: readonly StepReport[],
  counted: readonly Placed[],
): Tensor {
  const place = new Map(model.parameters.map((name, i) => [name, i]));
  const sums = new Float32Array(model.parameters.length);
  for (const { worker, holdings } of counted) {
    const { rank, stage } = worker;
    // Members that share micro-batches have the same sums; those that have parts of the weights, parts of the sums.
    if (rank > 0 && stage.sharing === "data") continue;
    const own = reports[worker.worker]!.squareSums.f32();
    const { parameters } = holdings;
    const broken = isScaled(optimizer) ? undefined : firstNonFinite(own);
    if (broken) {
      const where = `gradient of ${parameters[broken.index]} (stage ${stage.stage + 1})`;
      throw diverged(where, step + 1, broken.value);
    }
    parameters.forEach((name, k) => {
      sums[place.get(name)!]! += own[k]!;
    });
  }
  return Tensor.f32([sums.length], sums);
}
