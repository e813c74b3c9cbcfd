/**
 * A kernel to measure a processor by: a feed-forward layer, two products with an elementwise function in between. It takes
 * about a millisecond: one that is longer than a quota's period would be counted coarsely.
 */

import type { Engine } from "../../nn/engine/engine.ts";
import { GraphBuilder } from "../../nn/onnx/builder.ts";

const [ROWS, WIDTH, HIDDEN] = [128, 256, 512];

/** What it takes on the processor that paced devices have shares of: a core of a server of 2020. */
export const REFERENCE_MS = 1.1;
export const REFERENCE_GFLOPS = (4 * ROWS * WIDTH * HIDDEN) / REFERENCE_MS / 1e6;

export interface ReferenceKernel {
  /** Runs once; milliseconds. */
  run(): Promise<number>;
}

export async function openReferenceKernel(engine: Engine): Promise<ReferenceKernel> {
  const builder = new GraphBuilder("layer");
  const x = builder.input("x", "f32", [ROWS, WIDTH]);
  const up = builder.input("up", "f32", [WIDTH, HIDDEN]);
  const down = builder.input("down", "f32", [HIDDEN, WIDTH]);
  const hidden = builder.op("Tanh", [builder.op("MatMul", [x, up])]);
  builder.output(builder.op("MatMul", [hidden, down], {}, "y"));
  const executable = await engine.compile(builder.build());
  const tensor = (shape: readonly number[]) => {
    const allocated = engine.allocate("f32", shape);
    allocated.tensor.f32().fill(0.01);
    return allocated;
  };
  const binding = executable.bind(
    { x: tensor([ROWS, WIDTH]), up: tensor([WIDTH, HIDDEN]), down: tensor([HIDDEN, WIDTH]) },
    { y: tensor([ROWS, WIDTH]) },
  );
  await binding.run();
  return binding;
}
