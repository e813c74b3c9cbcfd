/**
 * A script that measures how fast a kernel runs, line by line: asked for so many milliseconds it answers with how many
 * runs fitted in, as JSON. What it runs in, a throttled group of threads, is the business of whoever started it; see
 * calibrate.ts. The kernel is a feed-forward layer: two products with an elementwise function in between, about a
 * millisecond, since one that is longer than a quota's period would be counted coarsely.
 */

import { createEngine } from "../../nn/engine/create.ts";
import { GraphBuilder } from "../../nn/onnx/builder.ts";

const [ROWS, WIDTH, HIDDEN] = [128, 256, 512];

const engine = await createEngine({ engine: "native" });
const builder = new GraphBuilder("layer");
const x = builder.input("x", "f32", [ROWS, WIDTH]);
const up = builder.input("up", "f32", [WIDTH, HIDDEN]);
const down = builder.input("down", "f32", [HIDDEN, WIDTH]);
const hidden = builder.op("Tanh", [builder.op("MatMul", [x, up])]);
builder.output(builder.op("MatMul", [hidden, down], {}, "y"));
const graph = builder.build();
const executable = await engine.compile(graph);
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

const say = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`);
say({ pid: process.pid });
let rest = "";
for await (const chunk of process.stdin) {
  const lines = (rest + chunk).split("\n");
  rest = lines.pop()!;
  for (const line of lines) {
    const began = performance.now();
    let runs = 0;
    while (performance.now() - began < Number(line)) {
      await binding.run();
      runs++;
    }
    say({ runs, ms: performance.now() - began });
  }
}
await engine.close();
