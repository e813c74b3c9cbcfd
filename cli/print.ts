/** `train --print`: the graphs of a model as text, or as `.onnx` for any viewer. Nothing is trained or started. */

import { openTask } from "../actors/tasks/open.ts";
import type { TrainOptions } from "../actors/train.ts";
import type { Graph, ValueInfo } from "../nn/onnx/graph.ts";
import { printGraph } from "../nn/onnx/print.ts";
import { encodeModel } from "../nn/onnx/proto.ts";
import { optimizerGraph } from "../nn/optim/optimizer.ts";
import { trainingGraphs } from "../nn/training.ts";
import type { Files } from "../runtime/platform/files.ts";
import type { Output } from "../runtime/platform/process.ts";

/** Which graph: as the model is written, what trains it, what validates it, what updates it. */
export const PRINTABLE = ["forward", "training", "evaluation", "optimizer"] as const;
export type Printable = (typeof PRINTABLE)[number];

/** @param to where the `.onnx` goes; null for text on standard output. */
export async function printModel(
  what: Printable,
  to: string | null,
  options: TrainOptions,
  files: Files,
  out: Output,
): Promise<void> {
  const { data, batch, microBatches, seed, recompute } = options;
  const rows = batch / microBatches;
  const { model } = await openTask(options.model, { data, rows, microBatches, seed }, files);
  const graph = graphOf();
  if (to === null) out.write(`${printGraph(graph)}\n`);
  else await files.write(to, [encodeModel(graph)]);

  function graphOf(): Graph {
    if (what === "forward") return model.graph;
    const stage = { input: null, output: null, microBatches, recompute };
    const graphs = trainingGraphs(model.graph, model, stage);
    if (what === "training") return graphs.joint!;
    if (what === "evaluation") return graphs.evaluate;
    const trained = graphs.parameters.filter(({ name }: ValueInfo) => !Object.hasOwn(model.ties, name));
    return optimizerGraph(trained, trained.length, options.optimizer);
  }
}
