/** How fast the engine multiplies matrices: the limit that a training step is held against. */

import { createEngine } from "../nn/engine/create.ts";
import { GraphBuilder } from "../nn/onnx/builder.ts";
import { float } from "../nn/onnx/graph.ts";
import type { Workload } from "./workload.ts";

/** [m, k] × [k, n]; a transposed A is kept as [k, m]. */
export interface Product {
  readonly name: string;
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly transA: boolean;
}

/** A large square product, and the products that a step of the model consists of; the fastest counts as the peak. */
export function productsOf({ model, batch, microBatches }: Workload): readonly [Product, ...Product[]] {
  const rows = (batch / microBatches) * model.context;
  const { width: d } = model;
  const side = Math.min(1024, 4 * d);
  return [
    { name: "square", m: side, k: side, n: side, transA: false },
    { name: "query, key, value, projection", m: rows, k: d, n: d, transA: false },
    { name: "feed-forward, first", m: rows, k: d, n: 4 * d, transA: false },
    { name: "feed-forward, second", m: rows, k: 4 * d, n: d, transA: false },
    { name: "weight gradient of feed-forward, first", m: d, k: rows, n: 4 * d, transA: true },
  ];
}

export function productFlops({ m, k, n }: Product): number {
  return 2 * m * k * n;
}

/** Kernel milliseconds of so many products, after one that warms up; one thread. */
export async function timeProduct({ m, k, n, transA }: Product, repeats: number): Promise<number[]> {
  const engine = await createEngine();
  try {
    const b = new GraphBuilder("product");
    const a = b.input("a", "f32", transA ? [k, m] : [m, k]);
    const x = b.input("b", "f32", [k, n]);
    b.op("Gemm", [a, x], { alpha: float(1), beta: float(0), transA: transA ? 1 : 0 }, "y");
    b.output("y");
    const executable = await engine.compile(b.build());
    const feeds = {
      a: engine.allocate("f32", transA ? [k, m] : [m, k]),
      b: engine.allocate("f32", [k, n]),
    };
    for (const { tensor } of Object.values(feeds)) {
      const values = tensor.f32();
      for (let i = 0; i < values.length; i++) values[i] = ((i * 7919) % 1000) / 1000 - 0.5;
    }
    const binding = executable.bind(feeds, { y: engine.allocate("f32", [m, n]) });
    const times: number[] = [];
    for (let i = 0; i <= repeats; i++) times.push(await binding.run());
    return times.slice(1);
  } finally {
    await engine.close();
  }
}
