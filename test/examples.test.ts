/** Every example runs and prints what its comments say, those of the runtime under Deno too. */

import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { DENO, denoRun } from "./deno/binary.ts";

const FOLDER = join(import.meta.dir, "../examples");

/** What each prints, line by line, and where it runs. */
const EXAMPLES: Readonly<Record<string, { readonly prints: readonly RegExp[]; readonly deno: boolean }>> = {
  "01-hello.ts": { prints: [/^hello, world$/, /^hello, troupe$/], deno: true },
  "02-ask.ts": {
    prints: [/^40$/, /^there are only 40$/, /^30$/, /^ASK_TIMEOUT$/, /^ACTOR_DOWN$/],
    deno: true,
  },
  "03-supervise.ts": { prints: [/^a parser starts$/, /^a parser starts$/, /^1$/], deno: true },
  "04-remote.ts": { prints: [/^\[ 10, 20, 30 \]$/, /^nodelost$/, /^RuntimeError$/], deno: true },
  "05-tensor.ts": { prints: [/^f32 \[ 4194304 \] 3$/], deno: true },
  "06-groups.ts": { prints: [/^3 workers$/, /^desk, board, board$/, /^1 worker$/], deno: true },
  "07-transport.ts": { prints: [/^42$/], deno: true },
  "08-gradient.ts": { prints: [/^MatMul Tanh ReduceSum .*/, /^1\.1911$/, /^0\.9778$/], deno: false },
  "09-train.ts": {
    prints: [
      /^step 0 loss 5\.\d+$/,
      /^step 20 loss \d\.\d+$/,
      /^step 40 loss \d\.\d+$/,
      /^step 59 loss [01]\.\d+$/,
    ],
    deno: false,
  },
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
  runs([process.execPath, join(FOLDER, name)], EXAMPLES[name]!.prints),
);

const UNDER_DENO = Object.keys(EXAMPLES).filter((name) => EXAMPLES[name]!.deno);
// Skipped where npm has no Deno for this machine.
describe.skipIf(DENO === undefined)("under Deno", () => {
  test.each(UNDER_DENO)("%s", (name) => runs(denoRun(join(FOLDER, name)), EXAMPLES[name]!.prints));
});
