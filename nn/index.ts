/**
 * Neural networks as ONNX graphs: build or import, differentiate, cut, train, run. Useful without the actor runtime.
 *
 * A training step in one process is: a `Model` → `findSegments` → `cutGraph` → `trainingGraphs` → a `StageExecutor` on
 * an engine. `examples/` shows it in full; docs/training.md is the guide.
 */

export { type DType, type Shape, Tensor } from "../protocols/tensor.ts";
// Gradients.
export { differentiate, GRADIENT_RULES } from "./autodiff/gradient.ts";
export type { GradientRule } from "./autodiff/rule.ts";
export { writtenOut } from "./autodiff/write-out.ts";
export type { ChunkExecutor } from "./chunk-executor.ts";
// Engines.
export {
  type AvailableEngine,
  availableEngines,
  createEngine,
  type MissingEngine,
  probeEngines,
} from "./engine/create.ts";
export { type Engine, EngineError, type Place } from "./engine/engine.ts";
export { type ExecutorOptions, StageExecutor } from "./executor.ts";
// Fine-tuning.
export { exportAdapter } from "./finetune/adapter.ts";
export { freeze as freezeParameters } from "./finetune/freeze.ts";
export { type LoraModel, type LoraOptions, lora } from "./finetune/lora.ts";
export { mergeLora } from "./finetune/merge.ts";
export { type Storage, storeFrozen } from "./finetune/storage.ts";
// Models from elsewhere.
export { type ExportedFile, exportFolder } from "./hf/export.ts";
export { type Folder, HuggingFaceError, memoryFolder } from "./hf/folder.ts";
export { HuggingFaceModel } from "./hf/model.ts";
export { exportExternalModel, exportModel, inferenceGraph } from "./import/export.ts";
export { type ImportedModel, type ImportOptions, importModel } from "./import/import.ts";
export { LOSSES } from "./import/loss.ts";
export * from "./losses.ts";
export {
  COUNTERS,
  dataInputs,
  heldInputs,
  type Model,
  type Roles,
  rolesOf,
  type Trainable,
} from "./model.ts";
// Models of our own.
export { isModelName, MODEL_NAMES, type ModelName, modelNamed } from "./models/catalogue.ts";
export { DEFAULT_GPT, type GptConfig, gptGraph, gptModel, gptParameters } from "./models/gpt.ts";
export { gptInitial } from "./models/init.ts";
export { mlp } from "./models/mlp.ts";
export { resnet } from "./models/resnet.ts";
export { vgg } from "./models/vgg.ts";
export { vit } from "./models/vit.ts";
// Graphs.
export { GraphBuilder } from "./onnx/builder.ts";
export type { ReadExternal } from "./onnx/external.ts";
export { freeze } from "./onnx/freeze.ts";
export { float, type Graph, GraphError, type Node, type ValueInfo } from "./onnx/graph.ts";
export { printGraph } from "./onnx/print.ts";
export { decodeModel, encodeModel } from "./onnx/proto.ts";
export { inferShapes } from "./onnx/shapes.ts";
// Optimisers.
export { type AdamWConfig, adamwGraph, DEFAULT_ADAMW } from "./optim/adamw.ts";
export { perMicroBatch } from "./optim/asynchronous.ts";
export { DivergedError } from "./optim/finite.ts";
export { type OptimizerConfig, optimizerGraph, stateNames } from "./optim/optimizer.ts";
export { DILOCO, type OuterConfig, outerGraph, outerStateNames, pseudoGradientGraph } from "./optim/outer.ts";
export { simplify } from "./passes/simplify.ts";
export { atRows } from "./profile/rows.ts";
// Stages.
export {
  type ChunkTimes,
  type ModelProfile,
  type ProfileOptions,
  profileModel,
  type SegmentProfile,
} from "./profile.ts";
export { cutGraph, findSegments, type Segment } from "./segments.ts";
// Shards: a segment among several ranks.
export type { Shares } from "./shards/assign.ts";
export { type ShardChunk, shardChunk } from "./shards/chunk.ts";
export type { Collectives } from "./shards/collectives.ts";
export { ShardExecutor } from "./shards/executor.ts";
export { joinHoldings, sliceHoldings } from "./shards/holdings.ts";
export type { Cut } from "./shards/layout.ts";
export {
  type Collective,
  type CollectiveUse,
  collectiveBytes,
  type Holding,
  type Phase,
  SHARD_KINDS,
  type ShardKind,
  type ShardPlan,
  type Transfer,
} from "./shards/plan.ts";
export { type ShardOptions, shard } from "./shards/shard.ts";
export { joinTensors, sliceTensor } from "./shards/slices.ts";
export { type PhaseGraphs, phaseGraphs } from "./shards/train.ts";
export { Tokenizer, TokenizerError } from "./tokenizer.ts";
export { statisticDecays } from "./training/decay.ts";
export { keptBytes, type StageGraphs, trainingGraphs } from "./training.ts";
export { decodeSafetensors, encodeSafetensors } from "./weights/safetensors.ts";
