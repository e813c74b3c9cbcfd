/**
 * Sharding: one segment of a transformer, or a range of them, cut into graphs for several ranks, which together compute
 * what one would, each with a part of the weights and of the work.
 *
 * - Tensor parallelism (Shoeybi et al., "Megatron-LM", 2019): heads of attention, and columns of the feed-forward
 *   layer's first matrices, are divided; the matrices behind them are cut by rows, so that each half of a block takes
 *   one all-reduce of its result forward and one of its input's gradient backward, of T·B·D numbers each.
 * - Sequence parallelism (Li et al., "Sequence Parallelism", 2021): tokens of every sequence are divided, and every rank
 *   has all weights, so that only keys and values are gathered, T·B·D numbers each (less where query heads share them),
 *   and their gradients scattered back. Once a step the gradients of all parameters are added up.
 * - Tensor and sequence parallelism (Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models",
 *   2022; Ye et al., "Galaxy", 2024): tensor parallelism, and in between, where that has every rank do the same (norms,
 *   residual sums, a head), each rank has rows. An all-reduce becomes a reduce-scatter and an all-gather, which are as
 *   much to send.
 *
 * What is divided how is found from the graph, not from names (see `propagate.ts`), so imported models shard too.
 * Shares may be unequal. Results are those of the whole graph up to rounding: sums are in another order.
 */

import { byteLength } from "../../protocols/tensor.ts";
import { type Roles, rolesWithin } from "../model.ts";
import type { Graph } from "../onnx/graph.ts";
import { GraphError } from "../onnx/graph.ts";
import { inferShapes } from "../onnx/shapes.ts";
import { nodeFlops } from "../segments/flops.ts";
import { assign, checkShares, type Shares } from "./assign.ts";
import type { Cut } from "./layout.ts";
import type { CollectiveUse, End, Holding, Phase, RankCost, ShardKind, ShardPlan, Transfer } from "./plan.ts";
import type { Move, Program, Step, Value } from "./program.ts";
import { propagate } from "./propagate.ts";
import { Assignment, rankGraph } from "./rank.ts";
import { sizesOf } from "./slices.ts";

export interface ShardOptions {
  readonly kind: ShardKind;
  /** How many devices; at least 2. */
  readonly ranks: number;
  readonly shares?: Shares;
  /**
   * Whether a head is cut by its vocabulary. Left out, it is in tensor parallelism; where rows are divided each rank has
   * the whole head, for its own, and nothing of it is sent but the gradient of its matrix.
   */
  readonly vocabulary?: boolean;
  /** The incoming activation of the segment; left out or null, there is none. */
  readonly input?: string | null;
  /** Whether the gradient of `input` is wanted; left out, it is. */
  readonly inputGradient?: boolean;
}

/**
 * @param graph the forward graph of a segment or of a range of them, as `cutGraph` gives it, or of a whole model.
 * @param roles what the model's inputs are.
 * @throws GraphError naming the node where nothing can be cut and why, and for shares that do not fit.
 */
export function shard(graph: Graph, roles: Roles, options: ShardOptions): ShardPlan {
  const { kind, ranks, shares = {} } = options;
  const incoming = options.input ?? null;
  checkShares(ranks, shares);
  if (incoming !== null && !graph.inputs.some(({ name }) => name === incoming)) {
    throw new GraphError(`graph ${graph.name} has no input "${incoming}"`);
  }
  const own = rolesWithin(roles, graph);
  const statistics = Object.keys(own.statistics);
  const parameters = new Set(own.parameters);
  const tied = new Set(Object.entries(own.ties).flat());
  const { program, units, families } = propagate(
    graph,
    {
      parameters,
      held: new Set([...own.parameters, ...own.frozen, ...statistics]),
      uncut: new Set(
        kind === "sequence"
          ? [...own.parameters, ...own.frozen, ...statistics]
          : [...statistics, ...own.parameters.filter((name) => tied.has(name))],
      ),
    },
    {
      ...{ kind, ranks, input: incoming, vocabulary: options.vocabulary ?? kind === "tensor" },
      inputTrained: incoming !== null && (options.inputGradient ?? true),
    },
  );
  const rankOf = new Map<number, number>();
  for (const { family, where } of families) {
    for (const [unit, rank] of assign(units, family, ranks, shares, where)) rankOf.set(unit, rank);
  }
  const assignment = new Assignment(units, rankOf, ranks);
  const live = alive(program);
  const phases = phasesOf(graph.name, live, program, parameters, assignment);
  const transfers = live.moves
    .filter(({ phase }) => phase >= phases.length)
    .map((move) => transfer(move, assignment));
  const holdings = holdingsOf(graph, own, program, assignment);
  const all = [...phases.flatMap((phase) => phase.transfers), ...transfers];
  const end = ({ name, type, layout, trained }: Value): End => {
    const cut = layout.kind === "part" ? assignment.cut(layout) : null;
    return { name, dtype: type.dtype, shape: type.shape, cut, trained };
  };
  const input = program.input && end(program.input);
  const outputs = program.outputs.map(end);
  const sizes = (cut: Cut | null) => (cut ? sizesOf(cut) : new Array<number>(ranks).fill(1));
  const gathered = (ends: readonly End[]) =>
    ends.flatMap(({ dtype, shape, cut }): CollectiveUse[] =>
      cut ? [{ op: "all-gather", bytes: byteLength(dtype, shape), sizes: sizes(cut) }] : [],
    );
  const uses = (direction: "forward" | "backward") =>
    all.flatMap((each): CollectiveUse[] => {
      const op = each[direction];
      return op ? [{ op, bytes: each.bytes, sizes: sizes(op === "all-reduce" ? null : each.cut) }] : [];
    });
  const forward = [...uses("forward"), ...gathered(outputs)];
  const backward = [...uses("backward").reverse(), ...gathered(input?.trained ? [input] : [])];
  const bytes = (collectives: readonly CollectiveUse[]) =>
    collectives.reduce((sum, each) => sum + each.bytes, 0);
  const summed = Object.values(holdings).filter(({ gradient }) => gradient === "sum");
  return {
    ...{ name: graph.name, kind, ranks, phases, transfers, holdings },
    ...{ input, outputs, forward, backward },
    costs: Array.from({ length: ranks }, (_, rank) => costOf(phases, holdings, rank)),
    forwardBytes: bytes(forward),
    backwardBytes: bytes(backward),
    gradientBytes: summed.reduce((sum, { shape }) => sum + byteLength("f32", shape), 0),
  };
}

