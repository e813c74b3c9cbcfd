/** Every example runs and prints what its comments say, under Bun and under Deno. */

import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { DENO, denoRun } from "./deno/binary.ts";

const FOLDER = join(import.meta.dir, "../examples");

/** What each prints, line by line. */
const EXAMPLES: Readonly<Record<string, readonly RegExp[]>> = {
  "01-hello.ts": [/^hello, world$/, /^hello, troupe$/],
  "02-ask.ts": [/^40$/, /^there are only 40$/, /^30$/, /^ASK_TIMEOUT$/, /^ACTOR_DOWN$/],
  "03-supervise.ts": [/^a parser starts$/, /^a parser starts$/, /^1$/],
  "04-remote.ts": [/^\[ 10, 20, 30 \]$/, /^nodelost$/, /^RuntimeError$/],
  "05-tensor.ts": [/^f32 \[ 4194304 \] 3$/],
  "06-groups.ts": [/^3 workers$/, /^desk, board, board$/, /^1 worker$/],
  "07-transport.ts": [/^42$/],
  "08-gradient.ts": [/^MatMul Tanh ReduceSum .*/, /^1\.1911$/, /^0\.9778$/],
  "09-train.ts": [
    /^step 0 loss 5\.\d+$/,
    /^step 20 loss \d\.\d+$/,
    /^step 40 loss \d\.\d+$/,
    /^step 59 loss [01]\.\d+$/,
  ],
  "10-import-onnx.ts": [
    /^fc1\.weight fc1\.bias fc2\.weight fc2\.bias$/,
    /^step 0 loss 0\.69\d$/,
    /^step 20 loss 0\.\d+$/,
    /^step 40 loss 0\.\d+$/,
    /^step 59 loss 0\.[0-3]\d+$/,
    /^inside outside$/,
  ],
  "11-lora.ts": [
    /q_proj\.lora_A\.weight .*q_proj\.lora_B\.weight$/,
    /^step 0 loss 5\.\d+$/,
    /^step 20 loss \d\.\d+$/,
    /^step 40 loss \d\.\d+$/,
    /^step 59 loss 2\.\d+$/,
    /^adapter_config\.json adapter_model\.safetensors$/,
    /^config\.json$/,
    /^model\.safetensors$/,
  ],
  "12-plan.ts": [
    /^\w+ nano-1.*/,
    /^nano-1 .+$/,
    /^nano-2 .+$/,
    /^pi .+$/,
    /^\d+ ms and \d+ J a step$/,
    /^nano-1 .*0/,
    /^nano-2 .*0/,
    /^pi .*/,
    /^true$/,
    /^true$/,
  ],
};

test("every example has its test", () => {
  expect(
    readdirSync(FOLDER)
      .filter((name) => name.endsWith(".ts"))
      .sort(),
  ).toEqual(Object.keys(EXAMPLES));
});

async function runs(command: readonly string[], prints: readonly RegExp[]): Promise<void> {
  const child = Bun.spawn([...command], {
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, NO_COLOR: "1" },
  });
  const [out, error, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  expect(error).toBe("");
  expect(code).toBe(0);
  const lines = out.trim().split("\n");
  expect(lines.length).toBe(prints.length);
  for (const [i, pattern] of prints.entries()) expect(lines[i]).toMatch(pattern);
}

test.each(Object.keys(EXAMPLES))("%s", (name) =>
  runs([process.execPath, join(FOLDER, name)], EXAMPLES[name]!),
);

// Skipped where npm has no Deno for this machine.
describe.skipIf(DENO === undefined)("under Deno", () => {
  test.each(Object.keys(EXAMPLES))("%s", (name) => runs(denoRun(join(FOLDER, name)), EXAMPLES[name]!));
});
