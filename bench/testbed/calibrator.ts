/**
 * A script that measures how fast a kernel runs, line by line: asked for so many milliseconds it answers with how many
 * runs fitted in, as JSON. What it runs in, a throttled group of threads, is the business of whoever started it; see
 * calibrate.ts.
 */

import { createEngine } from "../../nn/engine/create.ts";
import { openReferenceKernel } from "./reference-kernel.ts";

const engine = await createEngine({ engine: "native" });
const kernel = await openReferenceKernel(engine);

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
      await kernel.run();
      runs++;
    }
    say({ runs, ms: performance.now() - began });
  }
}
await engine.close();
