/**
 * Constant folding: what follows from constants and from shapes alone is computed once, here, by the reference
 * engine's operators, and becomes an initializer. Since all sizes of inputs are numbers, that includes everything an
 * exporter computes from `Shape`, and so the shapes of all further values.
 *
 * One walk in topological order: a node's types follow from those before it, and shape inference needs the folded
 * constants (the target of a Reshape) as much as folding needs the shapes.
 */

import { elements, type Shape, Tensor } from "../../protocols/tensor.ts";
import { type NdArray, read, write } from "../engine/reference/ndarray.ts";
import { Call } from "../engine/reference/operator.ts";
import { operatorOf } from "../engine/reference/operators.ts";
import { DATA_TYPE } from "../onnx/datatype.ts";
import { type Graph, GraphError, type Node, type ValueInfo, type ValueType } from "../onnx/graph.ts";
import { describe, inferNode, intAttribute } from "../onnx/shapes.ts";

/** A graph whose outputs have names only. */
export type Untyped = Omit<Graph, "outputs">;

/** Constants of more elements than this are left for the engine to compute: 16 MiB of f32. */
const LARGEST = 2 ** 22;
/** The same for products, in multiplications. */
const MOST_WORK = 2 ** 26;
const PRODUCTS = new Set(["MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "FusedMatMul"]);
/** Each of their nodes gives something else each time. */
const RANDOM = new Set(["Dropout", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"]);

/**
 * Folds and infers the types of `outputs`. Nodes that make an output stay.
 * @throws GraphError for a value used before it is made or made twice, a node whose shape cannot be inferred.
 */
export function fold(graph: Untyped, outputs: readonly string[] = outputsOf(graph)): Graph {
  const types = new Map<string, ValueType>();
  const constants = new Map<string, Tensor>();
  const nodes: Node[] = [];
  const kept = new Set(outputs);
  const define = (name: string, type: ValueType) => {
    if (types.has(name)) throw new GraphError(`graph ${graph.name}: "${name}" is defined twice`);
    types.set(name, type);
  };
  for (const { name, dtype, shape } of graph.inputs) define(name, { dtype, shape });
  for (const [name, tensor] of graph.initializers) {
    define(name, tensor);
    constants.set(name, tensor);
  }
  for (const raw of graph.nodes) {
    const inputs = raw.inputs.map((name) => (name === "" ? undefined : types.get(name)));
    const missing = raw.inputs.find((name, i) => name !== "" && !inputs[i]);
    if (missing !== undefined)
      throw new GraphError(`${describe(raw)}: input "${missing}" is not defined before it`);
    const node = spelled(raw, inputs);
    const made = node.outputs.some((name) => kept.has(name)) ? undefined : fromTypes(node, inputs);
    if (made) {
      define(node.outputs[0]!, made);
      constants.set(node.outputs[0]!, made);
      continue;
    }
    const inferred = infer(node, inputs, constants);
    node.outputs.forEach((name, i) => {
      if (name !== "") define(name, inferred[i]!);
    });
    const values = node.outputs.some((name) => kept.has(name))
      ? undefined
      : evaluate(node, inferred, constants);
    node.outputs.forEach((name, i) => {
      if (values && name !== "") constants.set(name, values[i]!);
    });
    if (!values) nodes.push(node);
  }
  const used = new Set([...nodes.flatMap(({ inputs }) => inputs), ...outputs]);
  return {
    ...graph,
    outputs: outputs.map((name): ValueInfo => {
      const type = types.get(name);
      if (!type) throw new GraphError(`graph ${graph.name}: no node makes the output "${name}"`);
      return { name, dtype: type.dtype, shape: type.shape };
    }),
    initializers: new Map([...constants].filter(([name]) => used.has(name))),
    nodes,
  };
}

const outputsOf = (graph: Untyped & { readonly outputs?: readonly ValueInfo[] }) =>
  (graph.outputs ?? []).map(({ name }) => name);

/** Operators that other operators say as well, once the types of their inputs are known. */
function spelled(node: Node, inputs: readonly (ValueType | undefined)[]): Node {
  if (node.op !== "CastLike" || !inputs[0] || !inputs[1]) return node;
  return { ...node, op: "Cast", inputs: [node.inputs[0]!], attributes: { to: DATA_TYPE[inputs[1].dtype] } };
}

/** The value of a node that needs no values of its inputs. */
function fromTypes(node: Node, inputs: readonly (ValueType | undefined)[]): Tensor | undefined {
  if (node.domain !== "") return undefined;
  const shape = inputs[0]?.shape;
  switch (node.op) {
    case "Shape": {
      if (!shape) return undefined;
      const part = shape.slice(intAttribute(node, "start", 0), intAttribute(node, "end", shape.length));
      return Tensor.i64([part.length], part);
    }
    case "Size":
      return shape && Tensor.i64([], [elements(shape)]);
    case "Constant":
      return constantOf(node);
    default:
      return undefined;
  }
}

function constantOf(node: Node): Tensor {
  const { value, value_float, value_floats, value_int, value_ints } = node.attributes;
  if (value instanceof Tensor) return value;
  if (typeof value_int === "number") return exactIntegers([], [value_int]);
  if (Array.isArray(value_ints)) return exactIntegers([value_ints.length], value_ints);
  if (typeof value_float === "object" && "float" in value_float) return Tensor.f32([], [value_float.float]);
  if (typeof value_floats === "object" && "floats" in value_floats) {
    return Tensor.f32([value_floats.floats.length], value_floats.floats);
  }
  throw new GraphError(`${describe(node)}: a Constant of ${Object.keys(node.attributes)} is not supported`);
}

/** Types of a node's outputs; whatever is wrong with a foreign node is a GraphError. */
function infer(
  node: Node,
  inputs: readonly (ValueType | undefined)[],
  constants: ReadonlyMap<string, Tensor>,
): readonly ValueType[] {
  let types: readonly ValueType[];
  try {
    types = inferNode(node, inputs, (index) => constants.get(node.inputs[index] ?? ""));
  } catch (cause) {
    if (cause instanceof GraphError) throw cause;
    throw new GraphError(`${describe(node)}: its shape cannot be inferred`, { cause });
  }
  const isShape = (shape: Shape) => shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0);
  if (types.some((type) => !type || !isShape(type.shape)) || types.length < node.outputs.length) {
    throw new GraphError(`${describe(node)}: its shape cannot be inferred`);
  }
  return types;
}

/** The values of a node whose inputs are all constants, where the reference engine can compute them cheaply. */
function evaluate(
  node: Node,
  types: readonly ValueType[],
  constants: ReadonlyMap<string, Tensor>,
): Tensor[] | undefined {
  if (RANDOM.has(node.op) || node.inputs.length === 0) return undefined;
  const inputs = node.inputs.map((name) => (name === "" ? undefined : constants.get(name)));
  if (node.inputs.some((name, i) => name !== "" && !inputs[i])) return undefined;
  const size = Math.max(...types.map(({ shape }) => elements(shape)));
  if (size > LARGEST || inputs.some((tensor) => tensor && tensor.elements > LARGEST)) return undefined;
  if (PRODUCTS.has(node.op) && size * (inputs[0]?.elements ?? 1) > MOST_WORK) return undefined;
  try {
    const results = operatorOf(node)(
      new Call(
        node,
        inputs.map((tensor) => tensor && read(tensor)),
      ),
    );
    return node.outputs.map((_, i) => stored(results[i]!, types[i]!));
  } catch {
    // What the reference engine cannot compute stays for the engine that runs the graph.
    return undefined;
  }
}

/** The largest i64, which exporters write for "to the end"; as a double it is one more. */
const LARGEST_I64 = 2n ** 63n - 1n;

const exactIntegers = (shape: Shape, values: ArrayLike<number>): Tensor =>
  Tensor.i64(
    shape,
    BigInt64Array.from(Array.from(values), (value) => (value >= 2 ** 63 ? LARGEST_I64 : BigInt(value))),
  );

function stored(array: NdArray, { dtype, shape }: ValueType): Tensor {
  if (dtype === "i64") return exactIntegers(shape, array.data);
  const tensor = Tensor.zeros(array.dtype, array.shape);
  write(array, tensor.bytes);
  return new Tensor(dtype, shape, tensor.bytes);
}
