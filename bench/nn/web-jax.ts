/** jax-js on WebAssembly, its step compiled by `jit`. It uses as many threads as it likes: one argument says how many it finds. */

import { initialLayers, LEARNING_RATE, SIZES, samples, train } from "./perceptron.ts";

// The bench installs it beside its manifest; to the project it is no dependency and has no types.
const JAX: string = "../rivals/web/node_modules/@jax-js/jax";
const { blockUntilReady, defaultDevice, init, jit, nn, numpy: np, tree, valueAndGrad } = await import(JAX);

await init("wasm");
defaultDevice("wasm");
const { images, targets } = samples();
const x = np.array(images).reshape([targets.length, SIZES[0]]);
const y = nn.oneHot(np.array(targets, { dtype: np.int32 }), SIZES.at(-1));
let layers = initialLayers().map(({ weight, bias, inputs, outputs }) => ({
  weight: np.array(weight).reshape([inputs, outputs]),
  bias: np.array(bias),
}));

const lossOf = (parameters: typeof layers, x: any, y: any) => {
  let h = x;
  parameters.forEach(({ weight, bias }, i) => {
    h = np.dot(h, weight).add(bias);
    if (i < parameters.length - 1) h = nn.relu(h);
  });
  return nn.logSoftmax(h).mul(y).sum(1).mean().neg();
};
const update = jit((parameters: typeof layers, x: any, y: any) => {
  const [loss, gradients] = valueAndGrad(lossOf)(tree.ref(parameters), x, y);
  const descend = (value: any, gradient: any) => value.sub(gradient.mul(LEARNING_RATE));
  return [loss, tree.map(descend, parameters, gradients)];
});

await train(async () => {
  const [loss, next] = update(layers, x.ref, y.ref);
  layers = next;
  await blockUntilReady(layers);
  return (await loss.data())[0];
});
