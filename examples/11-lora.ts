// LoRA on a Hugging Face folder: the weights stay as they are, in 8 bits, and small adapters beside them learn. The
// folder is made here, a Llama of random weights in memory; one on the disk is read through the same three functions
// (docs/training.md), or trained by `train --model <folder> --lora`.

import {
  createEngine,
  DEFAULT_ADAMW,
  encodeSafetensors,
  exportAdapter,
  exportFolder,
  HuggingFaceModel,
  heldInputs,
  lora,
  memoryFolder,
  mergeLora,
  StageExecutor,
  storeFrozen,
  Tensor,
  trainingGraphs,
} from "../nn/index.ts";

const [width, inner, vocabulary, context, rows] = [32, 64, 128, 16, 4];
const config = {
  model_type: "llama",
  hidden_size: width,
  intermediate_size: inner,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: vocabulary,
  max_position_embeddings: 64,
  tie_word_embeddings: true,
};
const weights = new Map<string, Tensor>();
const random = (name: string, shape: number[], scale = 0.2) => {
  const value = (i: number) => ((Math.sin(i * 12.9898 + name.length) * 43758.5453) % 1) * scale;
  const size = shape.reduce((a, b) => a * b);
  weights.set(
    `model.${name}.weight`,
    Tensor.f32(
      shape,
      Array.from({ length: size }, (_, i) => value(i)),
    ),
  );
};
random("embed_tokens", [vocabulary, width], 0.3);
for (const name of ["q_proj", "o_proj"]) random(`layers.0.self_attn.${name}`, [width, width]);
for (const name of ["k_proj", "v_proj"]) random(`layers.0.self_attn.${name}`, [width / 2, width]);
for (const name of ["gate_proj", "up_proj"]) random(`layers.0.mlp.${name}`, [inner, width]);
random("layers.0.mlp.down_proj", [width, inner]);
for (const name of ["layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"]) {
  weights.set(`model.${name}.weight`, Tensor.f32([width], Array(width).fill(1)));
}
const folder = memoryFolder(
  "tiny-llama",
  new Map([
    ["config.json", new TextEncoder().encode(JSON.stringify(config))],
    ["model.safetensors", Buffer.concat(encodeSafetensors(weights))],
  ]),
);

const source = await HuggingFaceModel.open(folder);
const adapted = lora(source.model({ context, rows }), { targets: ["layers"], rank: 8, alpha: 16 });
const model = storeFrozen(adapted, "int8");
console.log(model.parameters.slice(0, 2).join(" "));

const engine = await createEngine();
const steps = 60;
const whole = { input: null, output: null, microBatches: 1, recompute: false };
const graphs = trainingGraphs(model.graph, model, whole);
const stage = await StageExecutor.create(engine, graphs, {
  slots: 1,
  optimizer: { ...DEFAULT_ADAMW, learningRate: 0.02, warmup: 0, steps },
  totalParameters: model.parameters.length,
});
const held = heldInputs(model).map(async ({ name }) => [name, await model.initial(name, 1)] as const);
await stage.load(new Map(await Promise.all(held)));

// Position t of sequence b is row t·rows + b.
const text = new TextEncoder().encode("to be or not to be, that is the question. ".repeat(8));
const [ids, targets] = [stage.value(0, "ids").i64(), stage.value(0, "targets").i64()];
for (let step = 0; step < steps; step++) {
  for (let b = 0; b < rows; b++) {
    const start = (step * 29 + b * 11) % (text.length - context - 1);
    for (let t = 0; t < context; t++) {
      ids[t * rows + b] = BigInt(text[start + t]!);
      targets[t * rows + b] = BigInt(text[start + t + 1]!);
    }
  }
  await stage.joint(0);
  await stage.update(step, await stage.squareSums());
  if (step % 20 === 0 || step === steps - 1) {
    console.log(`step ${step} loss ${stage.value(0, graphs.result).f32()[0]!.toFixed(3)}`);
  }
}

// Two ways out: the adapter alone, for PEFT, and the folder with the adapter merged into its weights, for transformers.
const trained = await stage.tensors();
console.log(
  exportAdapter(adapted, trained, "tiny-llama")
    .map(({ name }) => name)
    .join(" "),
);
for await (const { name } of exportFolder(source, await mergeLora(adapted, trained, 1))) console.log(name);
await engine.close();
