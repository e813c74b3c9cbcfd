/**
 * Every command in the README works: each line of its `sh` blocks is run here, in an empty folder, on a model that
 * is small. What is replaced is only size (steps, layers, …; and the number of devices where a line is about what one
 * does), ports, and the step at which devices are broken.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportModel } from "../nn/import/export.ts";
import { resnet } from "../nn/models/resnet.ts";
import { idxFile, noise } from "./actors/data/memory.ts";
import { CACHE, TINY_GPT } from "./cli/troupe.ts";

const ROOT = join(import.meta.dir, "..");
/** What makes each model small, by `--model`. */
const SMALL: Readonly<Record<string, readonly string[]>> = {
  gpt: TINY_GPT,
  resnet18: ["--width", "4", "--batch", "16"],
  mlp: ["--batch", "16"],
  "net.onnx": [],
  smollm: ["--context", "16"],
};
/** What makes a benchmark short. */
const QUICK: Readonly<Record<string, readonly string[]>> = {
  memory: ["--steps", "10"],
  validation: ["--quick", "--steps", "2"],
  nn: ["--quick", "--only", "gpt"],
  // Commands of test/bench/main.test.ts; and one that takes minutes however little it does, of which there is another test.
  train: ["--help"],
  runtime: ["--help"],
  strategies: ["--help"],
};
/** Options of a command that `SMALL` and the number of steps take the place of. */
const SIZES = new Set(["--layers", "--width", "--heads", "--context", "--steps"]);
/** Options of lines that are about one device as much as about several, which take three times as long to start. */
const OF_ONE = new Set([
  ...["--recompute", "--optimizer", "--lr", "--model", "--json", "--prompt", "--resume", "--trace"],
]);

let folder: string;
/** What the lines of a block before this one have exported, and in which block that was. */
let exported: { block: number; variables: Record<string, string> } = { block: -1, variables: {} };
const nodes: { readonly address: string; readonly child: Bun.Subprocess }[] = [];

const readme = await readFile(join(ROOT, "README.md"), "utf8");

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "troupe-readme-"));
  const at = (name: string) => join(folder, name);
  await writeFile(at("book.txt"), "It was a dark and stormy night. ".repeat(200));
  const rows = Array.from({ length: 40 }, (_, i) => `${i % 7},${i % 5},${i % 2 === 0 ? "even" : "odd"}`);
  await writeFile(at("points.csv"), rows.join("\n"));
  await writeFile(at("home.json"), /```json\n([\s\S]*?)```/.exec(readme)![1]!);
  await mkdir(at("mnist"));
  const [images, side] = [40, 8];
  await writeFile(
    at("mnist/train-images-idx3-ubyte"),
    idxFile([images, side, side], noise(images * side * side, 1)),
  );
  await writeFile(
    at("mnist/train-labels-idx1-ubyte"),
    idxFile(
      [images],
      noise(images, 2).map((value) => value % 10),
    ),
  );
  const net = resnet({ depth: 18, width: 4, inputSize: side, channels: 1, classes: 10 }, 4);
  await writeFile(at("net.onnx"), await exportModel(net, new Map()));
  await cp(join(import.meta.dir, "fixtures/huggingface/gpt2"), at("smollm"), { recursive: true });
});
afterAll(async () => {
  for (const { child } of nodes) child.kill();
  await Promise.all(nodes.map(({ child }) => child.exited));
  await rm(folder, { recursive: true, force: true });
});

const commands = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)]
  .flatMap(([, text], block) => text!.split("\n").map((line) => ({ line, block })))
  .map(({ line, block }) => ({ line: line.replace(/\s+#.*$/, "").trim(), block }))
  .filter(({ line }) => line !== "");

function start(args: readonly string[]) {
  const command = [process.execPath, join(ROOT, "cli/bootstrap.ts"), ...args];
  // The user's settings are left alone.
  const env = {
    ...process.env,
    XDG_CONFIG_HOME: join(folder, "settings"),
    XDG_CACHE_HOME: CACHE,
    ...exported.variables,
  };
  return Bun.spawn(command, { cwd: folder, env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
}

/** What a command prints, once it has ended well. */
async function run(args: readonly string[]): Promise<string> {
  const child = start(args);
  const [out, error, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`${args.join(" ")} ended with ${code}:\n${error}`);
  return out.trim();
}

/** A step for every 500, of which a run has 1000 by default; a small model unless it comes from a checkpoint. */
function small(args: readonly string[]): string[] {
  if (args.includes("--help")) return [...args];
  const given = args.includes("--steps") ? Number(args[args.indexOf("--steps") + 1]) : 1000;
  const steps = `${Math.ceil(given / 500)}`;
  const resumed = args.includes("--resume");
  const rest = args
    .filter((arg, i) => !SIZES.has(arg) && !SIZES.has(args[i - 1] ?? ""))
    .map((arg) => arg.replaceAll(/ at step \d+/g, " at step 1"));
  const model = args.includes("--model") ? args[args.indexOf("--model") + 1]! : "gpt";
  const alone = args.some((arg) => OF_ONE.has(arg)) ? ["--devices", "1"] : [];
  return [...rest, ...alone, "--steps", steps, "--sample", "8", ...(resumed ? [] : SMALL[model]!)];
}

test("there are commands to test", () => {
  const lines = commands.map(({ line }) => line);
  expect(lines).toContain("npx bun run train");
  expect(lines).toContain("npx bun run test");
});

test.each(commands)("$line", async ({ line, block }) => {
  if (block !== exported.block) exported = { block, variables: {} };
  const [, variable, inner] = /^export (\w+)=\$\((.*)\)$/.exec(line) ?? [];
  const out = await perform(inner ?? line);
  if (variable) exported.variables[variable] = out;
});

/** Does what a line says, smaller; what it prints. */
async function perform(line: string): Promise<string> {
  const [npx, bun, verb, job, ...args] = (line.match(/"[^"]*"|\S+/g) ?? []).map((word) =>
    word.replaceAll('"', ""),
  );
  expect([npx, bun, verb]).toEqual(["npx", "bun", "run"]);
  const { scripts } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
  expect(Object.keys(scripts)).toContain(job!);
  switch (job) {
    case "train":
      return run([job, ...small(args.map((arg) => nodeAddress(arg)))]);
    case "node": {
      const address = args[args.indexOf("--listen") + 1]!;
      const child = start([
        job,
        ...args.map((arg) => (arg === address ? address.replace(/:\d+$/, ":0") : arg)),
        "--json",
      ]);
      const reader = child.stdout.getReader();
      const { value } = await reader.read();
      reader.releaseLock();
      nodes.push({ address: JSON.parse(new TextDecoder().decode(value)).address, child });
      return "";
    }
    case "bench":
      return run([job, ...args, ...QUICK[args[0]!]!]);
    case "troupe":
      return run(args[0] === "plan" ? [...args, ...SMALL.gpt!] : args);
    case "test": // This is it.
      return "";
    default:
      throw new Error(`no test for "${line}"`);
  }
}

/** `tcp://127.0.0.1:4001` in the README is the first node started here, and so on, whatever its machine is called. */
function nodeAddress(argument: string): string {
  const place = /^tcp:\/\/[^:]+:400(\d)$/.exec(argument)?.[1];
  return place === undefined ? argument : nodes[Number(place) - 1]!.address.replace("0.0.0.0", "127.0.0.1");
}
