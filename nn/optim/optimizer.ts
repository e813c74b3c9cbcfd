/** The optimisers there are, behind one configuration. Each is a graph; `nn/executor/` runs it. */

import type { Graph, ValueInfo } from "../onnx/graph.ts";
import { type AdamWConfig, adamwGraph } from "./adamw.ts";
import { type LionConfig, lionGraph } from "./lion.ts";
import { isMatrix, type MuonConfig, muonGraph } from "./muon.ts";
import { type SgdConfig, sgdGraph } from "./sgd.ts";
import { firstMomentName, secondMomentName } from "./update.ts";

export { updatedName } from "./update.ts";

/** Plain data; `kind` tells them apart, and AdamW is what is meant without one. */
export type OptimizerConfig = AdamWConfig | SgdConfig | LionConfig | MuonConfig;

/** One update of the given parameters; see `updateGraph` for inputs and outputs. */
export function optimizerGraph(
  parameters: readonly ValueInfo[],
  total: number,
  config: OptimizerConfig,
): Graph {
  switch (config.kind) {
    case "sgd":
      return sgdGraph(parameters, total, config);
    case "lion":
      return lionGraph(parameters, total, config);
    case "muon":
      return muonGraph(parameters, total, config);
    default:
      return adamwGraph(parameters, total, config);
  }
}

/** Names of the tensors that the optimiser keeps of a parameter between steps, all of its type; they begin as zeros. */
export function stateNames(config: OptimizerConfig, parameter: Pick<ValueInfo, "name" | "shape">): string[] {
  const [first, second] = [firstMomentName(parameter.name), secondMomentName(parameter.name)];
  switch (config.kind) {
    case "sgd":
      return config.momentum === 0 ? [] : [first];
    case "lion":
      return [first];
    case "muon":
      return isMatrix(parameter) ? [first] : [first, second];
    default:
      return [first, second];
  }
}
