/**
 * What flows through a forward graph: which values are activations, that have to travel from one stage to the next,
 * which are everybody's own, and where in the order of nodes things happen that must not be cut apart.
 */

import type { DType } from "../../protocols/tensor.ts";
import { COUNTERS, type Trainable } from "../model.ts";
import type { Node, ValueType } from "../onnx/graph.ts";

export interface Flow {
  /** Nodes that the loss depends on, in order; those of running statistics alone are not among them. */
  readonly main: readonly Node[];
  /** Values that have to travel: computed from data and from weights. */
  readonly activations: ReadonlySet<string>;
  /** Values that a gradient with respect to some parameter goes through. */
  readonly trained: ReadonlySet<string>;
  /** Held inputs that a value computed from them alone, or such an input itself, is made of. */
  readonly roots: (value: string) => readonly string[];
  /** Ranges of places in `main`, [first, last], no cut may be made within: not behind `first`, only behind `last`. */
  readonly together: readonly (readonly [number, number])[];
  /** The segment that computes a statistic's new value, where segments end in `outputs`. */
  segmentOf(statistic: string, outputs: readonly (string | null)[]): number;
}

const REAL: readonly DType[] = ["f32", "f16", "bf16", "f64"];
const NONE: readonly string[] = [];

export function classify(model: Trainable, types: ReadonlyMap<string, ValueType>): Flow {
  const { graph, parameters, frozen, statistics } = model;
  const producer = new Map<string, Node>();
  for (const node of graph.nodes) for (const output of node.outputs) producer.set(output, node);
  const main = reaching(graph.nodes, graph.outputs[0]!.name);
  const place = new Map(main.map((node, i) => [node, i]));

  const frozenVectors = new Set(frozen.filter((name) => (types.get(name)?.shape.length ?? 0) <= 1));
  const held = new Set([...parameters, ...frozen, ...Object.keys(statistics)]);
  const roots = new Map<string, readonly string[]>([...held].map((name) => [name, [name]]));
  const counters: readonly string[] = COUNTERS;
  const data = new Set(
    graph.inputs.map(({ name }) => name).filter((name) => !held.has(name) && !counters.includes(name)),
  );
  const activations = new Set<string>();
  const trained = new Set(parameters);
  for (const node of graph.nodes) {
    const made = [...new Set(node.inputs.flatMap((input) => roots.get(input) ?? NONE))];
    const moves = node.inputs.some((input) => activations.has(input));
    const reads = node.inputs.some((input) => data.has(input));
    const isActivation = moves || (reads && made.some((name) => !frozenVectors.has(name)));
    const depends = node.inputs.some((input) => trained.has(input));
    for (const output of node.outputs) {
      if (output === "") continue;
      if (isActivation) activations.add(output);
      else if (reads) data.add(output);
      else if (made.length > 0) roots.set(output, made);
      if (depends && REAL.includes(types.get(output)!.dtype)) trained.add(output);
    }
  }

  /** First and last place where each parameter and statistic is used. */
  const uses = new Map<string, [number, number]>();
  main.forEach((node, i) => {
    if (!node.outputs.some((output) => activations.has(output))) return;
    for (const name of node.inputs.flatMap((input) => roots.get(input) ?? NONE)) {
      const range = uses.get(name);
      if (range) range[1] = i;
      else uses.set(name, [i, i]);
    }
  });
  const shared = new Set(frozen);
  const together: (readonly [number, number])[] = [...uses].flatMap(([name, range]) =>
    shared.has(name) ? [] : [range],
  );

  /** Where a statistic's new value is computed from: the places of what its own nodes read. */
  const origin = (input: string, output: string): readonly [number, number] => {
    const places = [...(uses.get(input) ?? [])];
    const seen = new Set<string>();
    const pending = [output];
    for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
      if (seen.has(value)) continue;
      seen.add(value);
      if (roots.has(value)) for (const name of roots.get(value)!) places.push(...(uses.get(name) ?? []));
      const node = producer.get(value);
      if (!node) continue;
      const at = place.get(node);
      if (at !== undefined && activations.has(value)) places.push(at);
      else if (at === undefined) pending.push(...node.inputs);
    }
    return places.length === 0 ? [0, 0] : [Math.min(...places), Math.max(...places)];
  };
  const origins = new Map(
    Object.entries(statistics).map(([input, output]) => [output, origin(input, output)]),
  );
  together.push(...origins.values());

  return {
    main,
    activations,
    trained,
    roots: (value) => roots.get(value) ?? NONE,
    together,
    segmentOf: (statistic, outputs) => {
      const last = origins.get(statistic)![1];
      return outputs.filter((value) => value !== null && place.get(producer.get(value)!)! < last).length;
    },
  };
}

/** Nodes that `output` depends on, in order. */
function reaching(nodes: readonly Node[], output: string): Node[] {
  const needed = new Set([output]);
  const kept: Node[] = [];
  for (const node of [...nodes].reverse()) {
    if (!node.outputs.some((name) => needed.has(name))) continue;
    kept.push(node);
    for (const input of node.inputs) needed.add(input);
  }
  return kept.reverse();
}
