/**
 * A graph as text for people: its inputs and outputs, then one line a node in order, types of what it makes first.
 *
 *   graph mlp
 *     in  x f32[3,4]
 *     out y f32[3,2]
 *     const w f32[4,2] 0.1 -0.2 0.3 … (8)
 *     y f32[3,2] = Gemm(x, w) alpha=1.0
 */

import { type DType, Tensor } from "../../protocols/tensor.ts";
import { type Attribute, type Graph, GraphError, type Node, type ValueType } from "./graph.ts";
import { numbersOf } from "./numbers.ts";
import { inferShapes, typeText } from "./shapes.ts";

/** Elements of a constant, or of a list, that are shown. */
const SHOWN = 6;

/** The graph as lines of text. Nodes of unknown operators are printed too, without types. */
export function printGraph(graph: Graph): string {
  const types = typesOf(graph);
  const value = (name: string) => {
    const type = types.get(name);
    return type ? `${name} ${typeText(type)}` : name;
  };
  const lines = [
    `graph ${graph.name}`,
    ...graph.inputs.map((input) => `  in  ${input.name} ${typeText(input)}`),
    ...graph.outputs.map((output) => `  out ${output.name} ${typeText(output)}`),
    ...[...graph.initializers].map(([name, tensor]) => `  const ${name} ${tensorText(tensor)}`),
    ...graph.nodes.map((node) => `  ${nodeText(node, value)}`),
  ];
  return `${lines.map((line) => line.replace(/[\n\r]/g, " ")).join("\n")}\n`;
}

function nodeText(node: Node, value: (name: string) => string): string {
  const made = node.outputs.map((name) => (name === "" ? "_" : value(name))).join(", ");
  const read = node.inputs.map((name) => (name === "" ? "_" : name)).join(", ");
  const operator = node.domain === "" ? node.op : `${node.domain}.${node.op}`;
  const attributes = Object.entries(node.attributes).map(
    ([name, attribute]) => ` ${name}=${text(attribute)}`,
  );
  return `${made} = ${operator}(${read})${attributes.join("")}`;
}

function text(attribute: Attribute): string {
  if (typeof attribute === "number") return String(attribute);
  if (typeof attribute === "string") return JSON.stringify(attribute);
  if (attribute instanceof Tensor) return tensorText(attribute);
  if ("float" in attribute) return floatText(attribute.float);
  if ("floats" in attribute) return `[${abbreviated(attribute.floats.map(floatText), ", ")}]`;
  if ("strings" in attribute)
    return `[${abbreviated(
      attribute.strings.map((s) => JSON.stringify(s)),
      ", ",
    )}]`;
  return `[${abbreviated(attribute.map(String), ", ")}]`;
}

const floatText = (value: number) =>
  Number.isInteger(value) ? value.toFixed(1) : String(Number(value.toPrecision(6)));

function tensorText(tensor: Tensor): string {
  // Only what is shown is read: a constant may be a whole table.
  const count = Math.min(tensor.elements, SHOWN + 1);
  const head = new Tensor(
    tensor.dtype,
    [count],
    tensor.bytes.subarray(0, (tensor.bytes.length / tensor.elements) * count || 0),
  );
  const isFloat = (["f32", "f64", "f16", "bf16"] as DType[]).includes(tensor.dtype);
  const numbers = numbersOf(head).map((number) => (isFloat ? floatText(number) : String(number)));
  const shown = numbers.slice(0, SHOWN).join(" ");
  return `${typeText(tensor)} ${shown}${tensor.elements > SHOWN ? ` … (${tensor.elements})` : ""}`.trimEnd();
}

const abbreviated = (items: readonly string[], separator: string) =>
  items.length > 2 * SHOWN
    ? [...items.slice(0, SHOWN), `… (${items.length})`].join(separator)
    : items.join(separator);

function typesOf(graph: Graph): ReadonlyMap<string, ValueType> {
  try {
    return inferShapes(graph);
  } catch (error) {
    if (error instanceof GraphError) return new Map();
    throw error;
  }
}
