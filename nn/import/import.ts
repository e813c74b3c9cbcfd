/**
 * Any `.onnx` file as a model that trains.
 *
 * A file holds a function with its weights inside. Of that a `Model` is made: operators as the IR has them, weights
 * as inputs, sizes as numbers, everything that follows from those folded away, decomposed operators put together
 * again, and a loss attached. The file's own outputs remain for the way back (`exportModel`).
 */

import { Tensor } from "../../protocols/tensor.ts";
import type { Model } from "../model.ts";
import { type Graph, GraphError, type Node, type ValueInfo } from "../onnx/graph.ts";
import { type LoadedFile, loadFile, type ReadOptions } from "../onnx/proto.ts";
import { typeText } from "../onnx/shapes.ts";
import { removeDead } from "../passes/dead.ts";
import { fold, type Untyped } from "../passes/fold.ts";
import { simplify } from "../passes/simplify.ts";
import { withoutCopies } from "./copies.ts";
import { attachLoss, isLossName, LOSSES } from "./loss.ts";
import { canonical, runningStatistics, trainBatchNorm } from "./modes.ts";
import { type RoleOptions, recognise } from "./roles.ts";
import { withTiedHead } from "./tied-head.ts";
import { isTied, untie } from "./untie.ts";
import { inSingles } from "./widen.ts";

export interface ImportOptions extends ReadOptions, RoleOptions {
  /**
   * A loss to attach ("cross-entropy", "mse", "l1", "bce", "bce-logits"; see `attachLoss`), or an output of the file
   * that is the loss itself. Left out, it is the only output that is an f32 scalar.
   */
  readonly loss?: string;
  /** The output that the loss is made of; default the first. */
  readonly prediction?: string;
  /**
   * Batch normalisation by the batch, dropout that drops, as in training, even when the file was written for
   * inference; default true. Otherwise both stay as in inference, running statistics being constants.
   */
  readonly training?: boolean;
}

