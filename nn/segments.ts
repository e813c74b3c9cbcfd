/**
 * Segments: the smallest pieces a model can be cut into for a pipeline, found from the graph itself.
 *
 * A cut is possible after a node when exactly one activation is still alive there; that value is all that has to
 * travel. Pieces without a matrix of their own (a lone normalisation, a reshape) join the piece after them, so
 * that every segment is worth a device. A stage is a range of segments.
 */

import { byteLength, elements } from "../protocols/tensor.ts";
import { extract } from "./onnx/extract.ts";
import { type Graph, GraphError, type Node, type ValueInfo, type ValueType } from "./onnx/graph.ts";
import { fusedOperand, inferShapes, intAttribute } from "./onnx/shapes.ts";

export interface Segment {
  readonly index: number;
  /** The activation that comes in; null for the first segment, which reads the model's data inputs. */
  readonly input: string | null;
  /** The activation that goes out; null for the last segment, which ends in the model's outputs. */
  readonly output: string | null;
  /** Parameters of this segment, in the model's order. */
  readonly parameters: readonly string[];
  readonly parameterBytes: number;
  /** Floating-point operations of one forward pass over one micro-batch (multiply and add count as two). */
  readonly flops: number;
  /** Bytes of the outgoing activation for one micro-batch; 0 for the last segment. */
  readonly activationBytes: number;
}

/**
 * Cuts `graph` into segments.
 * @param parameters names of the inputs that are parameters; all other inputs are data.
 */
export function findSegments(graph: Graph, parameters: ReadonlySet<string>): Segment[] {
  const types = inferShapes(graph);
  const pieces: { nodes: Node[]; output: string | null }[] = [];
  let nodes: Node[] = [];
  const cuts = new Map(cutPoints(graph, parameters).map(({ node, value }) => [node, value]));
  for (const node of graph.nodes) {
    nodes.push(node);
    const value = cuts.get(node);
    if (value !== undefined && holdsMatrix(nodes, parameters, types)) {
      pieces.push({ nodes, output: value });
      nodes = [];
    }
  }
  if (nodes.length > 0 && !holdsMatrix(nodes, parameters, types) && pieces.length > 0) {
    nodes = [...pieces.pop()!.nodes, ...nodes];
  }
  pieces.push({ nodes, output: null });

  const assigned = new Set<string>();
  return pieces.map((piece, index): Segment => {
    const used = new Set(piece.nodes.flatMap((node) => node.inputs));
    const own = graph.inputs.filter(({ name }) => parameters.has(name) && used.has(name));
    for (const { name } of own) {
      if (assigned.has(name))
        throw new GraphError(`parameter ${name} is used in two segments; it cannot be cut`);
      assigned.add(name);
    }
    return {
      index,
      input: index === 0 ? null : pieces[index - 1]!.output,
      output: piece.output,
      parameters: own.map(({ name }) => name),
      parameterBytes: own.reduce((sum, { dtype, shape }) => sum + byteLength(dtype, shape), 0),
      flops: piece.nodes.reduce((sum, node) => sum + flops(node, types), 0),
      activationBytes: piece.output === null ? 0 : bytesOf(types, piece.output),
    };
  });
}

/** The forward graph of segments [from, to): from one cut to the next, with only the inputs it uses. */
export function cutGraph(graph: Graph, segments: readonly Segment[], from: number, to: number): Graph {
  const [first, last] = [segments[from]!, segments[to - 1]!];
  const available: ValueInfo[] = [...graph.inputs];
  if (first.input !== null) {
    available.unshift({ name: first.input, ...inferShapes(graph).get(first.input)! });
  }
  const outputs = last.output === null ? graph.outputs.map(({ name }) => name) : [last.output];
  return extract(graph, available, outputs);
}

/** Nodes after which exactly one activation is alive, and that activation. */
function cutPoints(graph: Graph, parameters: ReadonlySet<string>): { node: Node; value: string }[] {
  const lastUse = new Map<string, number>();
  graph.nodes.forEach((node, i) => {
    for (const input of node.inputs) lastUse.set(input, i);
  });
  for (const { name } of graph.outputs) lastUse.set(name, graph.nodes.length);

  // What is computed from parameters and constants alone is no activation: every stage computes its own.
  const activations = new Set(
    graph.inputs.filter(({ name }) => !parameters.has(name)).map(({ name }) => name),
  );
  const dataInputs = new Set(activations);
  const live = new Set<string>();
  const points: { node: Node; value: string }[] = [];
  graph.nodes.forEach((node, i) => {
    if (!node.inputs.some((input) => activations.has(input))) return;
    for (const output of node.outputs) {
      activations.add(output);
      live.add(output);
    }
    for (const value of live) if ((lastUse.get(value) ?? -1) <= i) live.delete(value);
    const [only] = live;
    if (live.size === 1 && !dataInputs.has(only!) && lastUse.get(only!) !== graph.nodes.length) {
      points.push({ node, value: only! });
    }
  });
  return points;
}

function holdsMatrix(
  nodes: readonly Node[],
  parameters: ReadonlySet<string>,
  types: ReadonlyMap<string, ValueType>,
): boolean {
  return nodes.some((node) =>
    node.inputs.some((name) => parameters.has(name) && types.get(name)!.shape.length >= 2),
  );
}

function flops(node: Node, types: ReadonlyMap<string, ValueType>): number {
  if (!["Gemm", "MatMul", "FusedMatMul"].includes(node.op)) return 0;
  const a = types.get(node.inputs[0]!)!.shape;
  const flag = (name: string) => intAttribute(node, name, 0) === 1;
  const inner = fusedOperand(a, flag("transA"), flag("transBatchA")).at(-1)!;
  return 2 * elements(types.get(node.outputs[0]!)!.shape) * inner;
}

function bytesOf(types: ReadonlyMap<string, ValueType>, name: string): number {
  const { dtype, shape } = types.get(name)!;
  return byteLength(dtype, shape);
}
