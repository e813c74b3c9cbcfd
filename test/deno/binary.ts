/** Where npm has put Deno for this machine: the program itself, so that killing it kills it. */

import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");

/** The path of Deno; undefined where npm has none for this machine. */
export const DENO: string | undefined = [...new Bun.Glob("node_modules/@deno/*/deno{,.exe}").scanSync(ROOT)]
  .map((path) => join(ROOT, path))
  .at(0);

/** A command that runs a script of ours under Deno. */
export function denoRun(script: string, ...args: string[]): string[] {
  if (DENO === undefined) throw new Error("there is no Deno here");
  return [DENO, "run", "-A", "--no-check", "--config", join(import.meta.dir, "deno.json"), script, ...args];
}
