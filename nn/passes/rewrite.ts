/**
 * What rewriting passes see of a graph: who makes a value, who reads it, and which values are constants. A pass looks
 * for patterns from their last node back, gives new nodes in its place, and leaves what nobody reads any more to the
 * removal of dead nodes.
 */

import { elements, Tensor } from "../../protocols/tensor.ts";
import type { Graph, Node, ValueType } from "../onnx/graph.ts";
import { numbersOf } from "../onnx/numbers.ts";
import { inferNode, inferShapes, integers } from "../onnx/shapes.ts";

export class Pattern {
  private readonly types: Map<string, ValueType>;
  private readonly graph: Graph;
  private readonly makers = new Map<string, Node>();
  private readonly readers = new Map<string, Set<Node>>();
  private readonly outputs: ReadonlySet<string>;
  private readonly added = new Map<string, Tensor>();
  private readonly taken = new Set<string>();
  private readonly replacements = new Map<Node, readonly Node[]>();

  constructor(graph: Graph) {
    this.graph = graph;
    this.types = inferShapes(graph);
    this.outputs = new Set(graph.outputs.map(({ name }) => name));
    for (const node of graph.nodes) {
      for (const output of node.outputs) if (output !== "") this.makers.set(output, node);
      this.addReader(node);
    }
  }

  /** The node that makes a value, if it is one of these standard operators. */
  maker(name: string | undefined, ...ops: readonly string[]): Node | undefined {
    const node = name === undefined ? undefined : this.makers.get(name);
    return node?.domain === "" && ops.includes(node.op) ? node : undefined;
  }

  isOutput(name: string): boolean {
    return this.outputs.has(name);
  }

  /** The node that alone reads a value which is no output of the graph. */
  onlyReader(name: string): Node | undefined {
    const readers = this.readers.get(name);
    return readers?.size === 1 && !this.outputs.has(name) ? [...readers][0] : undefined;
  }

  shape(name: string): readonly number[] {
    return this.types.get(name)!.shape;
  }

  constant(name: string | undefined): Tensor | undefined {
    return name === undefined ? undefined : (this.graph.initializers.get(name) ?? this.added.get(name));
  }

  /** The number that a constant of one element is. */
  number(name: string | undefined): number | undefined {
    const tensor = this.constant(name);
    return tensor && elements(tensor.shape) === 1 ? numbersOf(tensor)[0] : undefined;
  }

  /** The integers of a constant. */
  ints(name: string | undefined): number[] | undefined {
    const tensor = this.constant(name);
    return tensor?.dtype === "i64" ? integers(tensor) : undefined;
  }

  /** Of the two inputs of a node, the one that is this number, is left out: the other. */
  besides(node: Node, isIt: (value: number) => boolean): string | undefined {
    const [a, b] = node.inputs;
    const is = (name: string | undefined) => {
      const value = this.number(name);
      return value !== undefined && isIt(value);
    };
    if (is(b)) return a;
    return is(a) ? b : undefined;
  }

  /** Name of a 1-d i64 constant, as shapes are given. */
  shapeConstant(shape: readonly number[]): string {
    return this.newConstant(`shape.${shape.join("_")}`, Tensor.i64([shape.length], shape));
  }

  /** Adds a constant under this name, or one made from it; the same name and content give the same constant. */
  newConstant(stem: string, tensor: Tensor): string {
    let name = stem;
    for (let i = 0; this.types.has(name) || this.added.has(name); i++) {
      const there = this.added.get(name) ?? this.graph.initializers.get(name);
      if (there && there.dtype === tensor.dtype && sameBytes(there.bytes, tensor.bytes)) return name;
      name = `${stem}.${i}`;
    }
    this.added.set(name, tensor);
    return name;
  }

  /** A name for a new value that nothing else has. */
  fresh(stem: string): string {
    let name = stem;
    for (let i = 0; this.types.has(name) || this.added.has(name) || this.taken.has(name); i++)
      name = `${stem}.${i}`;
    this.taken.add(name);
    return name;
  }

  /** Puts nodes in the place of one. What is asked afterwards sees them instead of it. */
  replace(node: Node, nodes: readonly Node[]): void {
    this.replacements.set(node, nodes);
    for (const input of node.inputs) this.readers.get(input)!.delete(node);
    for (const made of nodes) {
      const inputs = made.inputs.map((name) => this.types.get(name) ?? this.added.get(name));
      const types = inferNode(made, inputs, (index) => this.constant(made.inputs[index]));
      made.outputs.forEach((name, i) => {
        if (name === "") return;
        this.makers.set(name, made);
        this.types.set(name, types[i]!);
      });
      this.addReader(made);
    }
  }

  private addReader(node: Node): void {
    for (const input of node.inputs) {
      const readers = this.readers.get(input);
      if (readers) readers.add(node);
      else this.readers.set(input, new Set([node]));
    }
  }

  /** The graph with all replacements made, and the constants that were added. */
  result(): Graph {
    if (this.replacements.size === 0) return this.graph;
    return {
      ...this.graph,
      initializers: new Map([...this.graph.initializers, ...this.added]),
      nodes: this.graph.nodes.flatMap((node) => this.replacements.get(node) ?? [node]),
    };
  }
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** The same nodes reading other values: `names` gives the new name of a value. */
export function renameInputs(node: Node, names: ReadonlyMap<string, string>): Node {
  return node.inputs.some((name) => names.has(name))
    ? { ...node, inputs: node.inputs.map((name) => names.get(name) ?? name) }
    : node;
}
