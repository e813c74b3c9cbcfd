/** TensorFlow.js on its WebAssembly backend, one thread. */

import { join } from "node:path";
import { initialLayers, LEARNING_RATE, SIZES, samples, train } from "./perceptron.ts";

// The bench installs them beside their manifest; to the project they are no dependency and have no types.
const FOLDER = join(import.meta.dir, "..", "rivals", "web", "node_modules", "@tensorflow");
const CORE: string = `${FOLDER}/tfjs-core`;
await import(`${CORE}/dist/public/chained_ops/register_all_chained_ops.js`);
await import(`${CORE}/dist/register_all_gradients.js`);
const tf = await import(CORE);
const wasm = await import(`${FOLDER}/tfjs-backend-wasm`);

const binaries = ["tfjs-backend-wasm", "tfjs-backend-wasm-simd", "tfjs-backend-wasm-threaded-simd"];
const pathOf = (name: string) => `${FOLDER}/tfjs-backend-wasm/dist/${name}.wasm`;
wasm.setWasmPaths(Object.fromEntries(binaries.map((name) => [`${name}.wasm`, pathOf(name)])));
tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", false);
// The backend fetches its binary, which lies on the disk.
globalThis.fetch = (async (path: string) => new Response(Bun.file(path))) as unknown as typeof fetch;
await tf.setBackend("wasm");
await tf.ready();

const { images, targets } = samples();
const x = tf.tensor2d(images, [targets.length, SIZES[0]]);
const y = tf.oneHot(tf.tensor1d(targets, "int32"), SIZES.at(-1)).cast("float32");
const layers = initialLayers().map(({ weight, bias, inputs, outputs }) => ({
  weight: tf.variable(tf.tensor2d(weight, [inputs, outputs])),
  bias: tf.variable(tf.tensor1d(bias)),
}));
const variables = new Map(layers.flatMap(({ weight, bias }) => [weight, bias]).map((v) => [v.name, v]));

const lossOf = () => {
  let h = x;
  layers.forEach(({ weight, bias }, i) => {
    h = tf.add(tf.matMul(h, weight), bias);
    if (i < layers.length - 1) h = tf.relu(h);
  });
  const centred = tf.sub(h, tf.max(h, 1, true));
  const normaliser = tf.log(tf.sum(tf.exp(centred), 1, true));
  return tf.neg(tf.mean(tf.sum(tf.mul(y, tf.sub(centred, normaliser)), 1)));
};

await train(() =>
  tf.tidy(() => {
    const { value, grads } = tf.variableGrads(lossOf);
    for (const [name, gradient] of Object.entries(grads)) {
      const variable = variables.get(name)!;
      variable.assign(tf.sub(variable, tf.mul(gradient, LEARNING_RATE)));
    }
    return value.dataSync()[0];
  }),
);
