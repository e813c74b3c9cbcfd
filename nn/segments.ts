/**
 * Segments: the smallest pieces a model can be cut into for a pipeline, found from the graph itself.
 *
 * A cut is possible after a node when exactly one activation is still alive there; that value is all that has to
 * travel, besides data inputs, which go to whoever reads them. Every segment multiplies by a matrix or looks
 * something up in one, so that it is worth a device: what does neither joins the lookup before it (positions, a
 * reshape) or else the piece after it (a lone normalisation). What training rewrites together is not cut apart,
 * since the parts would compute other bits. A stage is a range of segments.
 */

import { byteLength, elements } from "../protocols/tensor.ts";
import { extract } from "./onnx/extract.ts";
import { type Graph, GraphError, type Node, type ValueInfo, type ValueType } from "./onnx/graph.ts";
import { fusedOperand, inferShapes, intAttribute } from "./onnx/shapes.ts";
import { geluTriples } from "./passes/gelu-between-products.ts";

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
 * @throws GraphError for a parameter that no segment needs, or that two need.
 */
export function findSegments(graph: Graph, parameters: ReadonlySet<string>): Segment[] {
  const types = inferShapes(graph);
  const outputs: (string | null)[] = [];
  let nodes: Node[] = [];
  let afterLookup = false;
  const cuts = new Map(cutPoints(graph, parameters).map(({ node, value }) => [node, value]));
  for (const node of graph.nodes) {
    nodes.push(node);
    const value = cuts.get(node);
    if (value === undefined) continue;
    const reads = matrixReaders(nodes, parameters, types);
    if (reads.length > 0) {
      outputs.push(value);
      afterLookup = reads.every(({ op }) => op === "Gather");
    } else if (afterLookup) {
      outputs[outputs.length - 1] = value;
    } else {
      continue;
    }
    nodes = [];
  }
  if (matrixReaders(nodes, parameters, types).length === 0) outputs.pop();
  outputs.push(null);

  const owner = new Map<string, number>();
  const segments = outputs.map((output, index): Segment => {
    const input = outputs[index - 1] ?? null;
    const piece = between(graph, types, input, output);
    const own = piece.inputs.filter(({ name }) => parameters.has(name));
    for (const { name } of own) {
      const other = owner.get(name);
      if (other !== undefined) {
        throw new GraphError(
          `parameter ${name} is used by segments ${other} and ${index}, which would each train a copy of it`,
        );
      }
      owner.set(name, index);
    }
    return {
      index,
      input,
      output,
      parameters: own.map(({ name }) => name),
      parameterBytes: own.reduce((sum, { dtype, shape }) => sum + byteLength(dtype, shape), 0),
      flops: piece.nodes.reduce((sum, node) => sum + flops(node, types), 0),
      activationBytes: output === null ? 0 : bytesOf(types, output),
    };
  });
  for (const name of parameters) {
    if (!owner.has(name)) throw new GraphError(`graph ${graph.name}: no output depends on parameter ${name}`);
  }
  return segments;
}

/**
 * The forward graph of segments [from, to): from one cut to the next, with only the inputs it uses.
 * @throws GraphError when there is no such range.
 */
export function cutGraph(graph: Graph, segments: readonly Segment[], from: number, to: number): Graph {
  const [first, last] = [segments[from], segments[to - 1]];
  if (!first || !last || from >= to) {
    throw new GraphError(`segments [${from}, ${to}) of ${graph.name}, which has ${segments.length}`);
  }
  return between(graph, inferShapes(graph), first.input, last.output);
}

/** What computes one cut's value, or the graph's outputs, from another's, or the graph's inputs. */
function between(
  graph: Graph,
  types: ReadonlyMap<string, ValueType>,
  input: string | null,
  output: string | null,
): Graph {
  const incoming: ValueInfo[] = input === null ? [] : [{ name: input, ...types.get(input)! }];
  const outputs = output === null ? graph.outputs.map(({ name }) => name) : [output];
  return extract(graph, [...incoming, ...graph.inputs], outputs);
}

/** Nodes after which exactly one activation is alive, and that activation. */
function cutPoints(graph: Graph, parameters: ReadonlySet<string>): { node: Node; value: string }[] {
  const lastUse = new Map<string, number>();
  graph.nodes.forEach((node, i) => {
    for (const input of node.inputs) lastUse.set(input, i);
  });
  for (const { name } of graph.outputs) lastUse.set(name, graph.nodes.length);
  const together = new Set(geluTriples(graph).flatMap(({ gelu }) => [gelu.inputs[0]!, gelu.outputs[0]!]));

  // What is computed from parameters and constants alone is no activation: every stage computes its own.
  const activations = new Set(
    graph.inputs.filter(({ name }) => !parameters.has(name)).map(({ name }) => name),
  );
  const live = new Set<string>();
  const points: { node: Node; value: string }[] = [];
  graph.nodes.forEach((node, i) => {
    if (!node.inputs.some((input) => activations.has(input))) return;
    for (const output of node.outputs) {
      if (output === "") continue;
      activations.add(output);
      live.add(output);
    }
    for (const value of live) if ((lastUse.get(value) ?? -1) <= i) live.delete(value);
    const [only] = live;
    if (live.size !== 1 || together.has(only!) || lastUse.get(only!) === graph.nodes.length) return;
    points.push({ node, value: only! });
  });
  return points;
}

/** Reading a matrix through one of these is neither multiplying by it nor looking something up in it. */
const ELEMENTWISE = new Set(["Add", "Sub", "Mul", "Div", "Reshape", "Slice", "Transpose", "Identity"]);

function matrixReaders(
  nodes: readonly Node[],
  parameters: ReadonlySet<string>,
  types: ReadonlyMap<string, ValueType>,
): Node[] {
  const isMatrix = (name: string) => parameters.has(name) && types.get(name)!.shape.length >= 2;
  return nodes.filter(({ op, inputs }) => !ELEMENTWISE.has(op) && inputs.some(isMatrix));
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
