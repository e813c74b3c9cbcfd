/** Which parameters are updated together, and what each update changes. */

import type { ValueInfo } from "../onnx/graph.ts";
import { type OptimizerConfig, stateNames } from "../optim/optimizer.ts";

/**
 * Parameters that one update graph holds. They all read the same few scalars, and ONNX Runtime takes time in the
 * square of their number to compile that: for 640 parameters in one graph, 17 s. Fewer would cost runs and memory.
 */
export const UPDATE_GROUP = 128;

/** Parameters as many together as one graph holds; at least one group, if empty. */
export function groupsOf(parameters: readonly ValueInfo[]): ValueInfo[][] {
  const groups: ValueInfo[][] = [];
  for (let from = 0; from === 0 || from < parameters.length; from += UPDATE_GROUP) {
    groups.push(parameters.slice(from, from + UPDATE_GROUP));
  }
  return groups;
}

/** A parameter and what the optimiser keeps of it. */
export function changedNames(info: ValueInfo, optimizer: OptimizerConfig): string[] {
  return [info.name, ...stateNames(optimizer, info)];
}

/** What the optimiser keeps of parameters. */
export function statesOf(parameters: readonly ValueInfo[], optimizer: OptimizerConfig): ValueInfo[] {
  return parameters.flatMap((info) => stateNames(optimizer, info).map((name) => ({ ...info, name })));
}
