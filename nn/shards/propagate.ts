/**
 * Follows the layout of values through a graph (sharding propagation, as in GSPMD), node by node.
 *
 * A product of a whole activation with a held matrix may begin to be cut along its columns. What is cut is carried on
 * by the rules in `carry/` as far as they can, and ends, for tensor parallelism to pay, in a product that sums over the
 * cut axis: a matrix by rows. What a rule refuses is gathered first, which is always right. A family of axes that never
 * reaches such a product is given up, and its products are computed as if they could not be cut. Where nothing but
 * tokens is divided, no product begins to be cut, and `tokens.ts` says what becomes of attention.
 */

import { type Graph, GraphError, type Node } from "../onnx/graph.ts";
import { describe, integers } from "../onnx/shapes.ts";
import { describeFamily, type Family, whyNot } from "./assign.ts";
import { innerAxis, productAxes } from "./carry/products.ts";
import type { Site } from "./carry/rule.ts";
import { CARRY_RULES } from "./carry/rules.ts";
import { type Part, part, SUM, WHOLE } from "./layout.ts";
import { addedOnce, isNarrow, keepsSum, PRODUCTS } from "./linear.ts";
import { dropPart } from "./mask.ts";
import type { ShardKind } from "./plan.ts";
import type { Program, Value } from "./program.ts";
import { Rows } from "./rows.ts";
import { meeting } from "./tokens.ts";
import { type Labels, Units } from "./units.ts";
import { type InputRoles, Values } from "./values.ts";
import { classLoss, takesClasses } from "./vocabulary.ts";

export interface Propagated {
  readonly program: Program;
  readonly units: Units;
  /** The families that are cut, each with the node it begins at. */
  readonly families: readonly { readonly id: number; readonly family: Family; readonly where: string }[];
}

export interface PropagateOptions {
  readonly kind: ShardKind;
  readonly ranks: number;
  /** The incoming activation, and whether its gradient is wanted. */
  readonly input: string | null;
  readonly inputTrained: boolean;
  /** Whether scores may be cut by classes. */
  readonly vocabulary: boolean;
}

const NORMS = new Set(["LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization"]);

/** @throws GraphError when no product can be cut, with the reason at the first of them. */
export function propagate(graph: Graph, roles: InputRoles, options: PropagateOptions): Propagated {
  const tried: Tried = { refused: new Set(), reasons: new Map(), choices: new Map(), rowAxis: 0 };
  for (;;) {
    const walk = new Walk(graph, roles, options, tried);
    const program = walk.run();
    if (walk.retry()) continue;
    if (!walk.cutsProducts()) {
      const [node, reason] = [...tried.reasons][0] ?? [];
      const nothing =
        options.kind === "sequence"
          ? "no product of a matrix is with rows of tokens"
          : "it has no product of an activation with a matrix";
      const why = node ? `${describe(node)} ${reason}` : nothing;
      throw new GraphError(
        `graph ${graph.name} cannot be sharded among ${options.ranks} ranks: ${why}; use data or pipeline parallelism`,
      );
    }
    walk.checkReads();
    return { program, units: walk.units, families: walk.families() };
  }
}

/** What earlier walks through the graph have found out. */
interface Tried {
  /** Products that are not cut by columns. */
  readonly refused: Set<Node>;
  /** Why a product could not be cut when that was tried first. */
  readonly reasons: Map<Node, string>;
  /** Which of several ways a node carries labels on; the first where it is not here. */
  readonly choices: Map<Node, number>;
  /** Which of the axes that can be those of rows is. */
  rowAxis: number;
}

class Walk {
  readonly units = new Units();
  private readonly values: Values;
  private readonly graph: Graph;
  private readonly options: PropagateOptions;
  private readonly tried: Tried;
  private readonly chosen: { node: Node; ways: number; labels: Labels }[] = [];
  private readonly sources: { node: Node; labels: Labels }[] = [];
  private readonly sinks: Labels[] = [];
  private readonly failures: { labels: Labels; reason: string }[] = [];
  private readonly rows: Rows;
  /** Labels of classes that scores are cut along. */
  private readonly vocabularies: Labels[] = [];
  private readonly ranks: Labels;
  private readonly readers = new Map<string, Node[]>();
  /** Products of attention along whose batch axes tokens were taken to be. */
  private readonly batches: Node[] = [];
  private cutCount = 0;

