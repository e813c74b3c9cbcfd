/** A Python with transformers, where there is one: `TROUPE_PYTHON`, or python3. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExportedFile } from "../../../nn/hf/export.ts";

const python = process.env.TROUPE_PYTHON || "python3";

/** Milliseconds: importing transformers takes ten seconds on a quiet machine. */
export const PYTHON_TIMEOUT = 180_000;

/** Why these modules cannot be used; null when they can. */
export async function missing(...modules: readonly string[]): Promise<string | null> {
  // Asks where they are without importing them, which takes seconds.
  const question = `import importlib.util as u, sys; sys.exit(not all(u.find_spec(m) for m in ${JSON.stringify(modules)}))`;
  try {
    if ((await Bun.spawn([python, "-c", question], { stderr: "ignore" }).exited) === 0) return null;
  } catch {
    // There is no such program.
  }
  return `${python} lacks ${modules.join(" or ")}: set TROUPE_PYTHON to a Python with bench/rivals/pytorch/requirements.txt`;
}

/** Folders of these files, for `body`; they are removed after it. */
export async function withFolders<T>(
  written: readonly AsyncIterable<ExportedFile>[],
  body: (paths: readonly string[]) => Promise<T>,
): Promise<T> {
  const root = mkdtempSync(join(tmpdir(), "troupe-hf-"));
  try {
    const paths: string[] = [];
    for (const files of written) {
      const path = join(root, String(paths.length));
      mkdirSync(path);
      for await (const { name, chunks } of files) writeFileSync(join(path, name), Buffer.concat(chunks));
      paths.push(path);
    }
    return await body(paths);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

export interface LogitsRequest {
  readonly folder: string;
  /** A folder with a LoRA adapter, which peft puts on the model. */
  readonly adapter: string | null;
  /** [rows][context] */
  readonly ids: readonly (readonly number[])[];
}

/** transformers' logits [rows, context, vocabulary] for each request. */
export async function pythonLogits(requests: readonly LogitsRequest[]): Promise<number[][]> {
  const command = [python, "-B", join(import.meta.dir, "logits.py")];
  const child = Bun.spawn(command, {
    stdin: new Blob([JSON.stringify(requests)]),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, TRANSFORMERS_OFFLINE: "1", HF_HUB_OFFLINE: "1" },
  });
  const [text, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  if ((await child.exited) !== 0) throw new Error(`${command.join(" ")}: ${errors}`);
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as number[]);
}
