/** How long a stage takes from a forward graph to runs that are ready: gradients, passes, compilation, memory. */

import { createEngine } from "../../nn/engine/create.ts";
import { StageExecutor } from "../../nn/executor.ts";
import { gptModel } from "../../nn/models/gpt.ts";
import { DEFAULT_ADAMW } from "../../nn/optim/adamw.ts";
import { cutGraph, findSegments } from "../../nn/segments.ts";
import { trainingGraphs } from "../../nn/training.ts";
import { milliseconds } from "../format.ts";
import { median } from "../statistics.ts";
import type { NnContext, NnResult } from "./parts.ts";

/** Layers of GPT-2 medium. */
const LAYERS = 24;

export async function compile({ quick, note }: NnContext): Promise<NnResult> {
  const width = quick ? 64 : 1024;
  const config = { layers: LAYERS, width, heads: 16, context: 128, vocabulary: 256 };
  note(`compile: ${LAYERS} layers of width ${width}`);
  const model = gptModel(config, 1);
  const segments = findSegments(model);
  const rows: [string, number, number, number][] = [];
  for (const stages of [1, 3]) {
    const runs: [cut: number, ready: number][] = [];
    for (let i = 0; i < (quick ? 1 : 3); i++) {
      const engine = await createEngine();
      try {
        const began = performance.now();
        const to = Math.ceil(segments.length / stages);
        const output = segments[to - 1]!.output;
        const options = { input: null, output, microBatches: 4, recompute: false };
        const graphs = trainingGraphs(cutGraph(model.graph, segments, 0, to), model, options);
        const cut = performance.now() - began;
        const executor = await StageExecutor.create(engine, graphs, {
          slots: 1,
          optimizer: { ...DEFAULT_ADAMW, steps: 10 },
          totalParameters: model.parameters.length,
        });
        runs.push([cut, performance.now() - began - cut]);
        executor.release();
      } finally {
        await engine.close();
      }
    }
    const [cut, ready] = [median(runs.map(([ms]) => ms)), median(runs.map(([, ms]) => ms))];
    rows.push([stages === 1 ? "all of it" : `the first of ${stages} stages`, cut, ready, cut + ready]);
  }
  return {
    sections: [
      {
        title: "Compiling a stage",
        text: [
          `A GPT of ${LAYERS} layers of width ${width}: from the forward graph to the stage's training graphs, and from there to ` +
            "runs that are bound to memory, the optimiser's included. Promised is less than two seconds in all.",
        ],
        table: {
          columns: ["", "gradients and passes", "engine", "in all"],
          rows: rows.map(([name, ...taken]) => [name, ...taken.map(milliseconds)]),
        },
      },
    ],
    figures: {
      compile: rows.map(([name, cut, ready, all]) => ({ name, cutMs: cut, engineMs: ready, allMs: all })),
    },
  };
}