  constructor(graph: Graph, roles: InputRoles, options: PropagateOptions, tried: Tried) {
    this.graph = graph;
    this.options = options;
    this.tried = tried;
    for (const node of graph.nodes) {
      for (const input of node.inputs) this.readers.set(input, [...(this.readers.get(input) ?? []), node]);
    }
    this.ranks = this.units.fresh(options.ranks);
    this.rows = new Rows(this.units, options.ranks, options.kind === "tensor" ? null : tried.rowAxis);
    this.values = new Values(graph, roles, this.units, (labels) => this.isRows(labels));
  }

  run(): Program {
    const { graph, options, values } = this;
    const type = options.input === null ? undefined : values.types.get(options.input);
    const layout = type ? this.rows.layout(type.shape) : WHOLE;
    const input =
      options.input === null ? null : values.incoming(options.input, layout, options.inputTrained);
    for (const node of graph.nodes) this.visit(node);
    const outputs = graph.outputs.map(({ name }): Value => {
      const value = this.settled(values.of(name)!);
      const { layout } = value;
      return layout.kind === "part" && !this.isRows(layout.labels) ? values.whole(value, false) : value;
    });
    const summed = new Set([...values.apart].filter((name) => !values.alike.has(name)));
    const { steps, moves, cuts } = values;
    return { steps, moves, cuts, summed, outputs, input };
  }

  /** Refuses the products whose columns lead nowhere, or makes another choice on their way; false if all is well. */
  retry(): boolean {
    const { refused, reasons, choices } = this.tried;
    let again = this.batches.length > 0 && this.choosesTokens();
    const redone = new Set<number>();
    for (const { node, labels } of this.sources) {
      const id = this.units.family(labels);
      const failure = this.failures.find((failed) => this.units.family(failed.labels) === id);
      const shared = this.readWhole().find(({ at }) => this.units.family(at.labels) === id);
      const reason = shared
        ? `reads ${shared.name}, which is read whole as well`
        : this.isRows(labels)
          ? "meets rows of the sequence with its columns"
          : !this.sinks.some((sink) => this.units.family(sink) === id)
            ? (failure?.reason ?? "is not followed by a product that sums over its columns")
            : whyNot(this.units, id, this.described(id), this.options.ranks);
      if (reason === null) continue;
      again = true;
      if (!reasons.has(node)) reasons.set(node, reason);
      if (redone.has(id)) continue;
      const next = this.chosen.find(
        (made) =>
          this.units.family(made.labels) === id &&
          !this.rows.began(made.labels) &&
          this.choiceAt(made.node) + 1 < made.ways,
      );
      if (!next) refused.add(node);
      else {
        redone.add(id);
        choices.set(next.node, this.choiceAt(next.node) + 1);
      }
    }
    return again;
  }

  /** Held values that are cut for some of their readers, and read whole by others. */
  private readWhole(): { readonly name: string; readonly at: Part }[] {
    const { cuts, alike, apart } = this.values;
    return [...cuts]
      .map(([name, at]) => ({ name, at }))
      .filter(({ name }) => alike.has(name) || apart.has(name));
  }

  cutsProducts(): boolean {
    return this.cutCount > 0;
  }

  /** @throws GraphError for a held value that is wanted in two ways, which moves between phases cannot give it. */
  checkReads(): void {
    const { graph, values } = this;
    for (const { name, at } of this.readWhole()) {
      if (!this.isRows(at.labels)) continue;
      throw new GraphError(`graph ${graph.name} cannot be sharded: ${name} is read by rows and whole`);
    }
    for (const name of values.apart) {
      if (!values.alike.has(name) || !values.of(name)?.trained) continue;
      throw new GraphError(
        `graph ${graph.name} cannot be sharded: parameter ${name} is read by what all ranks compute and by what each computes a part of`,
      );
    }
  }