interface Live {
  readonly steps: readonly Step[];
  readonly moves: readonly Move[];
}

/** What the outputs depend on. */
function alive({ steps, moves, outputs }: Program): Live {
  const makers = new Map<string, Step | Move>();
  for (const step of steps) for (const output of step.outputs) if (output) makers.set(output.name, step);
  for (const move of moves) makers.set(move.to.name, move);
  const kept = new Set<Step | Move>();
  const pending = outputs.map(({ name }) => name);
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const maker = makers.get(name);
    if (!maker || kept.has(maker)) continue;
    kept.add(maker);
    const inputs = "node" in maker ? maker.inputs : [maker.from];
    for (const value of inputs) if (value) pending.push(value.name);
  }
  return { steps: steps.filter((step) => kept.has(step)), moves: moves.filter((move) => kept.has(move)) };
}

function phasesOf(
  name: string,
  { steps, moves }: Live,
  program: Program,
  parameters: ReadonlySet<string>,
  assignment: Assignment,
): Phase[] {
  const fixed = (step: Step) => step.outputs.every((value) => value?.fixed ?? true);
  const running = steps.filter((step) => !fixed(step));
  const makers = new Map(
    steps
      .filter(fixed)
      .flatMap((step) => step.outputs.flatMap((value) => (value ? [[value.name, step] as const] : []))),
  );
  const count = Math.max(0, ...running.map(({ phase }) => phase + 1));
  return Array.from({ length: count }, (_, phase): Phase => {
    const own = running.filter((step) => step.phase === phase);
    const outside = new Set([
      ...running
        .filter((step) => step.phase !== phase)
        .flatMap(({ inputs }) => inputs.map((value) => value?.name)),
      ...moves.map(({ from }) => from.name),
      ...program.outputs.map((value) => value.name),
    ]);
    const made = own.flatMap(({ outputs }) => outputs.flatMap((value) => (value ? [value] : [])));
    const outputs = made.filter((value) => outside.has(value.name));
    const read = own.flatMap(({ inputs }) => inputs.flatMap((value) => (value ? [value] : [])));
    const madeNames = new Set(made.map((value) => value.name));
    const incoming = read.filter((value) => !value.fixed && !madeNames.has(value.name));
    const trained = [...incoming, ...outputs].filter((value) => value.trained).map((value) => value.name);
    const graphs = Array.from({ length: assignment.ranks }, (_, rank) =>
      rankGraph(`${name}.${phase}`, own, makers, outputs, assignment, rank),
    );
    const transfers = moves.filter((move) => move.phase === phase).map((move) => transfer(move, assignment));
    return { transfers, graphs, trained: [...new Set(trained)].filter((value) => !parameters.has(value)) };
  });
}

const COLLECTIVES = {
  share: [null, "all-reduce"],
  gather: ["all-gather", null],
  "gather-share": ["all-gather", "reduce-scatter"],
  reduce: ["all-reduce", null],
  scatter: ["reduce-scatter", "all-gather"],
} as const;

function transfer({ kind, from, to }: Move, assignment: Assignment): Transfer {
  const [forward, backward] = COLLECTIVES[kind];
  const { dtype, shape } = from.type;
  return {
    ...{ name: to.name, dtype, shape, value: from.name, forward },
    backward: from.trained ? backward : null,
    cut: assignment.cutOf(from) ?? assignment.cutOf(to),
    trained: from.trained,
    bytes: byteLength(dtype, shape),
  };
}

function holdingsOf(
  graph: Graph,
  own: Roles,
  program: Program,
  assignment: Assignment,
): Record<string, Holding> {
  const parameters = new Set(own.parameters);
  const held = new Set([...own.parameters, ...own.frozen, ...Object.keys(own.statistics)]);
  const entries = graph.inputs.flatMap(({ name, shape }): [string, Holding][] => {
    if (!held.has(name)) return [];
    const at = program.cuts.get(name);
    const gradient = at ? "part" : program.summed.has(name) ? "sum" : "whole";
    return [
      [
        name,
        { shape, cut: at ? assignment.cut(at) : null, gradient: parameters.has(name) ? gradient : null },
      ],
    ];
  });
  return Object.fromEntries(entries);
}

function costOf(
  phases: readonly Phase[],
  holdings: Readonly<Record<string, Holding>>,
  rank: number,
): RankCost {
  let flops = 0;
  const bytes = new Map<string, number>();
  for (const { graphs } of phases) {
    const types = inferShapes(graphs[rank]!);
    for (const node of graphs[rank]!.nodes) flops += nodeFlops(node, types);
    for (const { name, dtype, shape } of graphs[rank]!.inputs) {
      if (name in holdings) bytes.set(name, byteLength(dtype, shape));
    }
  }
  const sum = (frozen: boolean) =>
    [...bytes].reduce(
      (sum, [name, size]) => sum + ((holdings[name]!.gradient === null) === frozen ? size : 0),
      0,
    );
  return { flops, parameterBytes: sum(false), frozenBytes: sum(true) };
}
