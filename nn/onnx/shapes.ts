/**
 * Shape and type inference: one rule per operator, in a table. Shapes are static, so a rule is arithmetic on
 * numbers. Rules follow the operator definitions of the ONNX specification (opset 20) and, for `FusedMatMul` and
 * the like, ONNX Runtime's contrib operator documentation.
 */

import { elements, type Shape, Tensor } from "../../protocols/tensor.ts";
import { dtypeOf } from "./datatype.ts";
import { type Graph, GraphError, type Node, type ValueType } from "./graph.ts";

/** What a rule sees: the node, the types of its inputs, and those inputs that are constants. */
interface Site {
  readonly node: Node;
  readonly input: (index: number) => ValueType;
  readonly has: (index: number) => boolean;
  readonly constant: (index: number) => Tensor | undefined;
}

type Rule = (site: Site) => readonly ValueType[];

/** Types of all values of a graph, by name. */
export function inferShapes(graph: Graph): Map<string, ValueType> {
  const types = new Map<string, ValueType>();
  for (const { name, dtype, shape } of graph.inputs) types.set(name, { dtype, shape });
  for (const [name, { dtype, shape }] of graph.initializers) types.set(name, { dtype, shape });
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((name) => (name === "" ? undefined : types.get(name)));
    const missing = node.inputs.find((name, index) => name !== "" && !inputs[index]);
    if (missing) throw new GraphError(`${describe(node)}: input "${missing}" is not defined before it`);
    const outputs = inferNode(node, inputs, (index) => graph.initializers.get(node.inputs[index] ?? ""));
    node.outputs.forEach((name, index) => {
      if (name !== "") types.set(name, outputs[index]!);
    });
  }
  return types;
}

/**
 * Types of the outputs of one node.
 * @throws GraphError for an operator without a rule, or inputs that do not fit, naming node and shapes.
 */
export function inferNode(
  node: Node,
  inputs: readonly (ValueType | undefined)[],
  constant: (index: number) => Tensor | undefined,
): readonly ValueType[] {
  const rule = RULES[node.op];
  if (!rule) throw new GraphError(`${describe(node)}: no shape rule for operator ${node.op}`);
  const outputs = rule({
    node,
    input: (index) => {
      const type = inputs[index];
      if (!type) throw new GraphError(`${describe(node)}: input ${index} is missing`);
      return type;
    },
    has: (index) => inputs[index] !== undefined,
    constant,
  });
  if (node.outputs.length > outputs.length) {
    throw new GraphError(`${describe(node)}: ${node.op} has ${outputs.length} outputs here`);
  }
  return outputs;
}

/** A type in words: f32[2,3]. */
export const typeText = ({ dtype, shape }: ValueType): string => `${dtype}[${shape}]`;

export function describe(node: Node): string {
  return `${node.op} (${node.inputs.join(", ")}) -> (${node.outputs.join(", ")})`;
}

/** Shape that two shapes broadcast to, as in numpy. */
export function broadcast(a: Shape, b: Shape, where: string): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    if (x !== y && x !== 1 && y !== 1) throw new GraphError(`${where}: [${a}] and [${b}] do not broadcast`);
    return x === 1 ? y : x;
  });
}

