import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { availableEngines, createEngine, probeEngines } from "../../../nn/engine/create.ts";
import { type Engine, EngineError, type EngineTensor } from "../../../nn/engine/engine.ts";
import { HostEngine } from "../../../nn/engine/host.ts";
import { ALIGNMENT, sharedAllocator } from "../../../nn/engine/memory.ts";
import { connectWorker } from "../../../nn/engine/worker.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";

function addGraph() {
  const builder = new GraphBuilder("add");
  const [a, b] = [builder.input("a", "f32", [2, 2]), builder.input("b", "f32", [2, 2])];
  builder.output(builder.op("Add", [a, b], {}, "y"));
  return builder.build();
}

const available = await availableEngines();
const native = available.some(({ name }) => name === "native");
if (!native) console.warn("native engine: skipped, it does not work on this machine");

describe("createEngine", () => {
  test("refuses an unknown name and says which there are", async () => {
    const failure = await createEngine({ engine: "cuda" as "native" }).catch((error) => error);
    expect(failure).toBeInstanceOf(EngineError);
    expect(failure.message).toMatch(/"cuda".*native.*reference/);
  });

  test("says why the one asked for does not work", async () => {
    const [lacking] = (await probeEngines()).filter((engine) => "missing" in engine);
    if (!lacking) return console.warn("every engine works on this machine: nothing to refuse");
    const failure = await createEngine({ engine: lacking.name }).catch((error) => error);
    expect(failure).toBeInstanceOf(EngineError);
    expect(failure.message).toContain((lacking as { missing: string }).missing);
  });

  test("every engine that works says what it can do", () => {
    for (const { version, dtypes, threads, device } of available) {
      expect(version).toMatch(/^\d/);
      expect(dtypes).toContain("f32");
      expect(threads).toBeGreaterThan(0);
      expect(device).not.toBe("");
    }
  });

  test("auto takes the fastest that works", async () => {
    const engine = await createEngine();
    expect(engine.name).toBe(available[0]!.name);
    await engine.close();
  });
});

describe("a worker that cannot start", () => {
  test("rejects with its reason, and the engine closes", async () => {
    const backend = connectWorker(
      new Worker(new URL("./no-such-worker.ts", import.meta.url), { type: "module" }),
    );
    const engine = new HostEngine({ name: "native", backend, allocator: sharedAllocator(), dtypes: ["f32"] });
    const failure = await engine.compile(addGraph()).catch((error) => error);
    expect(failure).toBeInstanceOf(EngineError);
    expect(failure.message).toContain("no-such-worker");
    await engine.close();
  });
});

test.each(["native", "node-binding"])("%s leaves no telemetry behind", async (name) => {
  if (!available.some((engine) => engine.name === name)) return console.warn(`${name}: skipped, not here`);
  const folder = await mkdtemp(join(tmpdir(), "troupe-telemetry-"));
  const script = `
    const { createEngine } = await import("./nn/engine/create.ts");
    const { GraphBuilder } = await import("./nn/onnx/builder.ts");
    const builder = new GraphBuilder("negate");
    builder.output(builder.op("Neg", [builder.input("x", "f32", [2])], {}, "y"));
    const engine = await createEngine({ engine: "${name}" });
    await engine.compile(builder.build());
    await engine.close();
  `;
  const { ORT_DISABLE_TELEMETRY: _, ...env } = process.env;
  const child = Bun.spawn([process.execPath, "-e", script], {
    cwd: join(import.meta.dir, "../../.."),
    env: { ...env, TMPDIR: folder },
  });
  expect(await child.exited).toBe(0);
  expect(await readdir(folder)).toEqual([]);
  await rm(folder, { recursive: true });
});

describe("a process", () => {
  test("ends by itself when its engines are closed, and no engine prints anything", async () => {
    const script = `
      const { createEngine } = await import("./nn/engine/create.ts");
      const { GraphBuilder } = await import("./nn/onnx/builder.ts");
      const builder = new GraphBuilder("negate");
      builder.output(builder.op("Neg", [builder.input("x", "f32", [2])], {}, "y"));
      for (const name of ${JSON.stringify(available.map(({ name }) => name))}) {
        const engine = await createEngine({ engine: name, threads: 2 });
        const executable = await engine.compile(builder.build());
        const binding = executable.bind({ x: engine.allocate("f32", [2]) }, { y: engine.allocate("f32", [2]) });
        await binding.run();
        const last = binding.run().catch((error) => error.code);
        await engine.close();
        process.stdout.write(name + " " + (await last) + ";");
      }`;
    const root = join(import.meta.dir, "../../..");
    const child = Bun.spawn([process.execPath, "-e", script], { cwd: root, stdout: "pipe", stderr: "pipe" });
    const [out, err] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    const expected = available.map(({ name }) => `${name} ENGINE;`).join("");
    expect([out, err, child.exitCode]).toEqual([expected, "", 0]);
  });
});

describe.skipIf(!native)("native engine", () => {
  let engine: Engine;
  let tensors: [EngineTensor, EngineTensor, EngineTensor];
  beforeAll(async () => {
    const { ptr } = await import("bun:ffi");
    engine = await createEngine({ engine: "native" });
    tensors = [0, 1, 2].map(() => engine.allocate("f32", [2, 2])) as typeof tensors;
    for (const { tensor } of tensors) expect(Number(ptr(tensor.bytes)) % ALIGNMENT).toBe(0);
  });
  afterAll(() => engine.close());

  test("shares memory with its worker", () => {
    expect(tensors[0].tensor.bytes.buffer).toBeInstanceOf(SharedArrayBuffer);
  });

  test("computes the same bits with two threads", async () => {
    const size = 192;
    const builder = new GraphBuilder("product");
    const x = builder.input("x", "f32", [size, size]);
    builder.output(builder.op("Gemm", [x, x], {}, "y"));
    const graph = builder.build();
    const [input, one, two] = [0, 1, 2].map(() => engine.allocate("f32", [size, size])) as typeof tensors;
    input.tensor.f32().forEach((_, i, values) => {
      values[i] = Math.sin(i);
    });
    for (const [threads, y] of [[1, one] as const, [2, two] as const]) {
      const executable = await engine.compile(graph, { threads });
      await executable.bind({ x: input }, { y }).run();
      executable.release();
    }
    expect(one.tensor.f32().some((value) => value !== 0)).toBe(true);
    expect(two.tensor.bytes).toEqual(one.tensor.bytes);
  });
});
