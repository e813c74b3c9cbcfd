/**
 * Operators that ONNX Runtime is slow at, each beside the spelling that our gradient rules and passes write instead.
 * Both are given the same data and have to give the same result.
 */

import { createEngine } from "../../nn/engine/create.ts";
import type { Binding, Engine, EngineTensor } from "../../nn/engine/engine.ts";
import type { Graph } from "../../nn/onnx/graph.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { type Contender, inTurns } from "../rounds.ts";
import { median, speedRatio } from "../statistics.ts";
import type { NnContext, NnResult } from "./parts.ts";
import { COMPARISONS, type Comparison, type Sizes, type Spelling } from "./spellings.ts";

const SIZES: Sizes = { rows: 512, columns: 1024, vocabulary: 8192, width: 256 };
const QUICK: Sizes = { rows: 32, columns: 64, vocabulary: 128, width: 16 };
/** Runs of a spelling in a round. */
const RUNS = 7;
/** Most that two spellings may differ, relative to one and to the value: sums are in another order. */
const TOLERANCE = 1e-3;

export async function operators({ quick, rounds, note }: NnContext): Promise<NnResult> {
  const sizes = quick ? QUICK : SIZES;
  const engine = await createEngine();
  try {
    const figures: { what: string; slowUs: number; fastUs: number; times: number }[] = [];
    const rows: (readonly string[])[] = [];
    for (const make of COMPARISONS) {
      const comparison = make(sizes);
      note(`operators: ${comparison.what}`);
      const [slow, fast] = await measure(engine, comparison, rounds);
      const { paired } = speedRatio(fast, slow);
      const { what } = comparison;
      figures.push({ what, slowUs: 1000 * median(slow), fastUs: 1000 * median(fast), times: paired });
      rows.push([
        ...[what, comparison.slow.text, micros(slow), comparison.fast.text, micros(fast)],
        `${paired.toFixed(1)} ×`,
      ]);
    }
    return {
      sections: [
        {
          title: "Slow operators, and what is written instead",
          text: [
            `Kernel time on one thread; matrices of ${sizes.rows} × ${sizes.columns}, ${sizes.vocabulary} classes, embeddings of ` +
              `width ${sizes.width}. Both spellings take the same inputs and agree in the result.`,
          ],
          table: { columns: ["", "not written", "takes", "written", "takes", "faster"], rows },
        },
      ],
      figures: { operators: figures },
    };
  } finally {
    await engine.close();
  }
}

const micros = (times: readonly number[]): string => `${(1000 * median(times)).toFixed(0)} µs`;

/** Times of both spellings by round, in milliseconds. @throws Error when their results differ. */
async function measure(
  engine: Engine,
  comparison: Comparison,
  rounds: number,
): Promise<[slow: readonly number[], fast: readonly number[]]> {
  const [slow, fast] = [await prepare(engine, comparison, "slow"), await prepare(engine, comparison, "fast")];
  try {
    for (const { run } of [slow, fast]) await run();
    expectSame(comparison.what, slow.result(), fast.result());
    const contender = ({ name, run }: Prepared): Contender => ({
      name,
      work: async (count) => {
        const times: number[] = [];
        for (let i = 0; i < count; i++) times.push(await run());
        return times;
      },
    });
    const times = await inTurns([contender(slow), contender(fast)], rounds, RUNS);
    return [times.get("slow")!, times.get("fast")!];
  } finally {
    for (const { release } of [slow, fast]) release();
  }
}

interface Prepared {
  readonly name: "slow" | "fast";
  run(): Promise<number>;
  result(): Float32Array;
  release(): void;
}

async function prepare(engine: Engine, comparison: Comparison, name: "slow" | "fast"): Promise<Prepared> {
  const spelling = comparison[name];
  const executable = await engine.compile(graphOf(comparison, spelling));
  const feeds = Object.fromEntries(
    comparison.inputs.map((input) => [input.name, engine.allocate(input.dtype, input.shape)]),
  );
  for (const [input, { tensor }] of Object.entries(feeds)) fill(input, tensor, comparison);
  const y: EngineTensor = feeds[spelling.inPlace ?? ""] ?? engine.allocate("f32", comparison.y);
  const binding: Binding = executable.bind(feeds, { y });
  const held = new Set([binding, executable, ...Object.values(feeds), y]);
  return {
    name,
    run: () => binding.run(),
    result: () => y.tensor.f32().slice(),
    release: () => {
      for (const one of held) one.release();
    },
  };
}

function graphOf({ inputs, integers = {}, floats = {}, y, what }: Comparison, { nodes }: Spelling): Graph {
  const used = new Set(nodes.flatMap((node) => node.inputs));
  const constants = [
    ...Object.entries(integers).map(([name, values]) => [name, Tensor.i64([values.length], values)] as const),
    ...Object.entries(floats).map(([name, { shape, values }]) => [name, Tensor.f32(shape, values)] as const),
  ];
  return {
    ...{ name: what, inputs, nodes, outputs: [{ name: "y", dtype: "f32", shape: y }] },
    initializers: new Map(constants.filter(([name]) => used.has(name))),
  };
}

/** Class numbers for integers, twos for the exponent, and else a spread of numbers between −0.5 and 0.5. */
function fill(name: string, tensor: Tensor, { integers }: Comparison): void {
  if (tensor.dtype === "i64") {
    const classes = integers?.classes?.[0] ?? 1;
    tensor.i64().forEach((_, i, values) => {
      values[i] = BigInt((i * 7919) % classes);
    });
  } else if (name === "two") tensor.f32().fill(2);
  else {
    tensor.f32().forEach((_, i, values) => {
      values[i] = ((i * 7919) % 1000) / 1000 - 0.5;
    });
  }
}

function expectSame(what: string, slow: Float32Array, fast: Float32Array): void {
  const at = slow.findIndex((x, i) => !(Math.abs(x - fast[i]!) <= TOLERANCE * (1 + Math.abs(x))));
  if (at >= 0) throw new Error(`${what}: the spellings differ, ${slow[at]} and ${fast[at]} at ${at}`);
}
