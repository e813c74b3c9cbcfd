/**
 * Text from a trained model, byte after byte: the last `context` bytes go in, the next one is drawn from the
 * logits of the last position. The model runs whole, on one engine; serving it over devices is another room.
 */

import type { Engine } from "../nn/engine/engine.ts";
import { type GptConfig, gptGraph, gptParameters } from "../nn/models/gpt.ts";
import type { Tensor } from "../protocols/tensor.ts";
import { chooseToken, type Sampling } from "./sample.ts";

export interface GenerateRequest {
  readonly config: GptConfig;
  readonly parameters: Readonly<Record<string, Tensor>>;
  /** At least one byte. */
  readonly prompt: Uint8Array;
  /** How many bytes to add. */
  readonly count: number;
  readonly sampling: Sampling;
  /** Numbers in [0, 1). */
  readonly random: () => number;
}

/** The prompt and what the model makes of it. */
export async function generate(engine: Engine, request: GenerateRequest): Promise<Uint8Array> {
  const { config, parameters, prompt, count, sampling, random } = request;
  const { context, vocabulary } = config;
  const executable = await engine.compile(gptGraph(config, 1, context, "logits"));
  const ids = engine.allocate("i64", [context, 1]);
  const logits = engine.allocate("f32", [context, vocabulary]);
  const weights = gptParameters(config).map(({ name, dtype, shape }) => {
    const tensor = engine.allocate(dtype, shape);
    tensor.tensor.bytes.set(parameters[name]!.bytes);
    return [name, tensor] as const;
  });
  const binding = executable.bind({ ids, ...Object.fromEntries(weights) }, { logits });
  try {
    const text = [...prompt];
    const input = ids.tensor.i64();
    for (let i = 0; i < count; i++) {
      // Positions behind the text hold zeros; attention is causal, so they change nothing before them.
      const window = text.slice(-context);
      input.fill(0n);
      for (const [at, byte] of window.entries()) input[at] = BigInt(byte);
      await binding.run();
      const row = (window.length - 1) * vocabulary;
      text.push(chooseToken(logits.tensor.f32().subarray(row, row + vocabulary), sampling, random));
    }
    return Uint8Array.from(text);
  } finally {
    for (const held of [binding, executable, ids, logits, ...weights.map(([, tensor]) => tensor)])
      held.release();
  }
}
