/** All ranks of a sharded graph in one process: runs their phases in turn and does the collectives between them. */

import type { Engine } from "../../../nn/engine/engine.ts";
import type { Graph } from "../../../nn/onnx/graph.ts";
import type { Collective, End, ShardPlan, Transfer } from "../../../nn/shards/plan.ts";
import { joinTensors, sliceTensor } from "../../../nn/shards/slices.ts";
import { type PhaseGraphs, phaseGraphs } from "../../../nn/shards/train.ts";
import { gradientName } from "../../../nn/training.ts";
import { byteLength, Tensor } from "../../../protocols/tensor.ts";
import { runGraph } from "../run.ts";

type Rank = Map<string, Tensor>;

export interface ShardedRun {
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** Of the incoming activation, whole. */
  readonly inputGradient: Tensor | null;
  /** Of every parameter, whole: parts joined, summands added. */
  readonly gradients: Readonly<Record<string, Tensor>>;
  /** Bytes of all values that collectives were about. */
  readonly forwardBytes: number;
  readonly backwardBytes: number;
  /** What each rank's phases kept between forward and backward. */
  readonly stashBytes: readonly number[];
}

const add = (a: Tensor, b: Tensor) => {
  const sum = a.f32().map((x, i) => x + b.f32()[i]!);
  return Tensor.f32(a.shape, sum);
};
const total = (parts: readonly Tensor[]) => parts.reduce(add);

/** What each rank has after a collective over what each had. */
function collective(op: Collective, values: readonly Tensor[], cut: Transfer["cut"]): Tensor[] {
  if (op === "all-gather") {
    const whole = joinTensors(values, cut!);
    return values.map(() => whole);
  }
  const whole = total(values);
  return values.map((_, rank) => (op === "all-reduce" ? whole : sliceTensor(whole, cut!, rank)));
}

const whole = (parts: readonly Tensor[], cut: End["cut"]) => (cut ? joinTensors(parts, cut) : parts[0]!);
const cutFor = (tensor: Tensor, cut: End["cut"], rank: number) =>
  cut ? sliceTensor(tensor, cut, rank) : tensor;

/**
 * @param values of the whole graph's inputs.
 * @param seeds gradients of its outputs, whole.
 */
