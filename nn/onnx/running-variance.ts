/**
 * PyTorch's running variance. ONNX's BatchNormalization moves its running variance by the variance of the population,
 * PyTorch by the unbiased one of the sample, larger by n / (n − 1), and what PyTorch exports does not say so. Two more
 * nodes behind the operator make the one from the other, and the graph stays standard ONNX:
 *
 *   after′ = after·k − before·momentum·(k − 1) with k = n / (n − 1)
 */

import type { GraphBuilder } from "./builder.ts";
import { GraphError } from "./graph.ts";

export interface RunningVariance {
  /** Value of the running variance that the BatchNormalization reads, and of the one that it gives. */
  readonly before: string;
  readonly after: string;
  /** The attribute of the node: what the old value is weighed with; 1 minus PyTorch's. */
  readonly momentum: number;
  /** n: elements of one channel in a micro-batch, samples times pixels. */
  readonly count: number;
}

/**
 * Appends the running variance as PyTorch has it and returns its name.
 * @throws GraphError for a single element: PyTorch has no variance of it either.
 */
export function unbiasedVariance(
  b: GraphBuilder,
  { before, after, momentum, count }: RunningVariance,
  output?: string,
): string {
  if (count < 2) throw new GraphError(`"${after}": there is no unbiased variance of ${count} element`);
  const scale = count / (count - 1);
  const scaled = b.op("Mul", [after, b.scalar(scale)]);
  const excess = b.op("Mul", [before, b.scalar(-Math.fround(momentum) * (scale - 1))]);
  return b.op("Add", [scaled, excess], {}, output);
}
