/**
 * A tiny GPT trained on one engine with nothing around it, for tests that compare engines: parameters, moments and
 * accumulators are placed on the device and stay there; tokens, loss and the optimiser's few numbers on the host.
 */

import type { Binding, Engine, EngineTensor, Executable } from "../../../nn/engine/engine.ts";
import { gptGraph, gptParameters } from "../../../nn/models/gpt.ts";
import { gptInitial } from "../../../nn/models/init.ts";
import type { ValueInfo } from "../../../nn/onnx/graph.ts";
import {
  adamwGraph,
  DEFAULT_ADAMW,
  firstMomentName,
  secondMomentName,
  squareSumsGraph,
  updatedName,
} from "../../../nn/optim/adamw.ts";
import { accumulatorName, sumName } from "../../../nn/passes/accumulate.ts";
import { trainingGraphs } from "../../../nn/training.ts";

const MODEL = { layers: 1, width: 16, heads: 2, context: 8, vocabulary: 32 };
const ROWS = 2;
const MICRO_BATCHES = 2;

/** The loss of each step. Everything is released. */
export async function trainTiny(engine: Engine, steps: number): Promise<number[]> {
  const parameters = gptParameters(MODEL);
  const names = new Set(parameters.map(({ name }) => name));
  const { joint } = trainingGraphs(gptGraph(MODEL, ROWS, MODEL.context, "loss"), (name) => names.has(name), {
    input: null,
    output: null,
    microBatches: MICRO_BATCHES,
    recompute: false,
  });
  const optimizer = adamwGraph(parameters, parameters.length, { ...DEFAULT_ADAMW, steps });

  const state = new Map<string, EngineTensor>();
  const data = new Map<string, EngineTensor>();
  for (const { name, shape } of parameters) {
    const own = [name, accumulatorName(name), firstMomentName(name), secondMomentName(name)];
    for (const key of own) state.set(key, engine.allocate("f32", shape, "device"));
    state.get(name)!.tensor.bytes.set(gptInitial(1, name, shape, MODEL.layers).bytes);
    for (const key of own) await state.get(key)!.write();
    state.set(sumName(name), state.get(accumulatorName(name))!);
    for (const key of [name, own[2]!, own[3]!]) state.set(updatedName(key), state.get(key)!);
  }
  const tie = (values: readonly ValueInfo[]) =>
    Object.fromEntries(
      values.map(({ name, dtype, shape }) => {
        const tensor = state.get(name) ?? data.get(name) ?? engine.allocate(dtype, shape);
        if (!state.has(name)) data.set(name, tensor);
        return [name, tensor];
      }),
    );
  const executables: Executable[] = [];
  const bind = async (graph: Parameters<Engine["compile"]>[0]): Promise<Binding> => {
    const executable = await engine.compile(graph);
    executables.push(executable);
    return executable.bind(tie(executable.inputs), tie(executable.outputs));
  };
  try {
    const [run, sums, update] = [
      await bind(joint!),
      await bind(squareSumsGraph(parameters)),
      await bind(optimizer),
    ];
    const view = (name: string) => data.get(name)!.tensor;
    const losses: number[] = [];
    for (let step = 0; step < steps; step++) {
      let loss = 0;
      for (let part = 0; part < MICRO_BATCHES; part++) {
        const [ids, targets] = [view("ids").i64(), view("targets").i64()];
        const token = (i: number) => BigInt((i * i + 5 * i + 3 * part + 7 * step) % MODEL.vocabulary);
        for (let i = 0; i < ids.length; i++) [ids[i], targets[i]] = [token(i), token(i + 1)];
        await run.run();
        loss += view("loss").f32()[0]! / MICRO_BATCHES;
      }
      losses.push(loss);
      await sums.run();
      view("step").i64()[0] = BigInt(step);
      await update.run();
      for (const { name } of parameters) {
        const accumulator = state.get(accumulatorName(name))!;
        accumulator.tensor.bytes.fill(0);
        await accumulator.write();
      }
    }
    return losses;
  } finally {
    for (const owned of [...executables, ...new Set([...state.values(), ...data.values()])]) owned.release();
  }
}