export interface ImportedModel extends Model {
  /** The file's function in inference: its data inputs and what the model holds in, its own outputs out. */
  readonly inference: Graph;
  /** metadata_props of the file. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * @throws GraphError for a file that is broken, or uses what cannot be trained: the message names the node, the value
 * or the file, and what would help.
 */
export async function importModel(bytes: Uint8Array, options: ImportOptions = {}): Promise<ImportedModel> {
  try {
    const file = await loadFile(bytes, options);
    return { ...modelOf(file, options), metadata: file.metadata };
  } catch (cause) {
    throw foreignError(cause);
  }
}

/**
 * What goes wrong with a foreign file is a GraphError of one line: names in it may hold anything, and a rule may meet a
 * node that it was not made for.
 */
function foreignError(cause: unknown): GraphError {
  const message = cause instanceof Error ? cause.message : String(cause);
  const line = message.replace(CONTROLS, (character) => JSON.stringify(character).slice(1, -1));
  if (!(cause instanceof GraphError))
    return new GraphError(`the file cannot be imported: ${line}`, { cause });
  return line === message ? cause : new GraphError(line, { cause });
}

const CONTROLS = /\p{Cc}/gu;

/** Who writes files without saying that running variances are of the sample. */
const PYTORCH = "pytorch";

function modelOf(
  { graph: read, outputs, producer }: LoadedFile,
  options: ImportOptions,
): Omit<ImportedModel, "metadata"> {
  const training = options.training ?? true;
  const file = withTiedHead(withoutCopies(canonical(inSingles(withoutConstantNodes(read)), training)));
  const values = file.initializers;
  const { parameters, frozen } = recognise(file, options);
  const running = training ? runningStatistics(file) : [];
  const inference = simplify(fold(withInputs(file, [...parameters, ...frozen, ...running]), outputs));

  const prediction = options.prediction ?? outputs[0];
  const lossName = options.loss ?? scalarOutput(inference);
  const picked = pick(inference, prediction, lossName);
  const attached = isLossName(lossName)
    ? attachLoss(picked, prediction!, lossName)
    : { graph: picked, loss: lossName };
  const trained = trainBatchNorm(attached.graph, producer === PYTORCH);
  const used = removeUnusedInputs(removeDead(trained.graph));

  const ties: Record<string, string> = {};
  let graph = used;
  for (const name of parameters.filter((parameter) => isTied(used, parameter))) {
    const untied = untie(graph, name);
    graph = untied.graph;
    Object.assign(ties, untied.ties);
  }
  const has = new Set(graph.inputs.map(({ name }) => name));
  const trainable = graph.inputs
    .map(({ name }) => name)
    .filter((name) => parameters.includes(ties[name] ?? name));
  if (trainable.length === 0) {
    throw new GraphError(
      `graph ${read.name} has no parameters on the way to its loss; name them by options.parameters`,
    );
  }
  return {
    name: read.name,
    graph,
    inference,
    parameters: trainable,
    frozen: frozen.filter((name) => has.has(name)),
    statistics: trained.statistics,
    ties,
    prediction: isLossName(lossName) ? prediction! : null,
    initial: (name) => {
      const tensor = values.get(ties[name] ?? name);
      if (!tensor || !has.has(name))
        throw new GraphError(`model ${read.name} holds no value named "${name}"`);
      return tensor;
    },
  };
}

/** Tensors that nodes hold become initializers: a file may keep its weights that way. */
function withoutConstantNodes(graph: Untyped): Untyped {
  const initializers = new Map(graph.initializers);
  const nodes = graph.nodes.filter(({ op, domain, attributes, outputs }: Node) => {
    if (op !== "Constant" || domain !== "" || !(attributes.value instanceof Tensor)) return true;
    initializers.set(outputs[0]!, attributes.value);
    return false;
  });
  return { ...graph, initializers, nodes };
}

/** Initializers as inputs, after those that are. */
function withInputs(graph: Untyped, names: readonly string[]): Untyped {
  const held = new Set(names);
  const inputs = [...graph.initializers]
    .filter(([name]) => held.has(name))
    .map(([name, { dtype, shape }]): ValueInfo => ({ name, dtype, shape }));
  const initializers = new Map([...graph.initializers].filter(([name]) => !held.has(name)));
  return { ...graph, inputs: [...graph.inputs, ...inputs], initializers };
}

/** The output that is a loss when none was named. */
function scalarOutput(graph: Graph): string {
  const scalars = graph.outputs.filter(({ dtype, shape }) => dtype === "f32" && shape.length === 0);
  if (scalars.length === 1) return scalars[0]!.name;
  throw new GraphError(
    `graph ${graph.name} has ${scalars.length} outputs that could be a loss; name one, or attach ${LOSSES.join(", ")}`,
  );
}

/** The graph with the one output that the loss is, or is made of. */
function pick(graph: Graph, prediction: string | undefined, loss: string): Graph {
  const wanted = isLossName(loss) ? prediction : loss;
  const output = graph.outputs.find(({ name }) => name === wanted);
  const outputs = graph.outputs.map(({ name }) => name).join(", ");
  if (!output) {
    throw new GraphError(
      `graph ${graph.name} has no output "${wanted}": there are ${outputs || "none"}, and the losses ${LOSSES.join(", ")}`,
    );
  }
  if (!isLossName(loss) && (output.dtype !== "f32" || output.shape.length > 0)) {
    throw new GraphError(
      `output "${loss}" is ${typeText(output)}: a loss is an f32 scalar; attach ${LOSSES.join(", ")}`,
    );
  }
  return { ...graph, outputs: [output] };
}

function removeUnusedInputs(graph: Graph): Graph {
  const used = new Set([
    ...graph.nodes.flatMap(({ inputs }) => inputs),
    ...graph.outputs.map(({ name }) => name),
  ]);
  return { ...graph, inputs: graph.inputs.filter(({ name }) => used.has(name)) };
}
