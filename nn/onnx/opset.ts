/**
 * Operators of other versions as those of version 20, in which the IR is written (the changes as listed in the ONNX
 * specification, docs/Changelog.md). Where a version only admits more types nothing is to do. A conversion sees one
 * node and no shapes; it may add constants.
 */

import { Tensor } from "../../protocols/tensor.ts";
import { type Attribute, type Graph, GraphError, MICROSOFT, type Node, TROUPE } from "./graph.ts";

/** Since then axes and sizes are inputs of all operators that have them, as shape inference expects. */
export const OLDEST_OPSET = 13;
export const NEWEST_OPSET = 23;

/** A node as version 20 has it. `ints` gives the name of a 1-d i64 constant. */
type Conversion = (node: Node, ints: (values: readonly number[]) => string) => Node;

interface Change {
  /** Files of this version and older have the old form. */
  readonly until: number;
  readonly convert: Conversion;
}

const without = (node: Node, ...names: string[]): Record<string, Attribute> =>
  Object.fromEntries(Object.entries(node.attributes).filter(([name]) => !names.includes(name)));

/** 18 made the axes of all reductions an input; ReduceSum's had been one since 13. */
const reduction: Change = {
  until: 17,
  convert: (node, ints) => {
    const { axes } = node.attributes;
    if (!Array.isArray(axes)) return node;
    return { ...node, inputs: [node.inputs[0] ?? "", ints(axes)], attributes: without(node, "axes") };
  },
};

const CHANGES: Readonly<Record<string, Change>> = {
  ReduceMean: reduction,
  ReduceMax: reduction,
  ReduceMin: reduction,
  ReduceProd: reduction,
  ReduceL1: reduction,
  ReduceL2: reduction,
  ReduceLogSum: reduction,
  ReduceLogSumExp: reduction,
  ReduceSumSquare: reduction,
  /** 14 gave it an attribute for training, which had been meant by outputs beyond the first, and two outputs less. */
  BatchNormalization: {
    until: 13,
    convert: (node) => {
      const training = node.outputs.slice(1).some((output) => output !== "");
      return {
        ...node,
        outputs: training ? node.outputs.slice(0, 3) : node.outputs.slice(0, 1),
        attributes: { ...node.attributes, training_mode: training ? 1 : 0 },
      };
    },
  },
  /** 18 asks for the number of parts, which had been that of the outputs. */
  Split: {
    until: 17,
    convert: (node) =>
      node.inputs[1]
        ? node
        : { ...node, attributes: { ...node.attributes, num_outputs: node.outputs.length } },
  },
  /** 20 renamed the modes. */
  GridSample: {
    until: 19,
    convert: (node) => {
      const names: Readonly<Record<string, string>> = { bilinear: "linear", bicubic: "cubic" };
      const mode = names[String(node.attributes.mode ?? "bilinear")] ?? "nearest";
      return { ...node, attributes: { ...node.attributes, mode } };
    },
  },
  /** 16 changed the default. */
  RoiAlign: {
    until: 15,
    convert: (node) => ({
      ...node,
      attributes: { ...node.attributes, coordinate_transformation_mode: "output_half_pixel" },
    }),
  },
};

/** Domains whose operators can be in the IR. */
const KNOWN = ["", MICROSOFT, TROUPE];

/**
 * The graph, whose standard operators are of version `opset`, with operators of version 20.
 * @throws GraphError for versions and domains that are not known, naming the version or the node.
 */
export function toOpset(graph: Graph, opset: number): Graph {
  if (!(opset >= OLDEST_OPSET && opset <= NEWEST_OPSET)) {
    throw new GraphError(
      `ONNX operators of version ${opset}; known are ${OLDEST_OPSET} to ${NEWEST_OPSET}: export the model again with ` +
        "opset_version=20",
    );
  }
  const initializers = new Map(graph.initializers);
  const taken = new Set([
    ...graph.inputs.map(({ name }) => name),
    ...graph.nodes.flatMap(({ outputs }) => outputs),
  ]);
  const ints = (values: readonly number[]): string => {
    let name = `opset.i64.${values.join("_")}`;
    while (taken.has(name)) name += "_";
    initializers.set(name, Tensor.i64([values.length], values));
    return name;
  };
  const nodes = graph.nodes.map((node) => {
    if (!KNOWN.includes(node.domain)) {
      const [op, domain] = [node.op, node.domain].map((text) => JSON.stringify(text));
      throw new GraphError(
        `operator ${op} of the domain ${domain}, which makes ${JSON.stringify(node.outputs[0])}, is not known; ` +
          "export the model with standard operators",
      );
    }
    const change = node.domain === "" ? CHANGES[node.op] : undefined;
    return change && opset <= change.until ? change.convert(node, ints) : node;
  });
  return { ...graph, initializers, nodes };
}
