/**
 * Segments: the smallest pieces a model can be cut into for a pipeline, found from the graph itself.
 *
 * A cut is possible after a node when exactly one activation is still alive there; that value is all that has to
 * travel, besides data inputs, which go to whoever reads them. No activations are what is computed from held values
 * and constants alone, and what is computed from data without a weight (a mask, the angles of rotary positions): every
 * stage computes its own. Every segment multiplies by a matrix or looks something up in one, so that it is worth a
 * device: what does neither joins the lookup before it (positions, a reshape) or else the piece after it (a lone
 * normalisation), and of several places between two products the cut is at the one with the least to send.
 *
 * What must stay together does: nodes that training rewrites together, since the parts would compute other bits; all
 * uses of a parameter or of a running statistic, of which there would otherwise be two. Parameters that are tied may be
 * apart (their stages exchange gradients), and of a frozen value every segment that reads it has a copy. A stage is a
 * range of segments.
 */

import { byteLength } from "../protocols/tensor.ts";
import { rolesOf, type Trainable } from "./model.ts";
import { extract } from "./onnx/extract.ts";
import { type Graph, GraphError, type ValueInfo, type ValueType } from "./onnx/graph.ts";
import { inferShapes } from "./onnx/shapes.ts";
import { nodeFlops } from "./segments/flops.ts";
import { classify, type Flow } from "./segments/flow.ts";
import { cutPoints, readsMatrix } from "./segments/points.ts";

export interface Segment {
  readonly index: number;
  /** The activation that comes in; null for the first segment, which reads the model's data inputs. */
  readonly input: string | null;
  /** Whether `input` depends on a parameter: only then is its gradient wanted. False for the first segment. */
  readonly inputTrained: boolean;
  /** The activation that goes out; null for the last segment, which ends in the model's loss. */
  readonly output: string | null;
  /** Parameters of this segment, in the model's order. */
  readonly parameters: readonly string[];
  /** Frozen values that it reads, in the model's order; others may read them too. */
  readonly frozen: readonly string[];
  /** Its running statistics: from each input to the output that replaces it. */
  readonly statistics: Readonly<Record<string, string>>;
  readonly parameterBytes: number;
  /** Bytes of frozen values and statistics. */
  readonly frozenBytes: number;
  /** Floating-point operations of one forward pass over one micro-batch (multiply and add count as two). */
  readonly flops: number;
  /** Bytes of the outgoing activation for one micro-batch; 0 for the last segment. */
  readonly activationBytes: number;
}

/**
 * Cuts a model into segments.
 * @throws GraphError for a parameter that no output depends on, and for a model without any.
 */
export function findSegments(model: Trainable): Segment[];
/** The same for a graph of parameters and data only. */
export function findSegments(graph: Graph, parameters: ReadonlySet<string>): Segment[];
export function findSegments(given: Trainable | Graph, parameters?: ReadonlySet<string>): Segment[] {
  const model: Trainable = "graph" in given ? given : { graph: given, ...rolesOf(parameters!) };
  const { graph } = model;
  const types = typesOf(graph);
  const flow = classify(model, types);
  const outputs: string[] = [];
  const matrices = readsMatrix(model, types);
  const cuts = new Map(cutPoints(model, flow).map(({ node, value }) => [node, value]));
  let reads: string[] = [];
  let afterLookup = false;
  for (const node of flow.main) {
    if (matrices(node)) reads.push(node.op);
    const value = cuts.get(node);
    if (value === undefined) continue;
    const size = (name: string) => bytesOf(types, name);
    if (reads.length > 0) {
      outputs.push(value);
      afterLookup = reads.every((op) => op === "Gather");
    } else if (outputs.length > 0 && (afterLookup || size(value) < size(outputs.at(-1)!))) {
      // Behind a pooling there is less to send.
      outputs[outputs.length - 1] = value;
    }
    reads = [];
  }
  if (reads.length === 0) outputs.pop();
  return describeSegments(model, types, flow, [...outputs, null]);
}

