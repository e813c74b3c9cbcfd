/**
 * The values of a sharded graph while it is being written, and the moves between them: a value that is wanted in
 * another layout than it has is moved once, whoever wants it. What gradients need follows from how values are read.
 * Where each of the ranks computes the same from a whole value, each has the whole gradient; where ranks compute
 * different parts, each has a summand of it. A value that both read is moved ("share") before the latter read it; a
 * parameter cannot be, so it is read in one way alone.
 */

import { type DType, elements, type Tensor } from "../../protocols/tensor.ts";
import { type Graph, GraphError, type Node, type ValueType } from "../onnx/graph.ts";
import { constantValue, inferShapes, intsAttribute } from "../onnx/shapes.ts";
import { type Layout, type Part, part, WHOLE } from "./layout.ts";
import type { Move, Step, TransferKind, Value } from "./program.ts";
import type { Labels, Units } from "./units.ts";

const REAL: readonly DType[] = ["f32", "f16", "bf16", "f64"];

/** Ways from a held matrix to the product that reads it; it is cut where it is held. */
const CHAIN = new Set(["Transpose", "Identity", "Cast"]);

/** What repeats elements of its first input, or gives them another shape. */
const SPREADS = new Set(["Expand", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity"]);

const sizeOf = ({ type }: Value): number => elements(type.shape);

/** What a graph's inputs are: `held` are parameters, frozen values and statistics; `uncut` those of them kept whole. */
export interface InputRoles {
  readonly parameters: ReadonlySet<string>;
  readonly held: ReadonlySet<string>;
  readonly uncut: ReadonlySet<string>;
}

export class Values {
  readonly steps: Step[] = [];
  readonly moves: Move[] = [];
  readonly cuts = new Map<string, Part>();
  /** Held values that ranks read whole, to compute the same, and to compute different parts. */
  readonly alike = new Set<string>();
  readonly apart = new Set<string>();
  /** Of the whole values of the graph, and of those that are written beside them. */
  readonly types: Map<string, ValueType>;
  private readonly roles: InputRoles;
  private readonly units: Units;
  private readonly isRows: (labels: Labels) => boolean;
  private readonly current = new Map<string, Value>();
  private readonly made = new Map<string, Value>();
  private readonly makers = new Map<Value, Step | Move>();
  private readonly names: Set<string>;
  private readonly roots = new Map<Value, readonly string[]>();

  constructor(graph: Graph, roles: InputRoles, units: Units, isRows: (labels: Labels) => boolean) {
    this.roles = roles;
    this.units = units;
    this.isRows = isRows;
    this.types = inferShapes(graph);
    this.names = new Set(this.types.keys());
    for (const { name, dtype, shape } of graph.inputs) {
      const [fixed, trained] = [roles.held.has(name), roles.parameters.has(name)];
      const value: Value = { name, type: { dtype, shape }, layout: WHOLE, from: 0, trained, fixed };
      this.current.set(name, value);
      if (fixed) this.roots.set(value, [name]);
    }
    for (const [name, tensor] of graph.initializers) this.current.set(name, this.constant(name, tensor));
  }

  /** The value of a name of the graph, as it lies at this point. */
  of(name: string): Value | undefined {
    return name === "" ? undefined : this.current.get(name);
  }

  /** The incoming activation, in the layout it comes in. */
  incoming(name: string, layout: Layout, trained: boolean): Value {
    const value: Value = { ...this.current.get(name)!, layout, trained };
    this.current.set(name, value);
    return value;
  }

  /** A name that no value has. */
  fresh(stem: string): string {
    let name = stem;
    for (let i = 1; this.names.has(name); i++) name = `${stem}.${i}`;
    this.names.add(name);
    return name;
  }

  /** A value that is known. */
  constant(name: string, tensor: Tensor): Value {
    const { dtype, shape } = tensor;
    return {
      name,
      type: { dtype, shape },
      layout: WHOLE,
      from: 0,
      trained: false,
      fixed: true,
      constant: tensor,
    };
  }

  /** Adds a node that runs on `inputs`; `alike` where all ranks compute the same. */
  step(
    node: Node,
    inputs: readonly (Value | undefined)[],
    layouts: readonly Layout[],
    { alike, mean, lookup }: { alike: boolean; mean?: Labels | undefined; lookup?: Part },
  ): void {
    const fixed = inputs.every((value) => value?.fixed ?? true);
    if (!fixed) for (const value of inputs) if (value?.fixed) this.read(value, alike);
    const phase = Math.max(0, ...inputs.map((value) => value?.from ?? 0));
    const trained = inputs.some((value) => value?.trained);
    const outputs = node.outputs.map((name, i): Value | undefined => {
      if (name === "") return undefined;
      const [type, layout] = [this.types.get(name)!, layouts[i] ?? WHOLE];
      const local = layout.kind === "sum" ? this.fresh(`${name}.summand`) : name;
      const constant = node.op === "Constant" ? { constant: constantValue(node) } : {};
      const gradient = trained && REAL.includes(type.dtype);
      return { name: local, type, layout, from: phase, trained: gradient, fixed, ...constant };
    });
    const named = {
      inputs: inputs.map((value) => value?.name ?? ""),
      outputs: outputs.map((value) => value?.name ?? ""),
    };
    const step: Step = {
      node: { ...node, ...named },
      phase,
      inputs,
      outputs,
      ...(mean && { mean }),
      ...(lookup && { lookup }),
    };
    this.add(step);
    node.outputs.forEach((name, i) => {
      if (outputs[i]) this.current.set(name, outputs[i]);
    });
  }

  /** The value by another layout, moved there once. */
  move(kind: TransferKind, from: Value, layout: Layout): Value {
    return this.once(`${kind} ${from.name}`, () => {
      const maker = this.makers.get(from);
      const phase = maker && "node" in maker ? maker.phase + 1 : from.from;
      // A value that was summed up or scattered has the name the whole has in the graph.
      const original = from.name.replace(/\.summand(\.\d+)?$/, "");
      const suffix = {
        share: "shared",
        gather: "whole",
        "gather-share": "gathered",
        reduce: "",
        scatter: "",
      }[kind];
      const name = suffix === "" ? original : this.fresh(`${from.name}.${suffix}`);
      const to: Value = { ...from, name, layout, from: phase };
      const move: Move = { kind, from, to, phase };
      this.moves.push(move);
      this.makers.set(to, move);
      if (suffix === "") this.current.set(original, to);
      return to;
    });
  }

  /** The value whole, for a node that all ranks compute alike, or in parts (`shared`). It is no sum. */
  whole(value: Value, shared: boolean): Value {
    if (value.layout.kind === "part") {
      return this.move(shared && value.trained ? "gather-share" : "gather", value, WHOLE);
    }
    return shared && value.trained && !value.fixed ? this.move("share", value, WHOLE) : value;
  }

  /**
   * A value in parts gathered, for ranks that compute different parts. What is only repeated, or seen in another shape,
   * is gathered as it was before, and repeated on every rank.
   */
  gathered(value: Value): Value {
    const maker = this.makers.get(value);
    if (!maker || !("node" in maker) || this.least(value) === sizeOf(value)) return this.whole(value, true);
    return this.once(`gathered ${value.name}`, () => {
      const [source, ...rest] = maker.inputs as [Value, ...(Value | undefined)[]];
      const whole = this.gathered(source);
      const name = this.fresh(`${value.name}.gathered`);
      const node = { ...maker.node, inputs: maker.node.inputs.with(0, whole.name), outputs: [name] };
      const result: Value = { ...value, name, layout: WHOLE, from: whole.from };
      this.add({ node, phase: whole.from, inputs: [whole, ...rest], outputs: [result] });
      return result;
    });
  }

  /** The fewest elements that a value had on its way here, as far as nothing was computed. */
  private least(value: Value): number {
    const maker = this.makers.get(value);
    const spread =
      maker && "node" in maker && SPREADS.has(maker.node.op) && maker.inputs[0]!.layout.kind === "part";
    return spread ? Math.min(sizeOf(value), this.least(maker.inputs[0]!)) : sizeOf(value);
  }

  /** Whether ranks can each have a part of a whole value, along an axis with these labels. */
  sliceable(value: Value, labels: Labels): boolean {
    if (value.constant) return true;
    const held = this.heldBehind(value);
    if (held && !this.roles.uncut.has(held) && !this.alike.has(held) && !this.apart.has(held)) return true;
    return this.isRows(labels);
  }

  /** The ranks' parts of a whole value that is `sliceable`. */
  slice(value: Value, at: Part): Value {
    const held = this.heldBehind(value);
    if (held && !this.alike.has(held) && !this.apart.has(held) && !this.roles.uncut.has(held)) {
      return this.sliceHeld(value, at);
    }
    return this.once(`part ${value.name} ${at.axis} ${this.units.family(at.labels)}`, () => {
      const name = this.fresh(`${value.name}.part`);
      if (value.constant) {
        const result: Value = { ...value, name, layout: at };
        return result;
      }
      const whole = this.whole(value, true);
      if (value.fixed) this.read(value, false);
      const node: Node = { op: "Slice", domain: "", inputs: [whole.name], outputs: [name], attributes: {} };
      const result: Value = { ...whole, name, layout: at };
      this.add({ node, phase: whole.from, inputs: [whole], outputs: [result], take: at });
      return result;
    });
  }

  /** From here on, a name of the graph is that of this value. */
  rename(name: string, value: Value): void {
    this.current.set(name, value);
  }

  /** From here on, the value in parts. */
  begin(value: Value, at: Part): Value {
    const cut = this.slice(value, at);
    this.current.set(value.name, cut);
    return cut;
  }

  /** The held input that a value is, or is made from by nothing but transposing and casting. */
  heldBehind(value: Value): string | undefined {
    const maker = this.makers.get(value);
    if (!maker) return value.fixed && !value.constant ? this.roots.get(value)?.[0] : undefined;
    if (!("node" in maker) || !value.fixed || !CHAIN.has(maker.node.op)) return undefined;
    return this.heldBehind(maker.inputs[0]!);
  }

  /** Cuts a held value where it is held, and what is between it and this use of it. */
  private sliceHeld(value: Value, at: Part): Value {
    const maker = this.makers.get(value) as Step | undefined;
    if (!maker) {
      const known = this.cuts.get(value.name);
      if (known && known.axis !== at.axis) throw new GraphError(`"${value.name}" is cut along two axes`);
      if (known) this.units.unite(known.labels, at.labels);
      else this.cuts.set(value.name, at);
      return this.once(`held ${value.name}`, () => ({ ...value, layout: at }));
    }
    const [source] = maker.inputs as [Value];
    const rank = source.type.shape.length;
    const perm =
      maker.node.op === "Transpose"
        ? (intsAttribute(maker.node, "perm") ?? Array.from({ length: rank }, (_, i) => rank - 1 - i))
        : undefined;
    const cut = this.sliceHeld(source, perm ? part(perm[at.axis]!, at.labels) : at);
    return this.once(`held ${value.name}`, () => {
      const name = this.fresh(`${value.name}.part`);
      const result: Value = { ...value, name, layout: at };
      const node = { ...maker.node, inputs: [cut.name], outputs: [name] };
      this.add({ node, phase: 0, inputs: [cut], outputs: [result] });
      return result;
    });
  }

  private read(value: Value, alike: boolean): void {
    for (const name of this.roots.get(value) ?? []) {
      if (value.layout.kind === "whole") (alike ? this.alike : this.apart).add(name);
    }
  }

  private add(step: Step): void {
    this.steps.push(step);
    const behind = [...new Set(step.inputs.flatMap((value) => (value ? (this.roots.get(value) ?? []) : [])))];
    for (const value of step.outputs) {
      if (!value) continue;
      this.makers.set(value, step);
      if (value.fixed) this.roots.set(value, behind);
    }
  }

  private once(key: string, make: () => Value): Value {
    let value = this.made.get(key);
    if (!value) {
      value = make();
      this.made.set(key, value);
    }
    return value;
  }
}
