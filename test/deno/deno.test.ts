/**
 * What touches the platform, under Deno: transports, files, certificates, a node with its timers and threads, the engines
 * with their contract, and a training on each of them. The tests run there unchanged (`bun-test.ts` stands in for
 * `bun:test`). Everything else is the same TypeScript in a simulated world and says nothing that it does not under Bun.
 */

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { DENO } from "./binary.ts";

const ROOT = join(import.meta.dir, "../..");

const PATTERNS = [
  "test/actors/journal/journal.test.ts",
  "test/contract/*.test.ts",
  "test/nn/engine/{native,training}.test.ts",
  "test/runtime/node.test.ts",
  "test/runtime/{discovery,platform,security}/*.test.ts",
  "test/runtime/transports/*.test.ts",
  "test/runtime/transports/{shm,tcp,worker}/*.test.ts",
];

/** Tests among them that stay with Bun, and why. */
const BUN_ONLY: Readonly<Record<string, string>> = {
  "test/runtime/platform/children.test.ts": "starts children by Bun's own means",
  "test/runtime/platform/lock.test.ts": "starts children by Bun's own means",
  "test/runtime/platform/machine.test.ts": "starts a child by Bun's own means",
  "test/runtime/security/token.test.ts": "computes, and touches nothing of the platform",
  "test/runtime/transports/faulty.test.ts": "is about simulated networks",
  "test/runtime/transports/relay.test.ts": "is about simulated networks",
  "test/runtime/transports/shaped.test.ts": "is about simulated networks",
  "test/runtime/transports/shm/ring.test.ts": "computes, and touches nothing of the platform",
  "test/runtime/transports/through_a_third.test.ts": "starts nodes under Bun",
};

function files(): string[] {
  const found = PATTERNS.flatMap((pattern) => [...new Bun.Glob(pattern).scanSync(ROOT)]);
  return found.filter((file) => !(file in BUN_ONLY)).sort();
}

test("there are files to run, and what stays with Bun still exists", () => {
  expect(files().length).toBeGreaterThan(10);
  expect(Object.keys(BUN_ONLY).filter((file) => !existsSync(join(ROOT, file)))).toEqual([]);
});

// One process each: what a file leaves behind in one is paid for by all that come after it.
test.skipIf(DENO === undefined).each(files())(
  "%s passes under Deno (skipped where npm has no Deno for this machine)",
  async (file) => {
    const child = Bun.spawn(
      [DENO!, "test", "-A", "--no-check", "--config", join(import.meta.dir, "deno.json"), file],
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
    expect(Number(passed)).toBeGreaterThan(0);
  },
  120_000,
);
