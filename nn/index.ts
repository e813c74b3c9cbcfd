/**
 * Neural networks as ONNX graphs: build, differentiate, cut, run. Useful without the actor runtime.
 *
 * A training step in one process is: `gptGraph` → `findSegments` → `cutGraph` → `trainingGraphs` → a
 * `StageExecutor` on an engine. `examples/` shows it in full.
 */

export { type DType, type Shape, Tensor } from "../protocols/tensor.ts";
export { differentiate, GRADIENT_RULES } from "./autodiff/gradient.ts";
export type { GradientRule } from "./autodiff/rule.ts";
export { availableEngines, createEngine } from "./engine/create.ts";
export { type Engine, EngineError } from "./engine/engine.ts";
export { type ExecutorOptions, StageExecutor } from "./executor.ts";
export { DEFAULT_GPT, type GptConfig, gptGraph, gptParameters } from "./models/gpt.ts";
export { gptInitial } from "./models/init.ts";
export { GraphBuilder } from "./onnx/builder.ts";
export { float, type Graph, GraphError, type Node, type ValueInfo } from "./onnx/graph.ts";
export { decodeModel, encodeModel } from "./onnx/proto.ts";
export { inferShapes } from "./onnx/shapes.ts";
export { type AdamWConfig, adamwGraph, DEFAULT_ADAMW } from "./optim/adamw.ts";
export { profileSegments, type SegmentProfile } from "./profile.ts";
export { cutGraph, findSegments, type Segment } from "./segments.ts";
export { type StageGraphs, trainingGraphs } from "./training.ts";
export { decodeSafetensors, encodeSafetensors } from "./weights/safetensors.ts";
