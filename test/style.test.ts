/** The whole tree type-checks and keeps to one style; what `npx bun run check` does, as a test. */

import { expect, test } from "bun:test";
import { dirname, join } from "node:path";

const ROOT = dirname(import.meta.dir);

/** Runs a tool of node_modules with this Bun; what it printed, if it was not content. */
async function complaints(script: readonly string[], ...args: readonly string[]): Promise<string> {
  const tool = Bun.spawn([process.execPath, join(ROOT, "node_modules", ...script), ...args], {
    cwd: ROOT,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([
    new Response(tool.stdout).text(),
    new Response(tool.stderr).text(),
    tool.exited,
  ]);
  return code === 0 ? "" : `exit code ${code}\n${out}${err}`;
}

test("types", async () => {
  expect(await complaints(["typescript", "bin", "tsc"], "-p", ".")).toBe("");
}, 120_000);

test("style", async () => {
  expect(await complaints(["@biomejs", "biome", "bin", "biome"], "check", "--error-on-warnings", ".")).toBe(
    "",
  );
}, 120_000);