export async function runSharded(
  engine: Engine,
  plan: ShardPlan,
  values: Readonly<Record<string, Tensor>>,
  seeds: Readonly<Record<string, Tensor>>,
): Promise<ShardedRun> {
  const { ranks, phases, holdings } = plan;
  const each = Array.from({ length: ranks }, (_, rank) => rank);
  const state = each.map((rank): Rank => {
    const own = Object.entries(values).map(([name, tensor]): [string, Tensor] => {
      const cut = name === plan.input?.name ? plan.input.cut : (holdings[name]?.cut ?? null);
      return [name, cutFor(tensor, cut, rank)];
    });
    return new Map(own);
  });
  const gradients = each.map((): Rank => new Map());
  const graphs: PhaseGraphs[][] = phases.map((phase) => each.map((rank) => phaseGraphs(plan, phase, rank)));
  const bytes = { forward: 0, backward: 0 };

  const run = async (graph: Graph, rank: number, extra: ReadonlyMap<string, Tensor>) => {
    const given = graph.inputs.map(({ name, shape }): [string, Tensor] => {
      const value = extra.get(name) ?? state[rank]!.get(name);
      if (!value) throw new Error(`rank ${rank} has no value "${name}" for ${graph.name}`);
      if (value.shape.join() !== shape.join())
        throw new Error(`"${name}" is [${value.shape}], not [${shape}]`);
      return [name, value];
    });
    return runGraph(engine, graph, Object.fromEntries(given));
  };
  const forward = (transfer: Transfer) => {
    const parts = state.map((rank) => rank.get(transfer.value)!);
    if (transfer.forward) bytes.forward += transfer.bytes;
    const results = transfer.forward ? collective(transfer.forward, parts, transfer.cut) : parts;
    results.forEach((tensor, rank) => {
      state[rank]!.set(transfer.name, tensor);
    });
  };
  const gather = (name: string, rank: number, gradient: Tensor) => {
    const known = gradients[rank]!.get(name);
    gradients[rank]!.set(name, known ? add(known, gradient) : gradient);
  };
  const backward = (transfer: Transfer) => {
    if (!transfer.trained || !gradients[0]!.has(transfer.name)) return;
    const parts = gradients.map((rank) => rank.get(transfer.name)!);
    if (transfer.backward) bytes.backward += transfer.bytes;
    each.forEach((rank) => {
      const own = () =>
        transfer.forward === "all-gather" ? sliceTensor(parts[rank]!, transfer.cut!, rank) : parts[rank]!;
      const result = transfer.backward ? collective(transfer.backward, parts, transfer.cut)[rank]! : own();
      gather(transfer.value, rank, result);
    });
  };

  /** What each phase of each rank keeps; names of different phases may be the same. */
  const stashes = phases.map(() => each.map((): Rank => new Map()));
  for (const [i, phase] of phases.entries()) {
    phase.transfers.forEach(forward);
    for (const rank of each) {
      const { forward: graph } = graphs[i]![rank]!;
      const handedOn = new Set(phase.graphs[rank]!.outputs.map(({ name }) => name));
      for (const [name, tensor] of Object.entries(await run(graph, rank, new Map()))) {
        (handedOn.has(name) ? state[rank]! : stashes[i]![rank]!).set(name, tensor);
      }
    }
  }
  plan.transfers.forEach(forward);
  const endBytes = (ends: readonly (End | null)[]) =>
    ends.reduce((sum, end) => sum + (end?.cut ? byteLength(end.dtype, end.shape) : 0), 0);
  bytes.forward += endBytes(plan.outputs);
  if (plan.input?.trained) bytes.backward += endBytes([plan.input]);

  for (const { name, cut } of plan.outputs) {
    if (seeds[name]) for (const rank of each) gradients[rank]!.set(name, cutFor(seeds[name], cut, rank));
  }
  const sums = each.map((): Rank => new Map());
  [...plan.transfers].reverse().forEach(backward);
  for (const [i, phase] of [...phases.entries()].reverse()) {
    for (const rank of each) {
      const { backward: graph, parameters, inputGradients, outputGradients } = graphs[i]![rank]!;
      if (!graph) continue;
      const extra: Rank = new Map(stashes[i]![rank]!);
      for (const name of outputGradients) extra.set(gradientName(name), gradients[rank]!.get(name)!);
      for (const { name, shape } of parameters) {
        extra.set(`acc.${name}`, sums[rank]!.get(name) ?? Tensor.zeros("f32", shape));
      }
      const results = await run(graph, rank, extra);
      for (const { name } of parameters) sums[rank]!.set(name, results[`sum.${name}`]!);
      for (const name of inputGradients) gather(name, rank, results[gradientName(name)]!);
    }
    [...phase.transfers].reverse().forEach(backward);
  }

  const outputs = plan.outputs.map(({ name, cut }): [string, Tensor] => [
    name,
    whole(
      state.map((rank) => rank.get(name)!),
      cut,
    ),
  ]);
  const joined = Object.entries(holdings).flatMap(([name, { cut, gradient }]): [string, Tensor][] => {
    const parts = sums.map((rank) => rank.get(name)!);
    if (gradient === null) return [];
    return [[name, gradient === "sum" ? total(parts) : whole(parts, cut)]];
  });
  const incoming = gradients.map((rank) => rank.get(plan.input?.name ?? "")!);
  const kept = each.map((rank) =>
    graphs.reduce(
      (sum, phase) =>
        sum +
        phase[rank]!.stash.reduce((bytes, { shape }) => bytes + 4 * shape.reduce((a, b) => a * b, 1), 0),
      0,
    ),
  );
  return {
    outputs: Object.fromEntries(outputs),
    inputGradient: incoming[0] ? whole(incoming, plan.input!.cut) : null,
    gradients: Object.fromEntries(joined),
    forwardBytes: bytes.forward,
    backwardBytes: bytes.backward,
    stashBytes: kept,
  };
}

/** The same of the whole graph, by the usual way. */
export async function runWhole(
  engine: Engine,
  plan: ShardPlan,
  graph: Graph,
  values: Readonly<Record<string, Tensor>>,
  seeds: Readonly<Record<string, Tensor>>,
): Promise<Pick<ShardedRun, "outputs" | "inputGradient" | "gradients" | "stashBytes">> {
  const parameters = Object.keys(plan.holdings).filter((name) => plan.holdings[name]!.gradient !== null);
  const inside = new Set(plan.input ? [plan.input.name] : []);
  const real = graph.inputs.filter(({ name }) => inside.has(name)).map(({ name }) => name);
  const phase = { transfers: [], graphs: [graph], trained: [...real, ...Object.keys(seeds)] };
  const { forward, backward, stash } = phaseGraphs(plan, phase, 0);
  const results = await runGraph(engine, forward, values);
  const given: Record<string, Tensor> = { ...values, ...results };
  for (const [name, seed] of Object.entries(seeds)) given[gradientName(name)] = seed;
  const all = await runGraph(engine, backward!, given);
  return {
    outputs: Object.fromEntries(graph.outputs.map(({ name }) => [name, results[name]!])),
    inputGradient: real[0] ? all[gradientName(real[0])]! : null,
    gradients: Object.fromEntries(parameters.map((name) => [name, all[`sum.${name}`]!])),
    stashBytes: [stash.reduce((bytes, { shape }) => bytes + 4 * shape.reduce((a, b) => a * b, 1), 0)],
  };
}

/** The largest difference of two tensors over the largest number of the second. */
export function relativeError(actual: Tensor, expected: Tensor): number {
  if (actual.shape.join() !== expected.shape.join()) return Number.POSITIVE_INFINITY;
  const [a, b] = [actual.f32(), expected.f32()];
  const scale = b.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  return a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0) / (scale || 1);
}
