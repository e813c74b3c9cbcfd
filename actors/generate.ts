/**
 * Text from a trained model, token after token: the last `context` tokens go in, the next one is drawn from the logits
 * of the last position. The model runs whole, on one engine; serving it over devices is another room.
 */

import type { Engine } from "../nn/engine/engine.ts";
import type { Graph } from "../nn/onnx/graph.ts";
import type { Tensor } from "../protocols/tensor.ts";
import { chooseToken, type Sampling } from "./sample.ts";

export interface GenerateRequest {
  /** From `ids`, i64 [context, 1], and the model's values to its only output, logits f32 [context, vocabulary]. */
  readonly graph: Graph;
  /** Values of the graph's other inputs. */
  readonly values: ReadonlyMap<string, Tensor>;
  /** At least one token. */
  readonly prompt: ArrayLike<number>;
  /** How many tokens to add. */
  readonly count: number;
  readonly sampling: Sampling;
  /** Numbers in [0, 1). */
  readonly random: () => number;
  /** The token that ends a text: nothing comes after it, nor it itself. */
  readonly end?: number | null;
}

/** The prompt and what the model makes of it. */
export async function generate(engine: Engine, request: GenerateRequest): Promise<number[]> {
  const { graph, values, prompt, count, sampling, random, end = null } = request;
  const output = graph.outputs[0]!;
  const vocabulary = output.shape.at(-1)!;
  const executable = await engine.compile(graph);
  const inputs = graph.inputs.map((info) => [info.name, engine.allocate(info.dtype, info.shape)] as const);
  for (const [name, { tensor }] of inputs) if (name !== "ids") tensor.bytes.set(values.get(name)!.bytes);
  const logits = engine.allocate(output.dtype, output.shape);
  const binding = executable.bind(Object.fromEntries(inputs), { [output.name]: logits });
  try {
    const text = Array.from(prompt);
    const ids = inputs.find(([name]) => name === "ids")![1].tensor.i64();
    for (let i = 0; i < count; i++) {
      // Positions behind the text hold zeros; attention is causal, so they change nothing before them.
      const window = text.slice(-ids.length);
      ids.fill(0n);
      for (const [at, token] of window.entries()) ids[at] = BigInt(token);
      await binding.run();
      const row = (window.length - 1) * vocabulary;
      const token = chooseToken(logits.tensor.f32().subarray(row, row + vocabulary), sampling, random);
      if (token === end) break;
      text.push(token);
    }
    return text;
  } finally {
    for (const held of [binding, executable, logits, ...inputs.map(([, tensor]) => tensor)]) held.release();
  }
}
