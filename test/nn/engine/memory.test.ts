/** Engines give back what they took: counted where it can be, weighed where it cannot. */

import { describe, expect, test } from "bun:test";
import type { Backend } from "../../../nn/engine/backend.ts";
import { createEngine, probeEngines } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { WebBackend } from "../../../nn/engine/web/backend.ts";
import { WebModule } from "../../../nn/engine/web/module.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import type { Graph } from "../../../nn/onnx/graph.ts";
import { encodeModel } from "../../../nn/onnx/proto.ts";
import { Tensor } from "../../../protocols/tensor.ts";

const MIB = 2 ** 20;
const SIDE = 256;
/** Of the constant in the graph, and of each tensor. */
const BYTES = 4 * SIDE ** 2;
/** Of an engine with the native library; WebAssembly takes ten times as long to compile a graph. */
const CYCLES = 200;
const FEWER = 80;

/** y = x + W with W held by the graph. */
function sum(): Graph {
  const b = new GraphBuilder("sum");
  const x = b.input("x", "f32", [SIDE, SIDE]);
  const w = b.constant("W", Tensor.f32([SIDE, SIDE], new Float32Array(SIDE ** 2).fill(0.5)));
  b.output(b.op("Add", [x, w], {}, "y"));
  return b.build();
}
const graph = sum();

/** Compiles, runs and releases once. */
async function cycle(engine: Engine): Promise<void> {
  const executable = await engine.compile(graph);
  const [x, y] = [engine.allocate("f32", [SIDE, SIDE]), engine.allocate("f32", [SIDE, SIDE])];
  x.tensor.f32().fill(1);
  const binding = executable.bind({ x }, { y });
  await binding.run();
  expect(y.tensor.f32()[0]).toBe(1.5);
  for (const owned of [binding, executable, x, y]) owned.release();
}

/** Only Bun collects garbage when asked; elsewhere a process's size says nothing. */
const weighs = typeof Bun !== "undefined";

/** Bytes that the process has in memory, when what can be collected has been. */
function resident(): number {
  Bun.gc(true);
  return process.memoryUsage.rss();
}

const names = (await probeEngines()).flatMap((engine) => ("missing" in engine ? [] : [engine.name]));

describe.each(names.filter((name) => name !== "reference"))("%s", (name) => {
  const cycles = name === "web" ? FEWER : CYCLES;
  test.skipIf(!weighs)(
    `${cycles} graphs compiled, run and released leave nothing behind`,
    async () => {
      const engine = await createEngine({ engine: name });
      try {
        for (let i = 0; i < cycles / 4; i++) await cycle(engine);
        const before = resident();
        for (let i = 0; i < cycles; i++) await cycle(engine);
        expect(Object.values(engine.usage())).toEqual([0, 0, 0, 0]);
        // The constant and two tensors: three times BYTES a cycle, if they stayed. WebAssembly's compiler takes some
        // memory of its own meanwhile.
        expect(resident() - before).toBeLessThan(Math.max((cycles * BYTES) / 2, 20 * MIB));
      } finally {
        await engine.close();
      }
    },
    30_000,
  );
});

test.skipIf(!weighs)(
  "engines opened and closed leave nothing behind",
  async () => {
    const name = names[0]!;
    const open = async () => {
      const engine = await createEngine({ engine: name });
      // Held when it is closed.
      const tensors = Array.from({ length: 8 }, () => engine.allocate("u8", [MIB]));
      for (const { tensor } of tensors) tensor.bytes.fill(1);
      await engine.compile(graph);
      await engine.close();
      expect(Object.values(engine.usage())).toEqual([0, 0, 0, 0]);
    };
    for (let i = 0; i < 3; i++) await open();
    const before = resident();
    for (let i = 0; i < 24; i++) await open();
    // 8 MiB each, if they stayed.
    expect(resident() - before).toBeLessThan(64 * MIB);
  },
  30_000,
);

test.skipIf(!names.includes("web"))(
  "WebAssembly's heap does not grow with what is compiled and released",
  async () => {
    // The module puts a Worker of its own in the place of this thread's, which others need as it was.
    const { Worker } = globalThis;
    const module = await WebModule.load(1).finally(() => {
      globalThis.Worker = Worker;
    });
    const backend: Backend<Uint8Array> = new WebBackend(module, () => 0);
    const model = encodeModel(graph);
    const values = [0, 1].map(() => module.allocate(BYTES));
    const bound = values.map((address, id) => ({
      ...{ id, place: "host" as const, name: id === 0 ? "x" : "y", dtype: "f32" as const },
      ...{ shape: [SIDE, SIDE], bytes: new Uint8Array(module.memory.buffer, address, BYTES) },
    }));
    const once = async (id: number) => {
      await backend.compile(id, model, {});
      await backend.createBinding(id, id, [bound[0]!], [bound[1]!]);
      await backend.run(id);
      await backend.releaseBinding(id);
      await backend.releaseExecutable(id);
    };
    for (let id = 0; id < 8; id++) await once(id);
    const before = module.memory.buffer.byteLength;
    for (let id = 8; id < 8 + FEWER / 2; id++) await once(id);
    expect(module.memory.buffer.byteLength).toBe(before);
  },
  30_000,
);