  /** @throws GraphError for rows of a sequence that are too few. */
  families(): Propagated["families"] {
    const found = new Map<number, { id: number; family: Family; where: string }>();
    for (const labels of this.rows.labels) {
      const id = this.units.family(labels);
      const family = describeFamily(this.units, id, this.options.kind === "sequence" ? "tokens" : "rows");
      const where = `the rows of graph ${this.graph.name}`;
      const reason = whyNot(this.units, id, family, this.options.ranks);
      if (reason) throw new GraphError(`${where} cannot be sharded: ${reason}`);
      found.set(id, { id, family, where });
    }
    for (const { node, labels } of this.sources) {
      const id = this.units.family(labels);
      if (!found.has(id)) {
        found.set(id, { id, family: this.described(id), where: describe(node) });
      }
    }
    const id = this.units.family(this.ranks);
    return [...found.values(), { id, family: describeFamily(this.units, id, "ranks"), where: "ranks" }];
  }

  private described(id: number): Family {
    const isVocabulary = this.vocabularies.some((labels) => this.units.family(labels) === id);
    return describeFamily(this.units, id, isVocabulary ? "vocabulary" : null);
  }

  private choiceAt(node: Node): number {
    return this.tried.choices.get(node) ?? 0;
  }

  /**
   * Makes another choice of which axes the tokens are on.
   * @throws GraphError where there is none.
   */
  private choosesTokens(): boolean {
    const { tried, graph, options } = this;
    const next = this.chosen.find(
      ({ node, ways, labels }) => this.isRows(labels) && this.choiceAt(node) + 1 < ways,
    );
    if (next) tried.choices.set(next.node, this.choiceAt(next.node) + 1);
    else if (tried.rowAxis + 1 < this.rows.ways) {
      tried.rowAxis++;
      tried.choices.clear();
    } else {
      throw new GraphError(
        `graph ${graph.name} cannot be sharded among ${options.ranks} ranks: ${describe(this.batches[0]!)} leaves no axis of tokens that is long enough; use data or pipeline parallelism`,
      );
    }
    return true;
  }

  private visit(node: Node): void {
    const { values } = this;
    const inputs = node.inputs.map((name) => values.of(name));
    if (keepsSum(node, inputs)) {
      const shared = inputs.map(
        (value) => value && (value.layout.kind === "sum" ? value : values.whole(value, true)),
      );
      values.step(node, shared, [SUM], { alike: false });
      return;
    }
    const [a, b, c] = (inputs as (Value | undefined)[]).map((value) => value && this.settled(value));
    const settled = inputs.map((value) => value && this.settled(value));
    if (NORMS.has(node.op)) settled[0] = this.byRows(settled[0]!);
    const met = this.options.kind === "sequence" ? meeting(node, a, b) : null;
    if (met === "batch") this.batches.push(node);
    else if (met !== null) {
      const whole = values.gathered(settled[met]!);
      settled[met] = whole;
      this.carry(node, settled, whole);
      return;
    }
    const isProduct = PRODUCTS.has(node.op) && a !== undefined && b !== undefined;
    if (isProduct && c && a.layout.kind === "part" && a.layout.axis === innerOf(node, 0, a)) {
      for (const part of addedOnce(node, values)) this.visit(part);
    } else if (node.op === "Dropout" && node.outputs.length === 1 && a?.layout.kind === "part") {
      dropPart(node, a, settled.slice(1), values);
    } else if (isProduct && this.begins(node, a, b, c)) this.begin(node, a, b, c);
    else if (this.options.vocabulary && takesClasses(node, a)) {
      const { labels } = a!.layout as Part;
      this.sinks.push(labels);
      this.vocabularies.push(labels);
      classLoss(node, a!, b!, values, this.ranks);
    } else this.carry(node, settled);
  }

  /** Whether a product may begin a family: columns of a held matrix. */
  private begins(node: Node, a: Value, b: Value, c: Value | undefined): boolean {
    if (
      this.options.kind === "sequence" ||
      a.fixed ||
      !b.fixed ||
      b.type.shape.length !== 2 ||
      a.type.shape.length < 2
    )
      return false;
    if (this.tried.refused.has(node) || (c && !c.fixed)) return false;
    if (a.layout.kind === "part" && !this.isRows(a.layout.labels)) return false;
    if (isNarrow(node, this.readers.get(node.outputs[0]!) ?? [], this.values.types)) return false;
    const held = this.values.heldBehind(b);
    return held !== undefined && (this.values.cuts.has(held) || this.values.sliceable(b, NO_LABELS));
  }

