/**
 * Writes graphs node by node. A builder names values, keeps their types by inferring shapes as it goes, shares
 * equal constants, and freezes into an immutable `Graph`.
 */

import { type DType, type Shape, Tensor } from "../../protocols/tensor.ts";
import {
  type Attribute,
  type Graph,
  GraphError,
  MICROSOFT,
  type Node,
  type ValueInfo,
  type ValueType,
} from "./graph.ts";
import { filledTensor, numbersOf } from "./numbers.ts";
import { constantValue, inferNode, integers } from "./shapes.ts";

export type Attributes = Readonly<Record<string, Attribute>>;

export interface NodeOptions {
  readonly attributes?: Attributes;
  /** Names of the outputs; generated when left out. */
  readonly outputs?: readonly string[];
  readonly domain?: string;
}

export class GraphBuilder {
  readonly name: string;
  private readonly inputs: ValueInfo[] = [];
  private readonly outputs: string[] = [];
  private readonly initializers = new Map<string, Tensor>();
  /** Values of Constant nodes: as good as initializers where a rule needs to know them. */
  private readonly constants = new Map<string, Tensor>();
  private readonly nodes: Node[] = [];
  private readonly types = new Map<string, ValueType>();
  private readonly reserved = new Set<string>();
  private counter = 0;

  constructor(name: string) {
    this.name = name;
  }

  input(name: string, dtype: DType, shape: Shape): string {
    this.define(name, { dtype, shape });
    this.inputs.push({ name, dtype, shape });
    return name;
  }

  output(name: string): void {
    this.type(name);
    this.outputs.push(name);
  }

  /** Adds a node as it is. @throws GraphError for unknown inputs, names produced twice, or shapes that do not fit. */
  append(node: Node): void {
    const types = node.inputs.map((input) => (input === "" ? undefined : this.type(input)));
    const inferred = inferNode(node, types, (index) => this.known(node.inputs[index]));
    node.outputs.forEach((output, index) => {
      if (output !== "") this.define(output, inferred[index]!);
    });
    if (node.op === "Constant") this.constants.set(node.outputs[0]!, constantValue(node));
    this.nodes.push(node);
  }

  /** Adds a node of one output and returns its name. */
  op(op: string, inputs: readonly string[], attributes: Attributes = {}, output?: string): string {
    return this.node(op, inputs, { attributes, outputs: [output ?? this.fresh(op)] })[0]!;
  }

  /** Adds one of ONNX Runtime's fused operators. */
  fused(op: string, inputs: readonly string[], attributes: Attributes = {}, output?: string): string {
    const outputs = [output ?? this.fresh(op)];
    return this.node(op, inputs, { attributes, outputs, domain: MICROSOFT })[0]!;
  }

  node(op: string, inputs: readonly string[], options: NodeOptions): readonly string[] {
    const outputs = options.outputs ?? [this.fresh(op)];
    this.append({ op, domain: options.domain ?? "", inputs, outputs, attributes: options.attributes ?? {} });
    return outputs;
  }

  /** A scalar constant; equal scalars share one initializer. Sixteen-bit floats get the nearest value they have. */
  scalar(value: number, dtype: DType = "f32"): string {
    const name = `const.${dtype}.${value}`;
    return this.initializers.has(name) ? name : this.constant(name, filledTensor(dtype, [], value));
  }

  /** A scalar constant of the element type of `like`: arithmetic does not mix types. */
  scalarLike(value: number, like: string): string {
    return this.scalar(value, this.type(like).dtype);
  }

  /** A 1-d i64 constant, as shapes and axes are given; equal ones share one initializer. */
  ints(values: readonly number[]): string {
    const name = `const.i64.${values.join("_")}`;
    if (!this.initializers.has(name)) this.constant(name, Tensor.i64([values.length], values));
    return name;
  }

  constant(name: string, tensor: Tensor): string {
    if (!this.initializers.has(name)) {
      this.define(name, { dtype: tensor.dtype, shape: tensor.shape });
      this.initializers.set(name, tensor);
    }
    return name;
  }

  /** The integers of a constant, or undefined when `name` is not a constant. */
  constantInts(name: string | undefined): number[] | undefined {
    const tensor = this.known(name);
    return tensor && integers(tensor);
  }

  /** The numbers of a constant of any type, or undefined when `name` is not a constant. */
  constantNumbers(name: string | undefined): number[] | undefined {
    const tensor = this.known(name);
    return tensor && numbersOf(tensor);
  }

  type(name: string): ValueType {
    const type = this.types.get(name);
    if (!type) throw new GraphError(`graph ${this.name}: no value named "${name}"`);
    return type;
  }

  shape(name: string): Shape {
    return this.type(name).shape;
  }

  /** A name that is neither taken nor reserved, made from a stem. */
  fresh(stem: string): string {
    let name: string;
    do name = `${stem}.${this.counter++}`;
    while (this.types.has(name) || this.reserved.has(name));
    return name;
  }

  /** Keeps `fresh` off names that nodes yet to be appended bring with them. */
  reserve(names: Iterable<string>): void {
    for (const name of names) this.reserved.add(name);
  }

  /** The nodes so far, in order. */
  get nodeList(): readonly Node[] {
    return [...this.nodes];
  }

  /** The graph so far, with the constants it uses; what is added later does not change it. */
  build(): Graph {
    const used = new Set(this.nodes.flatMap((node) => node.inputs).concat(this.outputs));
    return {
      name: this.name,
      inputs: [...this.inputs],
      outputs: this.outputs.map((name) => ({ name, ...this.type(name) })),
      initializers: new Map([...this.initializers].filter(([name]) => used.has(name))),
      nodes: [...this.nodes],
    };
  }

  private known(name = ""): Tensor | undefined {
    return this.initializers.get(name) ?? this.constants.get(name);
  }

  private define(name: string, type: ValueType): void {
    if (this.types.has(name)) throw new GraphError(`graph ${this.name}: "${name}" is defined twice`);
    this.types.set(name, type);
  }
}
