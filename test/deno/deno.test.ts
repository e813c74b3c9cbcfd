/**
 * The runtime and the engines under Deno: their tests, contract suites included, run there unchanged (`bun-test.ts` stands in for
 * `bun:test`). Those that are about Bun, or about starting it, are named with the reason.
 */

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { DENO } from "./binary.ts";

const ROOT = join(import.meta.dir, "../..");

/** Tests that stay with Bun, and why. */
const BUN_ONLY: Readonly<Record<string, string>> = {
  "test/nn/engine/lifecycle.test.ts": "starts children by Bun's own means",
  "test/nn/engine/memory.test.ts":
    "weighs the process, after garbage collection that only Bun does when asked",
  "test/nn/engine/reference.test.ts": "compares engines operator by operator, which is the same everywhere",
  "test/runtime/platform/children.test.ts": "starts children by Bun's own means",
  "test/runtime/platform/lock.test.ts": "starts children by Bun's own means",
  "test/runtime/platform/machine.test.ts": "starts a child by Bun's own means",
  "test/runtime/transports/through_a_third.test.ts": "starts nodes under Bun",
  "test/runtime/processes.test.ts": "starts nodes under Bun; cluster.test.ts has a Deno node among Bun's",
};

function files(): string[] {
  const patterns = [
    "test/protocols/**/*.test.ts",
    "test/runtime/**/*.test.ts",
    "test/contract/*.test.ts",
    "test/nn/engine/**/*.test.ts",
    "test/nn/optim/*.test.ts",
  ];
  const found = patterns.flatMap((pattern) => [...new Bun.Glob(pattern).scanSync(ROOT)]);
  return found.filter((file) => !(file in BUN_ONLY)).sort();
}

test("what stays with Bun still exists", () => {
  expect(Object.keys(BUN_ONLY).filter((file) => !existsSync(join(ROOT, file)))).toEqual([]);
});

test.skipIf(DENO === undefined)(
  "the runtime's tests pass under Deno (skipped where npm has no Deno for this machine)",
  async () => {
    const child = Bun.spawn(
      [DENO!, "test", "-A", "--no-check", "--config", join(import.meta.dir, "deno.json"), ...files()],
      { cwd: ROOT, stdout: "pipe", stderr: "pipe", env: { ...process.env, NO_COLOR: "1" } },
    );
    const [out, error, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    const [, passed] = /(?:ok|FAILED) \| (\d+) passed/.exec(out) ?? [];
    if (code !== 0)
      throw new Error(`deno test ended with ${code}:\n${out.slice(-6000)}\n${error.slice(-2000)}`);
    // Not a fixed number: as many as there are, and surely more than a few.
    expect(Number(passed)).toBeGreaterThan(200);
  },
  240_000,
);
