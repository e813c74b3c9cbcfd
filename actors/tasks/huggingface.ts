/**
 * A Hugging Face model folder, trained further on any text file: all of it, or with LoRA. What comes out is a folder
 * that transformers loads.
 */

import { createEngine } from "../../nn/engine/create.ts";
import { exportAdapter } from "../../nn/finetune/adapter.ts";
import { mergeLora } from "../../nn/finetune/merge.ts";
import { exportFolder } from "../../nn/hf/export.ts";
import { type Folder, HuggingFaceError } from "../../nn/hf/folder.ts";
import { HuggingFaceModel } from "../../nn/hf/model.ts";
import { exportModel, withValues } from "../../nn/import/export.ts";
import { Tokenizer } from "../../nn/tokenizer.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Files } from "../../runtime/platform/files.ts";
import { readDefaultText, readText, splitTokens } from "../data/corpus.ts";
import { TextFeed } from "../data/text.ts";
import { generate } from "../generate.ts";
import { diskFolder } from "./disk.ts";
import type { ExportedFile, Task, TaskOptions } from "./task.ts";
import { isAdapted, type Tuning, tuned, tuningSettings } from "./tuning.ts";

export interface HuggingFaceSpec {
  readonly kind: "huggingface";
  /** The folder. */
  readonly from: string;
  /** Tokens of a window; null for as many as the model takes, up to `CONTEXT`. */
  readonly context: number | null;
  readonly tuning: Tuning;
}

/** Tokens of a window when nothing else is asked for. */
const CONTEXT = 128;

/** The matrices of all layers get adapters, as in QLoRA (Dettmers et al., 2023), not the embedding and the head. */
const LAYERS = { gpt2: ["h"], llama: ["layers"] } as const;

const SAMPLING = { temperature: 0.7, topK: 40 };

/** @throws FileError, CorpusError, HuggingFaceError, WeightsError, TokenizerError, GraphError in one line for people. */
export async function openHuggingFace(
  spec: HuggingFaceSpec,
  { data, rows, seed }: TaskOptions,
  files: Files,
): Promise<Task> {
  const { from } = spec;
  const folder = diskFolder(files, from);
  const source = await HuggingFaceModel.open(folder);
  const context = spec.context ?? Math.min(CONTEXT, source.positions);
  const tokenizer = await tokenizerOf(folder);
  if (tokenizer.vocabulary > source.vocabulary) {
    throw new HuggingFaceError(
      `${folder.name}: its tokenizer has ${tokenizer.vocabulary} tokens, its model ${source.vocabulary}: take both from one folder`,
    );
  }
  // What cannot be is refused before all of a text is made tokens of.
  const model = tuned(source.model({ context, rows }), spec.tuning, LAYERS[source.config.family]);
  const one = source.model({ context, rows: 1 });
  const text = await (data === null ? readDefaultText(files) : readText(files, data));
  const tokens = tokenizer.encodeText(text.bytes);
  const split = splitTokens(tokens, { name: text.name, unit: "tokens" }, context);
  /** Trained values under the folder's own names: adapters are merged into what they stand beside. */
  const merged = async (trained: ReadonlyMap<string, Tensor>) =>
    isAdapted(model) ? await mergeLora(model, trained, seed) : trained;
  return {
    model,
    feed: new TextFeed(split, { seed, context, rows }),
    description: { kind: "huggingface", from, context, ...tuningSettings(spec.tuning) },
    source: { name: text.name, bytes: text.bytes.length },
    unit: { name: "tokens", perMicroBatch: rows * context },
    lossUnit: "nats per token",
    exported: async function* (trained): AsyncGenerator<ExportedFile> {
      const values = await merged(trained);
      yield* exportFolder(source, values);
      if (isAdapted(model)) {
        for (const { name, chunks } of exportAdapter(model, trained, from))
          yield { name: `adapter/${name}`, chunks };
      }
      // `ids` i64 [context, 1] in, `logits` f32 [context, vocabulary] out.
      yield { name: "model.onnx", chunks: [await exportModel(one, values, seed)] };
    },
    sample: async (trained, { prompt, count, random }) => {
      const engine = await createEngine({ engine: "auto" });
      try {
        const ids = await generate(engine, {
          graph: await withValues(one, await merged(trained), seed),
          values: new Map(),
          prompt: tokenizer.encode(prompt, { special: true }),
          ...{ count, sampling: SAMPLING, random, end: tokenizer.endOfText },
        });
        return tokenizer.decode(ids, { special: false });
      } finally {
        await engine.close();
      }
    },
  };
}

async function tokenizerOf(folder: Folder): Promise<Tokenizer> {
  const names = await folder.list();
  if (!names.has("tokenizer.json")) {
    throw new HuggingFaceError(
      `${folder.name} has no tokenizer.json: save it with transformers' AutoTokenizer and save_pretrained`,
    );
  }
  const config = names.has("tokenizer_config.json") ? await folder.read("tokenizer_config.json") : null;
  return Tokenizer.load(await folder.read("tokenizer.json"), config, folder.name);
}
