/**
 * A Hugging Face folder made trainable: config.json becomes a graph, the weights become initial values that are read
 * when somebody asks for one. Parameters keep transformers' names; weights in bf16 or f16 are trained in f32.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import type { Model } from "../model.ts";
import { gpt2Graph, gpt2Parameters } from "../models/gpt2.ts";
import { llamaGraph, llamaParameters } from "../models/llama.ts";
import { LOGITS, type TextShape } from "../models/transformer.ts";
import type { ValueInfo } from "../onnx/graph.ts";
import { toF32 } from "../weights/convert.ts";
import { type ModelConfig, parseConfig } from "./config.ts";
import { type Folder, HuggingFaceError, readJson } from "./folder.ts";
import { FolderWeights } from "./weights.ts";

export const CONFIG = "config.json";
export const HEAD = "lm_head.weight";

/** The token embedding of each family, which is also the head's matrix where the two are tied. */
const EMBEDDING = { gpt2: "transformer.wte.weight", llama: "model.embed_tokens.weight" } as const;

export class HuggingFaceModel {
  readonly folder: Folder;
  readonly config: ModelConfig;
  readonly weights: FolderWeights;
  /** Name and shape of every parameter, in the order of the model; the head's matrix also where it is tied. */
  readonly parameters: readonly ValueInfo[];
  /** From the head to the embedding where the two are one; else empty. */
  readonly ties: Readonly<Record<string, string>>;

  private constructor(folder: Folder, config: ModelConfig, weights: FolderWeights) {
    this.folder = folder;
    this.config = config;
    this.weights = weights;
    this.parameters = config.family === "gpt2" ? gpt2Parameters(config.graph) : llamaParameters(config.graph);
    this.ties = config.tied ? { [HEAD]: EMBEDDING[config.family] } : {};
  }

  /**
   * Reads config.json and the headers of the weights, and checks that all of the model is there.
   * @throws HuggingFaceError or WeightsError naming file, tensor and remedy.
   */
  static async open(folder: Folder): Promise<HuggingFaceModel> {
    if (!(await folder.list()).has(CONFIG)) {
      throw new HuggingFaceError(`${folder.name} has no ${CONFIG}: it is no Hugging Face model folder`);
    }
    const config = parseConfig(await readJson(folder, CONFIG), `${folder.name}/${CONFIG}`);
    const model = new HuggingFaceModel(folder, config, await FolderWeights.open(folder));
    for (const info of model.parameters) if (!(info.name in model.ties)) model.weights.require(info);
    return model;
  }

  /** Size of the vocabulary: ids are below it. */
  get vocabulary(): number {
    return this.config.graph.vocabulary;
  }

  /** The most tokens a sequence may have. */
  get positions(): number {
    return this.config.graph.positions;
  }

  /**
   * The model for micro-batches of this size. Its weights are read from the folder when `initial` is asked for them.
   * @throws GraphError when the context is longer than the model's positions, or its sizes do not fit together.
   */
  model(shape: TextShape): Model {
    const { config, ties } = this;
    return {
      name: this.folder.name,
      graph: config.family === "gpt2" ? gpt2Graph(config.graph, shape) : llamaGraph(config.graph, shape),
      parameters: this.parameters.map(({ name }) => name),
      frozen: [],
      statistics: {},
      ties,
      prediction: LOGITS,
      initial: (name) => this.value(name),
    };
  }

  /**
   * A parameter as the folder has it, in f32; a tied one is what it is tied to.
   * @throws HuggingFaceError for a name that is no parameter, WeightsError when bytes are missing.
   */
  async value(name: string): Promise<Tensor> {
    const key = this.ties[name] ?? name;
    const info = this.parameters.find((parameter) => parameter.name === key);
    if (!info) throw new HuggingFaceError(`${this.folder.name}: the model has no parameter ${name}`);
    return toF32(await this.weights.read(this.weights.require(info)));
  }
}
