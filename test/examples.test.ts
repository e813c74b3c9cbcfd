/** Every example runs and prints what its comments say. */

import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";

const FOLDER = join(import.meta.dir, "../examples");

const PRINTS: Readonly<Record<string, readonly RegExp[]>> = {
  "01-actor.ts": [/^42$/],
  "02-remote.ts": [/^\[ 10, 20, 30 \]$/, /^nodelost$/, /^RuntimeError$/],
  "03-gradient.ts": [/^MatMul Tanh ReduceSum .*/, /^1\.1911$/, /^0\.9778$/],
  "04-train.ts": [
    /^step 0 loss 5\.\d+$/,
    /^step 20 loss \d\.\d+$/,
    /^step 40 loss \d\.\d+$/,
    /^step 59 loss [01]\.\d+$/,
  ],
};

test("every example has its test", () => {
  expect(
    readdirSync(FOLDER)
      .filter((name) => name.endsWith(".ts"))
      .sort(),
  ).toEqual(Object.keys(PRINTS));
});

test.each(Object.keys(PRINTS))("%s", async (name) => {
  const child = Bun.spawn([process.execPath, join(FOLDER, name)], { stdout: "pipe", stderr: "pipe" });
  const [out, error, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  expect(error).toBe("");
  expect(code).toBe(0);
  const lines = out.trim().split("\n");
  expect(lines.length).toBe(PRINTS[name]!.length);
  for (const [i, pattern] of PRINTS[name]!.entries()) expect(lines[i]).toMatch(pattern);
});
