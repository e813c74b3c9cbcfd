// A GPT trained in one process, without actors: the whole of a step, to be read from top to bottom.

import {
  createEngine,
  cutGraph,
  DEFAULT_ADAMW,
  findSegments,
  gptGraph,
  gptInitial,
  gptParameters,
  StageExecutor,
  trainingGraphs,
} from "../nn/index.ts";

const steps = 60;
const [rows, microBatches] = [4, 2];
const config = { layers: 1, width: 32, heads: 2, context: 16, vocabulary: 256 };
const text = new TextEncoder().encode("the quick brown fox jumps over the lazy dog. ".repeat(40));

// The forward graph, the pieces it can be cut into, and the training graphs of one stage that holds them all.
const model = gptGraph(config, rows, config.context, "loss");
const parameters = gptParameters(config);
const names = new Set(parameters.map(({ name }) => name));
const segments = findSegments(model, names);
const graphs = trainingGraphs(cutGraph(model, segments, 0, segments.length), (name) => names.has(name), {
  input: null,
  output: null,
  microBatches,
  recompute: false,
});

const engine = await createEngine();
const optimizer = { ...DEFAULT_ADAMW, learningRate: 1e-2, warmup: 5, steps };
const stage = await StageExecutor.create(engine, graphs, {
  slots: 1,
  optimizer,
  totalParameters: names.size,
});
await stage.load(
  new Map(parameters.map(({ name, shape }) => [name, gptInitial(1, name, shape, config.layers)])),
);

// Inputs are written where the kernels read them. Rows are time-major: position t of sequence b is t·rows + b.
const ids = stage.value(0, "ids").i64();
const targets = stage.value(0, "targets").i64();
for (let step = 0; step < steps; step++) {
  let loss = 0;
  for (let m = 0; m < microBatches; m++) {
    for (let b = 0; b < rows; b++) {
      const start = (step * 97 + m * 31 + b * 13) % (text.length - config.context - 1);
      for (let t = 0; t < config.context; t++) {
        ids[t * rows + b] = BigInt(text[start + t]!);
        targets[t * rows + b] = BigInt(text[start + t + 1]!);
      }
    }
    await stage.joint(0); // forward and backward in one run; gradients add up in place
    loss += stage.value(0, "loss").f32()[0]! / microBatches;
  }
  await stage.update(step, await stage.squareSums()); // clipping and AdamW, in place
  if (step % 20 === 0 || step === steps - 1) console.log(`step ${step} loss ${loss.toFixed(3)}`);
}
await engine.close();
