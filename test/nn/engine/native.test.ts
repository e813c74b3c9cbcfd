import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BoundTensor } from "../../../nn/engine/backend.ts";
import { availableEngines } from "../../../nn/engine/create.ts";
import { EngineError } from "../../../nn/engine/engine.ts";
import { sharedAllocator } from "../../../nn/engine/memory.ts";
import { openForeign } from "../../../nn/engine/native/ffi.ts";
import type { OrtApi } from "../../../nn/engine/native/library.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { encodeModel } from "../../../nn/onnx/proto.ts";

const available = (await availableEngines()).some(({ name }) => name === "native");
if (!available) console.warn("native engine: skipped, it does not work on this machine");

const graph = () => {
  const builder = new GraphBuilder("add");
  const [a, b] = [builder.input("a", "f32", [3]), builder.input("b", "f32", [3])];
  builder.output(builder.op("Add", [a, b], {}, "y"));
  return builder.build();
};

const tensor = (name: string): BoundTensor => ({
  id: 0,
  place: "host",
  name,
  ...sharedAllocator()("f32", [3]).tensor,
});

describe.skipIf(!available)("native backend: calls into the C API", async () => {
  const { NativeBackend } = await import("../../../nn/engine/native/backend.ts");
  const { openLibrary } = await import("../../../nn/engine/native/library.ts");
  const foreign = (await openForeign())!;

  /** How often each function of the C API was called. */
  let calls: Record<string, number> = {};
  let backend: InstanceType<typeof NativeBackend>;
  beforeAll(() => {
    const library = openLibrary(foreign)!;
    const counted = Object.entries(library.api).map(([name, call]) => [
      name,
      (...args: never[]) => {
        calls[name] = (calls[name] ?? 0) + 1;
        return (call as (...args: never[]) => unknown)(...args);
      },
    ]);
    backend = new NativeBackend({ ...library, api: Object.fromEntries(counted) as OrtApi }, foreign, () => 0);
  });
  afterAll(() => {
    calls = {};
    backend.close();
    expect(calls).toEqual({ ReleaseMemoryInfo: 1, ReleaseEnv: 1 });
  });

  test("a run is one, which neither makes nor releases anything", () => {
    backend.compile(1, encodeModel(graph()), {});
    backend.createBinding(2, 1, [tensor("a"), tensor("b")], [tensor("y")]);
    calls = {};
    for (let i = 0; i < 5; i++) backend.run(2);
    expect(calls).toEqual({ Run: 5 });
  });

  test("releasing gives back every value and the session, once", () => {
    calls = {};
    for (let i = 0; i < 2; i++) {
      backend.releaseBinding(2);
      backend.releaseExecutable(1);
    }
    expect(calls).toEqual({ ReleaseValue: 3, ReleaseSession: 1 });
  });

  test("a refused graph leaves nothing", () => {
    calls = {};
    expect(() => backend.compile(3, Uint8Array.of(1, 2, 3), {})).toThrow(EngineError);
    expect(calls).toMatchObject({ CreateSessionOptions: 1, ReleaseSessionOptions: 1, ReleaseStatus: 1 });
    expect(() => backend.run(3)).toThrow(EngineError);
  });

  test("a binding that cannot be made says so when it runs, and leaves nothing", () => {
    backend.compile(4, encodeModel(graph()), {});
    calls = {};
    const short = { ...tensor("b"), shape: [1000] };
    backend.createBinding(5, 4, [tensor("a"), short], [tensor("y")]);
    expect(() => backend.run(5)).toThrow(EngineError);
    expect(calls).toMatchObject({ CreateTensorWithDataAsOrtValue: 2, ReleaseValue: 1, ReleaseStatus: 1 });
    backend.releaseBinding(5);
    backend.releaseExecutable(4);
  });

  test("a profiled session gives its path back, is replaced by another and leaves no file", () => {
    const folder = mkdtempSync(join(tmpdir(), "native-test-"));
    const before = process.env.TMPDIR;
    process.env.TMPDIR = folder;
    try {
      backend.compile(6, encodeModel(graph()), { profile: true });
      expect(readdirSync(folder)).toHaveLength(1);
      calls = {};
      expect(backend.profile(6)).toEqual([]);
      expect(calls).toMatchObject({ SessionEndProfiling: 1, AllocatorFree: 1, ReleaseSession: 1 });
      expect(calls).toMatchObject({ CreateSessionFromArray: 1 });
      backend.releaseExecutable(6);
      expect(() => backend.compile(7, Uint8Array.of(1, 2, 3), { profile: true })).toThrow(EngineError);
      expect(readdirSync(folder)).toEqual([]);
    } finally {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
      rmSync(folder, { recursive: true });
    }
  });
});
