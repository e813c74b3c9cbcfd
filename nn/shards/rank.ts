/**
 * What one rank runs in one phase: the nodes of the program on its own sizes. Shapes that nodes are given as constants
 * are its own, and constants and losses that are cut are cut for it.
 */

import { type Shape, Tensor } from "../../protocols/tensor.ts";
import { type Attributes, GraphBuilder } from "../onnx/builder.ts";
import type { Graph } from "../onnx/graph.ts";
import { tensorOf } from "../onnx/numbers.ts";
import { type Cut, cutOf, type Part, rangesLength } from "./layout.ts";
import type { Step, Value } from "./program.ts";
import { sliceTensor } from "./slices.ts";
import type { Labels, Units } from "./units.ts";

/** Which rank has which units. */
export class Assignment {
  readonly ranks: number;
  private readonly units: Units;
  private readonly rankOf: ReadonlyMap<number, number>;
  private readonly cuts = new Map<Labels, Cut>();

  constructor(units: Units, rankOf: ReadonlyMap<number, number>, ranks: number) {
    this.units = units;
    this.rankOf = rankOf;
    this.ranks = ranks;
  }

  cut({ axis, labels }: Part): Cut {
    let cut = this.cuts.get(labels);
    if (!cut) {
      const ranks = Array.from(labels.ids, (id) => this.rankOf.get(this.units.unit(id))!);
      cut = cutOf(axis, ranks, this.ranks);
      this.cuts.set(labels, cut);
    }
    return { ...cut, axis };
  }

  cutOf({ layout }: Value): Cut | null {
    return layout.kind === "part" ? this.cut(layout) : null;
  }

  /** The shape of what a rank has of a value. */
  shape(value: Value, rank: number): Shape {
    const cut = this.cutOf(value);
    return cut ? value.type.shape.with(cut.axis, rangesLength(cut.ranges[rank]!)) : value.type.shape;
  }
}

/**
 * @param steps of the phase, in order.
 * @param makers of values that are made from held values and constants: they are made here where they are read.
 * @param outputs values that are read outside the phase.
 */
export function rankGraph(
  name: string,
  steps: readonly Step[],
  makers: ReadonlyMap<string, Step>,
  outputs: readonly Value[],
  assignment: Assignment,
  rank: number,
): Graph {
  const builder = new GraphBuilder(name);
  const defined = new Set<string>();
  const define = (value: Value): void => {
    if (defined.has(value.name)) return;
    defined.add(value.name);
    const maker = makers.get(value.name);
    if (value.constant) {
      const cut = assignment.cutOf(value);
      builder.constant(value.name, cut ? sliceTensor(value.constant, cut, rank) : value.constant);
    } else if (value.fixed && maker) run(maker);
    else builder.input(value.name, value.type.dtype, assignment.shape(value, rank));
  };
  const run = (step: Step): void => {
    for (const output of step.outputs) if (output) defined.add(output.name);
    const given = shapeGiven(step);
    step.inputs.forEach((value, index) => {
      if (value && !(given && index === 1)) define(value);
    });
    append(builder, step, assignment, rank);
  };
  for (const step of steps) run(step);
  for (const output of outputs) builder.output(output.name);
  return builder.build();
}

/** Whether the second input is a shape, or sizes, that each rank has its own of. */
function shapeGiven({ node, outputs }: Step): boolean {
  const cut = outputs.some((output) => output?.layout.kind === "part");
  return cut && (node.op === "Reshape" || node.op === "Expand" || node.op === "Split");
}

function append(builder: GraphBuilder, step: Step, assignment: Assignment, rank: number): void {
  const { node, take, mean, lookup } = step;
  const shape = (value: Value) => assignment.shape(value, rank);
  const output = node.outputs[0]!;
  if (take) {
    const { axis, ranges } = assignment.cut(take);
    const own = ranges[rank]!;
    const [input] = node.inputs as [string];
    if (own.length === 1) {
      const [from, to] = own[0]!;
      builder.op(
        "Slice",
        [input, builder.ints([from]), builder.ints([to]), builder.ints([axis])],
        {},
        output,
      );
    } else {
      const indices = own.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i));
      builder.op("Gather", [input, builder.ints(indices)], { axis }, output);
    }
  } else if (lookup) {
    const { ranges } = assignment.cut(lookup);
    const own = ranges[rank]!.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i));
    const [classes, [targets]] = [lookup.labels.ids.length, node.inputs as [string]];
    const [places, mine] = [new BigInt64Array(classes), new Array<number>(classes).fill(0)];
    own.forEach((index, place) => {
      places[index] = BigInt(place);
      mine[index] = 1;
    });
    const column = builder.ints([-1, 1]);
    const tables = [Tensor.i64([classes], places), tensorOf(step.outputs[1]!.type.dtype, [classes], mine)];
    tables.forEach((table, i) => {
      const name = node.outputs[i]!;
      const found = builder.op("Gather", [builder.constant(`${name}.table`, table), targets], { axis: 0 });
      builder.op("Reshape", [found, column], {}, name);
    });
  } else if (mean) {
    const whole = `${output}.mean`;
    builder.append({ ...node, outputs: [whole] });
    const share = rangesLength(assignment.cut({ kind: "part", axis: 0, labels: mean }).ranges[rank]!);
    builder.op("Mul", [whole, builder.scalarLike(share / mean.ids.length, whole)], {}, output);
  } else if (shapeGiven(step)) {
    const [first] = step.outputs as [Value];
    const axis = node.op === "Split" ? Number(node.attributes.axis ?? 0) : 0;
    const sizes = node.op === "Split" ? step.outputs.map((value) => shape(value!).at(axis)!) : shape(first);
    const attributes: Attributes = node.op === "Split" ? { axis } : {};
    builder.append({ ...node, inputs: [node.inputs[0]!, builder.ints(sizes)], attributes });
  } else builder.append(node);
}
