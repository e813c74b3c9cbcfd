/** The byte-level GPT on any text file, and the default of `troupe train` on the default text. */

import { createEngine } from "../../nn/engine/create.ts";
import { type GptConfig, gptGraph, gptModel } from "../../nn/models/gpt.ts";
import { freeze } from "../../nn/onnx/freeze.ts";
import { encodeModel } from "../../nn/onnx/proto.ts";
import type { Files } from "../../runtime/platform/files.ts";
import { readDefaultText, readText, splitText } from "../data/corpus.ts";
import { TextFeed } from "../data/text.ts";
import { generate } from "../generate.ts";
import type { Task, TaskOptions } from "./task.ts";

export type GptSpec = { readonly kind: "gpt" } & GptConfig;

/** Of a sample: less than 1 keeps to what is likely, and only the likeliest are drawn from. */
const SAMPLING = { temperature: 0.7, topK: 40 };

/** @throws FileError, CorpusError; GraphError for a model that cannot be. */
export async function openGpt(
  { kind: _, ...config }: GptSpec,
  { data, rows, seed }: TaskOptions,
  files: Files,
): Promise<Task> {
  const { context } = config;
  const text = await (data === null ? readDefaultText(files) : readText(files, data));
  const feed = new TextFeed(splitText(text, context), { seed, context, rows });
  return {
    model: gptModel(config, rows),
    feed,
    description: { ...config },
    source: { name: text.name, bytes: text.bytes.length },
    unit: { name: "tokens", perMicroBatch: rows * context },
    lossUnit: "nats per byte",
    // `ids` i64 [context, 1] in, `logits` f32 [context, vocabulary] out.
    inference: (values) => encodeModel(freeze(gptGraph(config, 1, context, "logits"), values)),
    sample: async (values, { prompt, count, random }) => {
      const engine = await createEngine({ engine: "auto" });
      try {
        const bytes = await generate(engine, {
          graph: gptGraph(config, 1, context, "logits"),
          values,
          prompt: new TextEncoder().encode(prompt),
          count,
          sampling: SAMPLING,
          random,
        });
        return new TextDecoder().decode(Uint8Array.from(bytes));
      } finally {
        await engine.close();
      }
    },
  };
}