/** An axis counted from the end made one counted from the front. */
export function normalAxis(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** Integers of a constant i64 tensor. */
export function integers(tensor: Tensor): number[] {
  return Array.from(tensor.i64(), Number);
}

export function intAttribute(node: Node, name: string, fallback: number): number {
  const value = node.attributes[name];
  return typeof value === "number" ? value : fallback;
}

export function intsAttribute(node: Node, name: string): readonly number[] | undefined {
  const value = node.attributes[name];
  return Array.isArray(value) ? value : undefined;
}

export function floatAttribute(node: Node, name: string, fallback: number): number {
  const value = node.attributes[name];
  return typeof value === "object" && "float" in value ? value.float : fallback;
}

const same: Rule = ({ input }) => [input(0)];

const elementwise: Rule = ({ node, input }) => {
  let { dtype, shape } = input(0);
  for (let i = 1; i < node.inputs.length; i++) {
    const other = input(i);
    if (other.dtype !== dtype)
      throw new GraphError(`${describe(node)}: ${dtype} and ${other.dtype} do not mix`);
    shape = broadcast(shape, other.shape, describe(node));
  }
  return [{ dtype, shape }];
};

const comparison: Rule = (site) => [{ dtype: "bool", shape: elementwise(site)[0]!.shape }];

const reduction: Rule = ({ node, input, has, constant }) => {
  const { dtype, shape } = input(0);
  const axes = reducedAxes(node, shape, has(1) ? constantInts(node, constant, 1) : undefined);
  const keep = intAttribute(node, "keepdims", 1) === 1;
  const kept = shape.map((dim, i) => (axes.includes(i) ? 1 : dim));
  return [{ dtype, shape: keep ? kept : kept.filter((_, i) => !axes.includes(i)) }];
};

/** Axes a reduction sums over: its axes input or attribute; without any, all, or none where the node says so. */
export function reducedAxes(node: Node, shape: Shape, given?: readonly number[]): number[] {
  const axes = given ?? intsAttribute(node, "axes") ?? [];
  if (axes.length > 0) return axes.map((axis) => normalAxis(axis, shape.length));
  return intAttribute(node, "noop_with_empty_axes", 0) === 1 ? [] : shape.map((_, i) => i);
}

function constantInts(node: Node, constant: Site["constant"], index: number): number[] {
  const tensor = constant(index);
  if (!tensor) throw new GraphError(`${describe(node)}: input ${index} must be a constant`);
  return integers(tensor);
}

function constantNumber(node: Node, constant: Site["constant"], index: number): number {
  const tensor = constant(index);
  return tensor?.dtype === "f32" ? tensor.f32()[0]! : constantInts(node, constant, index)[0]!;
}

/** Batched matrix product of [..., m, k] and [..., k, n]. */
function product(node: Node, a: Shape, b: Shape): Shape {
  if (a.length < 2 || b.length < 2) {
    throw new GraphError(`${describe(node)}: [${a}] and [${b}] are not both matrices`);
  }
  const [m, k] = a.slice(-2) as [number, number];
  const [k2, n] = b.slice(-2) as [number, number];
  if (k !== k2) throw new GraphError(`${describe(node)}: inner sizes of [${a}] and [${b}] differ`);
  return [...broadcast(a.slice(0, -2), b.slice(0, -2), describe(node)), m, n];
}

/** Operand of FusedMatMul: transBatch moves the first axis behind the batch axes, trans swaps the last two. */
export function fusedOperand(shape: Shape, trans: boolean, transBatch: boolean): Shape {
  const s = transBatch ? [...shape.slice(1, -1), shape[0]!, shape.at(-1)!] : [...shape];
  return trans ? [...s.slice(0, -2), s.at(-1)!, s.at(-2)!] : s;
}

const RULES: Readonly<Record<string, Rule>> = {
  Identity: same,
  Neg: same,
  Sqrt: same,
  Exp: same,
  Log: same,
  Erf: same,
  Tanh: same,
  Sigmoid: same,
  Relu: same,
  Abs: same,
  Cos: same,
  Sin: same,
  Reciprocal: same,
  Gelu: same,
  ErfGate: same,
  Softmax: same,
  LogSoftmax: same,
  ScatterElements: same,
  ScatterND: same,
  Trilu: same,
  Add: elementwise,
  Sub: elementwise,
  Mul: elementwise,
  Div: elementwise,
  Pow: elementwise,
  Min: elementwise,
  Max: elementwise,
  Sum: elementwise,
  Equal: comparison,
  Less: comparison,
  LessOrEqual: comparison,
  Greater: comparison,
  GreaterOrEqual: comparison,
  Where: ({ node, input }) => {
    const shape = broadcast(input(1).shape, input(2).shape, describe(node));
    return [{ dtype: input(1).dtype, shape: broadcast(input(0).shape, shape, describe(node)) }];
  },
  Cast: ({ node, input }) => {
    const dtype = dtypeOf(intAttribute(node, "to", 0));
    if (!dtype) throw new GraphError(`${describe(node)}: cannot cast to type ${node.attributes.to}`);
    return [{ dtype, shape: input(0).shape }];
  },
  ReduceSum: reduction,
  ReduceMean: reduction,
  ReduceMax: reduction,
  ReduceSumSquare: reduction,
  Reshape: ({ node, input, constant }) => {
    const { dtype, shape } = input(0);
    const keepZero = intAttribute(node, "allowzero", 0) === 1;
    const wanted = constantInts(node, constant, 1).map((dim, i) =>
      dim === 0 && !keepZero ? shape[i]! : dim,
    );
    const known = wanted.filter((dim) => dim !== -1).reduce((a, b) => a * b, 1);
    const result = wanted.map((dim) => (dim === -1 ? elements(shape) / known : dim));
    if (elements(result) !== elements(shape)) {
      throw new GraphError(`${describe(node)}: [${shape}] does not reshape to [${wanted}]`);
    }
    return [{ dtype, shape: result }];
  },
  Transpose: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const perm = intsAttribute(node, "perm") ?? shape.map((_, i) => shape.length - 1 - i);
    if (shape.some((_, axis) => !perm.includes(axis)) || perm.length !== shape.length) {
      throw new GraphError(`${describe(node)}: [${perm}] is no permutation of the axes of [${shape}]`);
    }
    return [{ dtype, shape: perm.map((axis) => shape[axis]!) }];
  },
  Unsqueeze: ({ node, input, constant }) => {
    const { dtype, shape } = input(0);
    const given = constantInts(node, constant, 1);
    const rank = shape.length + given.length;
    const axes = given.map((axis) => normalAxis(axis, rank));
    const rest = [...shape];
    return [{ dtype, shape: Array.from({ length: rank }, (_, i) => (axes.includes(i) ? 1 : rest.shift()!)) }];
  },
  Squeeze: ({ node, input, has, constant }) => {
    const { dtype, shape } = input(0);
    const axes = has(1)
      ? constantInts(node, constant, 1).map((axis) => normalAxis(axis, shape.length))
      : undefined;
    return [{ dtype, shape: shape.filter((dim, i) => (axes ? !axes.includes(i) : dim !== 1)) }];
  },
  Expand: ({ node, input, constant }) => {
    const { dtype, shape } = input(0);
    return [{ dtype, shape: broadcast(shape, constantInts(node, constant, 1), describe(node)) }];
  },
  Concat: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const axis = normalAxis(intAttribute(node, "axis", 0), shape.length);
    const others = (part: Shape) => part.filter((_, i) => i !== axis).join();
    const total = node.inputs.reduce((sum, _, i) => {
      const part = input(i).shape;
      if (part.length !== shape.length || others(part) !== others(shape)) {
        throw new GraphError(`${describe(node)}: [${shape}] and [${part}] differ off axis ${axis}`);
      }
      return sum + part[axis]!;
    }, 0);
    return [{ dtype, shape: shape.map((dim, i) => (i === axis ? total : dim)) }];
  },
  Split: ({ node, input, has, constant }) => {
    const { dtype, shape } = input(0);
    const axis = normalAxis(intAttribute(node, "axis", 0), shape.length);
    const size = shape[axis]!;
    // Without sizes the parts are equal, but for the last, which may be smaller.
    const chunk = Math.ceil(size / node.outputs.length);
    const parts = has(1)
      ? constantInts(node, constant, 1)
      : node.outputs.map((_, i) => Math.min(chunk, size - i * chunk));
    if (parts.reduce((sum, part) => sum + part, 0) !== size) {
      throw new GraphError(`${describe(node)}: parts [${parts}] do not make up axis ${axis} of [${shape}]`);
    }
    return parts.map((part) => ({ dtype, shape: shape.map((dim, i) => (i === axis ? part : dim)) }));
  },
  Slice: ({ node, input, has, constant }) => {
    const { dtype, shape } = input(0);
    const [starts, ends] = [constantInts(node, constant, 1), constantInts(node, constant, 2)];
    const axes = has(3) ? constantInts(node, constant, 3) : starts.map((_, i) => i);
    const steps = has(4) ? constantInts(node, constant, 4) : starts.map(() => 1);
    const result = [...shape];
    axes.forEach((raw, i) => {
      const axis = normalAxis(raw, shape.length);
      const [size, step] = [shape[axis]!, steps[i]!];
      // A backward slice may end before element 0, a forward one may start after the last.
      const [low, high] = step > 0 ? [0, size] : [-1, size - 1];
      const clamp = (at: number) => Math.min(Math.max(at < 0 ? at + size : at, low), high);
      result[axis] = Math.max(0, Math.ceil((clamp(ends[i]!) - clamp(starts[i]!)) / step));
    });
    return [{ dtype, shape: result }];
  },
  Gather: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const axis = normalAxis(intAttribute(node, "axis", 0), shape.length);
    return [{ dtype, shape: [...shape.slice(0, axis), ...input(1).shape, ...shape.slice(axis + 1)] }];
  },
  GatherElements: ({ input }) => [{ dtype: input(0).dtype, shape: input(1).shape }],
  MatMul: ({ node, input }) => [
    { dtype: input(0).dtype, shape: product(node, input(0).shape, input(1).shape) },
  ],
  FusedMatMul: ({ node, input }) => {
    const flag = (name: string) => intAttribute(node, name, 0) === 1;
    const a = fusedOperand(input(0).shape, flag("transA"), flag("transBatchA"));
    const b = fusedOperand(input(1).shape, flag("transB"), flag("transBatchB"));
    return [{ dtype: input(0).dtype, shape: product(node, a, b) }];
  },
  Gemm: ({ node, input, has }) => {
    const a = fusedOperand(input(0).shape, intAttribute(node, "transA", 0) === 1, false);
    const b = fusedOperand(input(1).shape, intAttribute(node, "transB", 0) === 1, false);
    const shape = product(node, a, b);
    if (has(2) && broadcast(shape, input(2).shape, describe(node)).join() !== shape.join()) {
      throw new GraphError(`${describe(node)}: C [${input(2).shape}] is larger than the product [${shape}]`);
    }
    return [{ dtype: input(0).dtype, shape }];
  },
  LayerNormalization: ({ node, input }) => {
    const { dtype, shape } = input(0);
    const axis = normalAxis(intAttribute(node, "axis", -1), shape.length);
    const statistics = { dtype: "f32" as const, shape: shape.map((dim, i) => (i < axis ? dim : 1)) };
    return [{ dtype, shape }, statistics, statistics];
  },
  SoftmaxCrossEntropyLoss: ({ node, input }) => {
    const { dtype, shape } = input(0);
    return [
      { dtype, shape: node.attributes.reduction === "none" ? input(1).shape : [] },
      { dtype, shape },
    ];
  },
  Constant: ({ node }) => {
    const { value } = node.attributes;
    if (value instanceof Tensor) return [value];
    throw new GraphError(`${describe(node)}: a Constant is known with the attribute value, a tensor, only`);
  },
  Range: ({ node, input, constant }) => {
    const [start, limit, delta] = [0, 1, 2].map((index) => constantNumber(node, constant, index));
    return [{ dtype: input(0).dtype, shape: [Math.max(0, Math.ceil((limit! - start!) / delta!))] }];
  },
  Shape: ({ node, input }) => {
    const { shape } = input(0);
    const end = intAttribute(node, "end", shape.length);
    return [{ dtype: "i64", shape: [shape.slice(intAttribute(node, "start", 0), end).length] }];
  },
  ConstantOfShape: ({ node, constant }) => {
    const value = node.attributes.value;
    const dtype = value instanceof Tensor ? value.dtype : "f32";
    return [{ dtype, shape: constantInts(node, constant, 0) }];
  },
};