function describeSegments(
  model: Trainable,
  types: ReadonlyMap<string, ValueType>,
  flow: Flow,
  outputs: readonly (string | null)[],
): Segment[] {
  const { graph } = model;
  const at = statisticsBySegment(model, flow, outputs);
  const used = new Set<string>();
  const segments = outputs.map((output, index): Segment => {
    const input = outputs[index - 1] ?? null;
    const statistics = at[index]!;
    const piece = between(graph, input, output, Object.values(statistics));
    const inputs = new Map(piece.inputs.map((info) => [info.name, info]));
    const own = (names: readonly string[]) => names.filter((name) => inputs.has(name));
    const bytes = (names: readonly string[]) =>
      names.reduce((sum, name) => sum + byteLength(inputs.get(name)!.dtype, inputs.get(name)!.shape), 0);
    const parameters = own(model.parameters);
    const frozen = own(model.frozen);
    for (const name of parameters) used.add(name);
    return {
      index,
      input,
      inputTrained: input !== null && flow.trained.has(input),
      output,
      parameters,
      frozen,
      statistics,
      parameterBytes: bytes(parameters),
      frozenBytes: bytes([...frozen, ...own(Object.keys(statistics))]),
      flops: piece.nodes.reduce((sum, node) => sum + nodeFlops(node, types), 0),
      activationBytes: output === null ? 0 : bytesOf(types, output),
    };
  });
  for (const name of model.parameters) {
    if (!used.has(name)) throw new GraphError(`graph ${graph.name}: no output depends on parameter ${name}`);
  }
  if (used.size === 0) throw new GraphError(`graph ${graph.name} has no parameter to train`);
  return segments;
}

/** Which statistics each segment replaces: a statistic is where the node that computes its new value is. */
function statisticsBySegment(
  { statistics }: Trainable,
  { segmentOf }: Flow,
  outputs: readonly (string | null)[],
): Record<string, string>[] {
  const found = outputs.map((): Record<string, string> => ({}));
  for (const [input, output] of Object.entries(statistics))
    found[segmentOf(output, outputs)]![input] = output;
  return found;
}

/**
 * The forward graph of segments [from, to): from one cut to the next, with only the inputs it uses. Its outputs are
 * that of the last segment, or the loss, and the new values of its running statistics.
 * @throws GraphError when there is no such range.
 */
export function cutGraph(graph: Graph, segments: readonly Segment[], from: number, to: number): Graph {
  const [first, last] = [segments[from], segments[to - 1]];
  if (!first || !last || from >= to) {
    throw new GraphError(`segments [${from}, ${to}) of ${graph.name}, which has ${segments.length}`);
  }
  const replaced = segments.slice(from, to).flatMap(({ statistics }) => Object.values(statistics));
  return between(graph, first.input, last.output, replaced);
}

/** What computes one cut's value, or the loss, from another's, or the graph's inputs; and the statistics on the way. */
function between(
  graph: Graph,
  input: string | null,
  output: string | null,
  statistics: readonly string[],
): Graph {
  const incoming: ValueInfo[] = input === null ? [] : [{ name: input, ...typesOf(graph).get(input)! }];
  const result = output ?? graph.outputs[0]!.name;
  return extract(graph, [...incoming, ...graph.inputs], [result, ...statistics]);
}

/** Graphs are immutable, and cutting one into its segments asks for its types once per segment. */
const inferred = new WeakMap<Graph, ReadonlyMap<string, ValueType>>();

function typesOf(graph: Graph): ReadonlyMap<string, ValueType> {
  let types = inferred.get(graph);
  if (!types) {
    types = inferShapes(graph);
    inferred.set(graph, types);
  }
  return types;
}

function bytesOf(types: ReadonlyMap<string, ValueType>, name: string): number {
  const { dtype, shape } = types.get(name)!;
  return byteLength(dtype, shape);
}
