/**
 * The documents are true as far as a machine can tell: their links lead somewhere, the tests they name exist, their
 * code runs and prints what it says, and every public name of the runtime is documented.
 */

import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { DENO } from "./deno/binary.ts";

const ROOT = dirname(import.meta.dir);
const DOCUMENTS = ["README.md", ...readdirSync(join(ROOT, "docs")).map((name) => `docs/${name}`)].filter(
  (path) => path.endsWith(".md"),
);

const folder = mkdtempSync(join(tmpdir(), "troupe-docs-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(command: readonly string[]): Promise<{ code: number; out: string; error: string }> {
  const child = Bun.spawn([...command], {
    ...{ cwd: ROOT, stdin: "ignore", stdout: "pipe", stderr: "pipe" },
    env: { ...process.env, NO_COLOR: "1" },
  });
  const [out, error, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, out, error };
}

describe.each(DOCUMENTS)("%s", (path) => {
  const text = readFileSync(join(ROOT, path), "utf8");

  test("links lead to what is there", () => {
    const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);
    const local = targets
      .filter((target) => !/^(\w+:|#)/.test(target))
      .map((target) => target.split("#")[0]!);
    expect(local.filter((target) => !existsSync(join(ROOT, dirname(path), target)))).toEqual([]);
  });

  test("tests that are named exist", () => {
    const named = [...text.matchAll(/\btest\/[\w/.-]*\w/g)].map(([name]) => name);
    expect(named.filter((name) => !existsSync(join(ROOT, name)))).toEqual([]);
  });

  test("titles of tests that are quoted are there", () => {
    // [`file`](path) "the title…"
    const quoted = [...text.matchAll(/\]\(([^)\s]+\.test\.ts)\) "([^"…]+)…?"/g)];
    const missing = quoted.filter(
      ([, file, title]) => !readFileSync(join(ROOT, dirname(path), file!), "utf8").includes(title!),
    );
    expect(missing.map(([, file, title]) => `${file}: ${title}`)).toEqual([]);
  });
});

/** Blocks of TypeScript, with the public pages by their place in the tree. */
function blocks(path: string): string[] {
  const { exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const place = (_: string, page: string) => `from "${join(ROOT, exports[`./${page}`])}"`;
  return [...readFileSync(join(ROOT, path), "utf8").matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) =>
    code!.replace(/from "troupe\/(\w+)"/g, place),
  );
}

const CODE = DOCUMENTS.flatMap((path) => blocks(path).map((code, i) => [`${path}, block ${i + 1}`, code]));

test("there is code to run", () => {
  expect(CODE.length).toBeGreaterThan(0);
});

test.each(CODE)(
  "%s prints what its comments say",
  async (name, code) => {
    const file = join(folder, `${name!.replace(/\W+/g, "-")}.ts`);
    writeFileSync(file, code!);
    const { code: ended, out, error } = await run([process.execPath, file]);
    expect([ended, error]).toEqual([0, ""]);
    const says = [...code!.matchAll(/console\.log\(.*\/\/ (.*)$/gm)].map(([, said]) => said!);
    expect(out.split("\n").filter((line) => line !== "")).toEqual(says);
  },
  30_000,
);

/** What Deno's lint says of public names; it looks at private members too, which are nobody's business. */
function complaints(report: string): string[] {
  const said = [...report.matchAll(/^error\[[\w-]+\]: (.*)\n +--> (.+):(\d+):\d+$/gm)];
  return said
    .map(([, what, file, line]) => ({ what, at: `${file}:${line}`, code: lineOf(file!, Number(line)) }))
    .filter(({ code }) => !code.startsWith("private "))
    .map(({ what, at, code }) => `${at}: ${what}: ${code}`);
}

function lineOf(file: string, line: number): string {
  return readFileSync(file, "utf8").split("\n")[line - 1]?.trim() ?? "";
}

test.skipIf(DENO === undefined)(
  "every public name of the runtime and the protocols is documented (skipped where npm has no Deno)",
  async () => {
    const { exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      exports: Record<string, string>;
    };
    const pages = Object.values(exports).filter((path) => /^\.\/(runtime|protocols)\//.test(path));
    expect(pages.length).toBeGreaterThan(1);
    const lint = [DENO!, "doc", "--lint", "--config", "test/deno/deno.json"];
    const { code, error } = await run([...lint, ...pages]);
    expect(complaints(error)).toEqual([]);
    if (code !== 0) expect(error).toContain("documentation lint errors");

    // It would notice: a name without a word, and a type that nobody can name.
    const bare = join(folder, "bare.ts");
    writeFileSync(bare, "interface Hidden { a: 1 }\nexport const bare: Hidden = { a: 1 };\n");
    expect(complaints((await run([...lint, bare])).error)).toHaveLength(2);
  },
  60_000,
);
