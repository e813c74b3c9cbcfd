/**
 * Dropout (Srivastava et al., 2014) as a pure function of where in the run it is drawn: every Dropout node that drops
 * becomes a mask computed in the graph from the stage's own counters (seed, step, micro-batch; `COUNTERS`) and the
 * name of its output. The same place in a run has the same mask on every engine and every cut of the model, forward,
 * recomputed or replayed, and nothing has to be kept for it.
 *
 * The generator hashes (row, column) in 32-bit integers, in operators that every engine has. Three rounds of
 * x ← (x + x / 2^16) · odd, which carry high bits down and low bits up, make two words a, b of each row from the
 * counters and a table of random words of the node; columns have two constant words c, d each. An element is kept when
 * (a + c)·(b + d) mod 2^32, a strongly universal hash of its column under a key of 64 bits per row (Thorup, 2015,
 * "High speed hashing for integers and strings"), lies below a threshold. Only that product and its comparison are done
 * for each element: half to two thirds of the time of RandomUniformLike, Less, Cast and two products in ONNX Runtime.
 *
 * Not cryptographic, and not PyTorch's masks.
 */

import { elements, type Shape, Tensor } from "../../protocols/tensor.ts";
import { dropRatio, passOn } from "../autodiff/rules/dropout.ts";
import { COUNTERS } from "../model.ts";
import { GraphBuilder } from "../onnx/builder.ts";
import { DATA_TYPE } from "../onnx/datatype.ts";
import type { Graph, Node } from "../onnx/graph.ts";

/** Columns of a mask, at most; a row takes a few operations of its own. */
const WIDEST = 1024;
/** Fewer columns than this are not worth rows. */
const NARROWEST = 64;

/** Odd multipliers of the rounds: two of Wellons' "lowbias32" and the golden ratio. */
const ROUNDS = [0x7feb352d, 0x846ca68b, 0x9e3779b1];

const i32 = (shape: Shape, values: Int32Array | readonly number[]): Tensor => {
  const data = Int32Array.from(values);
  return new Tensor("i32", shape, new Uint8Array(data.buffer));
};

/**
 * The graph with its Dropout nodes written out; it then has the inputs `COUNTERS`, i64 scalars. A graph without Dropout
 * is returned as it is. A Dropout that drops nothing (ratio 0, training_mode false or left out) passes its input on.
 * @throws GraphError for a ratio or training_mode that is not constant, or a ratio outside of [0, 1).
 */
export function writeDropout(graph: Graph): Graph {
  if (!graph.nodes.some(isDropout)) return graph;
  const b = new GraphBuilder(graph.name);
  const known = new Set(graph.inputs.map(({ name }) => name));
  for (const { name, dtype, shape } of graph.inputs) b.input(name, dtype, shape);
  for (const [name, tensor] of graph.initializers) b.constant(name, tensor);
  b.reserve(graph.nodes.flatMap(({ outputs }) => outputs));
  let key: string | undefined;
  for (const node of graph.nodes) {
    const ratio = isDropout(node) ? dropRatio(b, node) : undefined;
    if (ratio === undefined) b.append(node);
    else if (ratio === 0) passOn(b, node);
    else {
      for (const name of key ? [] : COUNTERS) if (!known.has(name)) b.input(name, "i64", []);
      key ??= keyOf(b);
      drop(b, node, ratio, key);
    }
  }
  for (const { name } of graph.outputs) b.output(name);
  return b.build();
}

const isDropout = ({ op, domain }: Node) => op === "Dropout" && domain === "";

/** Two words, [2, 1, 1], of seed, step and micro-batch: the lower 32 bits of each, and the seed's upper ones. */
function keyOf(b: GraphBuilder): string {
  const to = DATA_TYPE.i32;
  const [seed, step, microBatch] = COUNTERS;
  const above = b.constant("dropout.above", Tensor.i64([], [2 ** 32]));
  const counters = [seed, b.op("Div", [seed, above]), step, microBatch];
  const start = b.constant("dropout.start", i32([2, 1, 1], words(2, 0)));
  const sum = counters.reduce((total, counter, i) => {
    const odd = words(2, i + 1).map((word) => word | 1);
    const factors = b.constant(`dropout.factors.${i}`, i32([2, 1, 1], odd));
    return b.op("Add", [total, b.op("Mul", [b.op("Cast", [counter], { to }), factors])]);
  }, start);
  return mixed(b, sum);
}

function drop(b: GraphBuilder, node: Node, ratio: number, key: string): void {
  const x = node.inputs[0]!;
  const y = node.outputs[0] || b.fresh("Dropout");
  const { dtype, shape } = b.type(x);
  const count = elements(shape);
  const columns = columnsOf(count);
  const rows = count / columns;
  const name = node.outputs.find((output) => output !== "")!;

  const table = b.constant(`dropout.rows.${name}`, i32([2, rows, 1], words(2 * rows, fnv1a(name))));
  const [first, second] = b.node("Split", [mixed(b, b.op("Add", [table, key])), b.ints([1, 1])], {
    attributes: { axis: 0 },
    outputs: [b.fresh("Split"), b.fresh("Split")],
  });
  const ofColumns = (lane: number) =>
    b.constant(`dropout.columns.${lane}.${columns}`, i32([1, 1, columns], words(columns, 8 + lane)));
  const product = b.op("Mul", [b.op("Add", [first!, ofColumns(0)]), b.op("Add", [second!, ofColumns(1)])]);
  // The words are uniform in [−2^31, 2^31).
  const below = Math.min(Math.round((1 - ratio) * 2 ** 32), 2 ** 32 - 1) - 2 ** 31;
  const kept = b.op("Less", [product, b.constant(`dropout.below.${below}`, i32([], [below]))]);
  const mask = b.op("Reshape", [kept, b.ints(shape)], {}, node.outputs[1] || undefined);
  const factor = b.op("Mul", [
    b.op("Cast", [mask], { to: DATA_TYPE[dtype] }),
    b.scalarLike(1 / (1 - ratio), x),
  ]);
  b.op("Mul", [x, factor], {}, y);
}

/** The rounds of the hash. Division is towards zero; x + x / 2^16 is one-to-one all the same but for its overflow. */
function mixed(b: GraphBuilder, value: string): string {
  const high = b.constant("dropout.high", i32([], [2 ** 16]));
  return ROUNDS.reduce((x, odd, i) => {
    const factor = b.constant(`dropout.round.${i}`, i32([], [odd | 0]));
    return b.op("Mul", [b.op("Add", [x, b.op("Div", [x, high])]), factor]);
  }, value);
}

/** The widest rows that the elements divide into; one row where that is only into narrow ones. */
function columnsOf(count: number): number {
  if (count <= WIDEST) return count;
  for (let columns = WIDEST; columns >= NARROWEST; columns--) if (count % columns === 0) return columns;
  return count;
}

/** `count` random words of stream `stream`: a counter through the finaliser of MurmurHash3, twice. */
function words(count: number, stream: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) =>
    finalised(finalised((i + 1) ^ finalised(stream)) ^ stream),
  );
}

function finalised(word: number): number {
  let h = word;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) | 0;
}

/** FNV-1a of the name's bytes, 32 bits. */
function fnv1a(name: string): number {
  return new TextEncoder()
    .encode(name)
    .reduce((hash, byte) => Math.imul(hash ^ byte, 0x01000193), 0x811c9dc5 | 0);
}