  private begin(node: Node, a: Value, b: Value, c: Value | undefined): void {
    const { values, units } = this;
    const axis = productAxes(node, 1, 2)[1]!;
    const labels = units.fresh(b.type.shape[axis]!);
    this.sources.push({ node, labels });
    this.cutCount++;
    const inputs: (Value | undefined)[] = [values.whole(a, true), values.slice(b, part(axis, labels))];
    if (c) {
      const last = c.type.shape.length - 1;
      const cut = last >= 0 && c.type.shape[last] !== 1 && values.sliceable(c, labels);
      inputs.push(cut ? values.slice(c, part(last, labels)) : c);
    }
    const out = values.types.get(node.outputs[0]!)!.shape.length - 1;
    values.step(node, inputs, [part(out, labels)], { alike: false });
  }

  /** @param shared a whole value of whose gradient every rank has a summand already. */
  private carry(node: Node, inputs: readonly (Value | undefined)[], shared?: Value): void {
    const { values, units } = this;
    const cut = inputs.flatMap((value) => (value?.layout.kind === "part" ? [value.layout] : []));
    const rule = CARRY_RULES[node.op];
    const site: Site = {
      node,
      units,
      ranks: this.options.ranks,
      type: (index) => inputs[index]!.type,
      result: (index) => values.types.get(node.outputs[index]!)!,
      layout: (index) => layoutOf(inputs[index]),
      sliceable: (index, labels) => values.sliceable(inputs[index]!, labels),
      choice: (ways, labels) => {
        this.chosen.push({ node, ways, labels });
        return Math.min(this.choiceAt(node), ways - 1);
      },
      ints: (index) => inputs[index]?.constant && integers(inputs[index].constant),
    };
    const carried =
      cut.length === 0 ? undefined : (rule?.(site) ?? `is ${node.op}, which no part is computed of`);
    if (carried === undefined || typeof carried === "string") {
      for (const { labels } of cut) {
        this.failures.push({ labels, reason: `leads to ${describe(node)}, which ${carried}` });
      }
      const whole = inputs.map((value) => value && values.whole(value, false));
      values.step(node, whole, [], { alike: true });
      return;
    }
    const parts = carried.inputs.map((wanted, index): Value | undefined => {
      const value = inputs[index];
      if (!value || value === shared || (value.layout.kind === "part" && wanted.kind === "part"))
        return value;
      return wanted.kind === "part" ? values.slice(value, wanted) : values.whole(value, true);
    });
    const b = inputs[1];
    if (PRODUCTS.has(node.op)) {
      const sums = carried.outputs[0]!.kind === "sum";
      if (b?.fixed) this.cutCount++;
      if (b?.fixed && sums) for (const { labels } of cut) this.sinks.push(labels);
    }
    values.step(node, parts, carried.outputs, { alike: false, mean: carried.mean });
  }

  /** A value whose summands have been added up, if it is of summands. */
  private settled(value: Value): Value {
    if (value.layout.kind !== "sum") return value;
    const layout = this.rows.layout(value.type.shape);
    return this.values.move(layout.kind === "part" ? "scatter" : "reduce", value, layout);
  }

  /** Where the residual stream begins in the graph, behind a lookup, the first norm that reads it takes it by rows. */
  private byRows(value: Value): Value {
    const flows = value.trained || this.options.kind === "sequence";
    if (value.fixed || value.layout.kind !== "whole" || !flows) return value;
    const layout = this.rows.layout(value.type.shape);
    return layout.kind === "part" ? this.values.begin(value, layout) : value;
  }

  private isRows(labels: Labels): boolean {
    return labels !== NO_LABELS && this.rows.has(labels);
  }
}

/** Stands for columns that are yet to be labelled. */
const NO_LABELS: Labels = { family: -1, ids: new Int32Array(0) };

const innerOf = (node: Node, index: 0 | 1, value: Value) => innerAxis(node, index, value.type.shape.length);

function layoutOf(value: Value | undefined): Part | typeof WHOLE {
  const layout = value?.layout ?? WHOLE;
  if (layout.kind === "sum") throw new GraphError(`"${value!.name}" is yet to be added up`);
  return layout;
}
