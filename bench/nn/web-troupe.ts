/** Troupe's web engine outside a browser; the argument is the number of threads. */

import type { Model } from "../../nn/model.ts";
import { mlp } from "../../nn/models/mlp.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { LocalTraining } from "../local.ts";
import { BATCH, initialLayers, LEARNING_RATE, SIZES, samples, train } from "./perceptron.ts";

const model: Model = mlp(
  {
    sample: [SIZES[0]],
    hidden: SIZES.slice(1, -1),
    classes: SIZES.at(-1)!,
    activation: "relu",
  },
  BATCH,
);
const { images, targets } = samples();
const values = new Map<string, Tensor>([
  ["features", Tensor.f32([BATCH, SIZES[0]], images)],
  ["targets", Tensor.i64([BATCH], targets)],
]);
initialLayers().forEach(({ weight, bias, inputs, outputs }, i) => {
  // Here matrices are [out, in].
  const turned = new Float32Array(weight.length);
  for (let row = 0; row < inputs; row++) {
    for (let column = 0; column < outputs; column++)
      turned[column * inputs + row] = weight[row * outputs + column]!;
  }
  values.set(`layers.${i}.weight`, Tensor.f32([outputs, inputs], turned));
  values.set(`layers.${i}.bias`, Tensor.f32([outputs], bias));
});

const training = await LocalTraining.open(model, {
  microBatches: 1,
  engine: "web",
  threads: Number(process.argv[2] ?? 1),
  optimizer: {
    ...{ kind: "sgd", momentum: 0, nesterov: false, weightDecay: 0, clip: 0 },
    ...{ learningRate: LEARNING_RATE, warmup: 0, steps: 1_000_000, floor: 1, decay: "constant" },
  },
  values,
});
await train(async () => {
  await training.step();
  return training.loss;
});
await training.close();
process.exit(0);
