/**
 * The house rules, enforced: which folder may import which, one door per mandated dependency, platform and clock
 * only where they are handed in, and files small enough to read. The rules are the tables below; a check is a pure
 * function of a file's path and text, so each is also shown to catch what it is there for.
 */

import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const ROOT = dirname(import.meta.dir);

/** What a folder may import besides itself: folders, or single files. `*` is everything. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  cli: ["web/", "actors/", "nn/", "runtime/", "protocols/"],
  web: ["actors/", "nn/", "runtime/", "protocols/"],
  actors: ["nn/", "runtime/", "protocols/"],
  nn: ["protocols/tensor.ts"],
  runtime: ["protocols/"],
  protocols: [],
  bench: ["*"],
  test: ["*"],
  /** Pictures and pages; no code. */
  docs: [],
  examples: ["actors/index.ts", "nn/index.ts", "runtime/index.ts", "protocols/index.ts"],
};

/** Folders whose code runs in production and keeps to the rules on platforms, clocks and dependencies. */
const PRODUCTION = ["cli", "web", "actors", "nn", "runtime", "protocols"];

/** Packages that have one door, and where it is. */
const DOORS: readonly { readonly packages: RegExp; readonly only: RegExp }[] = [
  { packages: /^@msgpack\/msgpack$/, only: /^protocols\/codec\.ts$/ },
  { packages: /^comlink(\/|$)/, only: /^(nn\/engine|runtime\/transports)\/([\w-]+\/)?(worker|host)\.ts$/ },
  { packages: /^onnxruntime-\w+(\/|$)/, only: /^nn\/engine\// },
  { packages: /^protobufjs(\/|$)/, only: /^nn\/onnx\/(proto|schema)\.ts$/ },
  { packages: /^hono(\/|$)/, only: /^runtime\/gateway(\/|\.ts$)/ },
  { packages: /^@noble\/hashes(\/|$)/, only: /^protocols\/mac\.ts$/ },
  { packages: /^selfsigned$/, only: /^runtime\/security\/certificate\.ts$/ },
  { packages: /^@roamhq\/wrtc$/, only: /^runtime\/transports\/webrtc\// },
  { packages: /^@huggingface\/tokenizers$/, only: /^nn\/tokenizer\.ts$/ },
  { packages: /^fast-png$/, only: /^actors\/data\/png\.ts$/ },
  { packages: /^jpeg-js$/, only: /^actors\/data\/jpeg\.ts$/ },
  { packages: /^@nats-io\//, only: /^runtime\/platform\/nats\.ts$/ },
  { packages: /^bonjour-service$/, only: /^runtime\/discovery\/mdns\.ts$/ },
];

/** Where `Bun`, `Deno` and built-in modules may be used. */
const PLATFORM: readonly RegExp[] = [
  /^runtime\/(platform|transports)\//,
  /^nn\/engine\/(native|binding|web)\//,
  // ONNX Runtime writes its profile to a file, and only to a file.
  /^nn\/engine\/profile\.ts$/,
  // Runs before anything is installed: it has nothing but built-in modules.
  /^cli\/bootstrap\.ts$/,
];

/** Where clocks, timers and randomness may be taken from the platform; everywhere else they are handed in. */
const AMBIENT: readonly { readonly what: RegExp; readonly only: readonly RegExp[] }[] = [
  {
    what: /\bperformance\s*\.\s*now\b/,
    // An engine measures the time in its kernels where they run: in its worker.
    only: [/^runtime\/clock\.ts$/, /^nn\/engine\/(native|binding|web|webgpu)\/(worker|backend)\.ts$/],
  },
  { what: /\bDate\s*\.\s*now\b|\bnew Date\b(?!\s*\(\s*[^\s)])/, only: [/^runtime\/clock\.ts$/] },
  {
    what: /\b(setTimeout|setInterval|setImmediate)\b/,
    only: [/^runtime\/clock\.ts$/, /^cli\/bootstrap\.ts$/],
  },
  { what: /\bMath\s*\.\s*random\b|\bgetRandomValues\b|\brandomUUID\b/, only: [/^runtime\/random\.ts$/] },
];

/** Longer than this is two subjects. */
const MOST_LINES = 400;

/** Files that may be longer, and why. */
const LONG_FILES: Readonly<Record<string, string>> = {};

const transpiler = new Bun.Transpiler({ loader: "ts" });

/** Modules a file imports, types and dynamic imports included, as written. */
function importsOf(text: string): readonly string[] {
  const statements = /^\s*(?:import|export)\s(?:[^"'`;]*?\sfrom\s*)?["']([^"']+)["']/gm;
  const calls = /\b(?:import|require)\(\s*["']([^"']+)["']/g;
  const workers = /\bnew URL\(\s*["'](\.[^"']+)["']\s*,\s*import\.meta\.url/g;
  const code = text.replace(/^\s*(\/\*)?\*.*$|^\s*\/\/.*$/gm, "");
  return [statements, calls, workers].flatMap((pattern) =>
    [...code.matchAll(pattern)].map((match) => match[1]!),
  );
}

/** The text as code that runs: without types, comments and the contents of strings. */
function running(text: string): string {
  return transpiler.transformSync(text).replace(/"(?:[^"\\\n]|\\.)*"/g, '""');
}

const matches = (patterns: readonly RegExp[], path: string) => patterns.some((pattern) => pattern.test(path));
const folderOf = (path: string) => path.split("/")[0]!;
const isProduction = (path: string) => PRODUCTION.includes(folderOf(path));

function checkImports(path: string, text: string): string[] {
  const folder = folderOf(path);
  const allowed = MAY_IMPORT[folder] ?? [];
  return importsOf(text).flatMap((specifier) => {
    if (!specifier.startsWith(".")) return [];
    if (!/\.\w+$/.test(specifier)) return [`${path}: "${specifier}" has no extension`];
    const target = normalize(join(dirname(path), specifier));
    const own = folder === "examples" ? false : target.startsWith(`${folder}/`);
    if (own || allowed.some((a) => a === "*" || (a.endsWith("/") ? target.startsWith(a) : target === a)))
      return [];
    // package.json is data for everyone: it holds the version.
    if (target === "package.json") return [];
    return [`${path} imports ${target}, ${folder}/ may import ${allowed.join(", ") || "nothing of ours"}`];
  });
}

function checkDoors(path: string, text: string): string[] {
  if (!isProduction(path)) return [];
  return importsOf(text).flatMap((specifier) =>
    DOORS.filter(({ packages, only }) => packages.test(specifier) && !only.test(path)).map(
      ({ only }) => `${path} imports ${specifier}, its door is ${only.source}`,
    ),
  );
}

function checkPlatform(path: string, text: string): string[] {
  if (!isProduction(path) || matches(PLATFORM, path)) return [];
  const modules = importsOf(text).filter((specifier) => /^(node:|bun(:|$))/.test(specifier));
  const globals = running(text).match(/\b(Bun|Deno)\b(?=\s*[.[])/g) ?? [];
  return [...modules, ...globals].map((what) => `${path} uses ${what}, which belongs in runtime/platform/`);
}

function checkAmbient(path: string, text: string): string[] {
  if (!isProduction(path)) return [];
  const code = running(text);
  return AMBIENT.flatMap(({ what, only }) => {
    const found = matches(only, path) ? null : what.exec(code);
    return found ? [`${path} uses ${found[0]}, which is handed in from ${only[0]!.source}`] : [];
  });
}

function checkLength(path: string, text: string): string[] {
  const lines = text.split("\n").length - 1;
  if (lines <= MOST_LINES || LONG_FILES[path]) return [];
  return [`${path} has ${lines} lines, at most ${MOST_LINES} are readable`];
}

/** Whatever else lies in the root, such as output folders, is named with a dot or ignored by git. */
function checkFolder(name: string): string[] {
  const known =
    Object.hasOwn(MAY_IMPORT, name) || ["node_modules", "runs"].includes(name) || name.startsWith(".");
  return known ? [] : [`folder ${name}/ is not in the table of the house`];
}

/** Every TypeScript file of the house, by its path from the root. */
function sources(): readonly { readonly path: string; readonly text: string }[] {
  const folders = readdirSync(ROOT, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && Object.hasOwn(MAY_IMPORT, entry.name))
    .map(({ name }) => name);
  return folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts") && !name.includes("node_modules"))
      .map((name) => join(folder, name).replaceAll("\\", "/"))
      .map((path) => ({ path, text: readFileSync(join(ROOT, path), "utf8") })),
  );
}

describe("the house", () => {
  const files = sources();
  const all = (check: (path: string, text: string) => string[]) =>
    files.flatMap(({ path, text }) => check(path, text));

  test("has its files", () => expect(files.length).toBeGreaterThan(20));
  test("imports point down only, and carry their extension", () => expect(all(checkImports)).toEqual([]));
  test("every mandated dependency has one door", () => expect(all(checkDoors)).toEqual([]));
  test("platforms are behind runtime/platform/", () => expect(all(checkPlatform)).toEqual([]));
  test("clocks and randomness are handed in", () => expect(all(checkAmbient)).toEqual([]));
  test("files are small", () => expect(all(checkLength)).toEqual([]));
  test("has no other folders", () => {
    const folders = readdirSync(ROOT, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    expect(folders.flatMap(({ name }) => checkFolder(name))).toEqual([]);
  });
  test("exceptions still exist", () => {
    expect(Object.keys(LONG_FILES).filter((path) => !files.some((file) => file.path === path))).toEqual([]);
  });
});

describe("the rules catch", () => {
  const caught: [string, string[]][] = [
    ["an upward import", checkImports("runtime/a.ts", 'import { x } from "../nn/x.ts";')],
    [
      "an upward import of types",
      checkImports("protocols/a.ts", 'import type { X } from "../runtime/x.ts";'),
    ],
    [
      "an import over several lines",
      checkImports("nn/a.ts", 'import {\n  a,\n  b,\n} from "../runtime/x.ts";'),
    ],
    ["a re-export", checkImports("nn/a.ts", 'export * from "../actors/x.ts";')],
    ["a dynamic import", checkImports("actors/a.ts", 'const x = await import("../cli/x.ts");')],
    ["a worker", checkImports("runtime/a.ts", 'new Worker(new URL("../nn/x.ts", import.meta.url));')],
    ["nn reaching for more than tensors", checkImports("nn/a.ts", 'import "../protocols/frame.ts";')],
    ["a missing extension", checkImports("nn/a.ts", 'import { x } from "./x";')],
    ["an example behind the public pages", checkImports("examples/a.ts", 'import "../nn/onnx/graph.ts";')],
    ["a second door", checkDoors("runtime/a.ts", 'import { encode } from "@msgpack/msgpack";')],
    ["a second door for types", checkDoors("nn/a.ts", 'import type * as ort from "onnxruntime-node";')],
    ["a global of the platform", checkPlatform("actors/a.ts", "export const f = Bun.file('x');")],
    ["a built-in module", checkPlatform("cli/a.ts", 'import { readFile } from "node:fs/promises";')],
    ["a clock", checkAmbient("actors/a.ts", "export const t = Date.now();")],
    ["a date of now", checkAmbient("actors/a.ts", "export const t = new Date();")],
    ["a timer", checkAmbient("runtime/a.ts", "setTimeout(() => {}, 5);")],
    ["randomness", checkAmbient("nn/a.ts", "export const r = Math.random();")],
    ["a long file", checkLength("nn/a.ts", "x;\n".repeat(401))],
    ["a folder of its own", checkFolder("utils")],
  ];
  test.each(caught)("%s", (_, violations) => {
    expect(violations).toHaveLength(1);
  });

  test("and nothing else", () => {
    const text = [
      "/**",
      ' * import { x } from "../cli/x.ts"; takes Date.now and Bun.file for granted.',
      " */",
      '// import "node:fs";',
      'import { Tensor } from "../protocols/tensor.ts";',
      'import { y } from "./y.ts";',
      'export const message = "Bun.file and Math.random() are named, not used";',
      "export const then = (ms: number) => new Date(ms);",
      "export interface Clock { setTimeout: typeof setTimeout }",
      "export { Tensor, y };",
    ].join("\n");
    for (const check of [checkImports, checkDoors, checkPlatform, checkAmbient, checkLength]) {
      expect(check("nn/a.ts", text)).toEqual([]);
    }
  });
});
