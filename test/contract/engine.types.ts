/** The part of the engine contract about what tensors hold and where they are. */

import { describe, expect, test } from "bun:test";
import { type Engine, EngineError, type EngineTensor } from "../../nn/engine/engine.ts";
import { DATA_TYPE } from "../../nn/onnx/datatype.ts";
import type { DType, Shape } from "../../protocols/tensor.ts";
import { failureOf, NOTHING, releaseAll } from "./engine.checks.ts";
import { ADD, graphOf, node, SGD, value, Y2 } from "./engine.graphs.ts";

/** 0 and 1 as each element type stores them. */
const STORED: Readonly<Record<DType, ArrayBufferView>> = {
  f32: Float32Array.of(0, 1),
  f64: Float64Array.of(0, 1),
  f16: Uint16Array.of(0, 0x3c00),
  bf16: Uint16Array.of(0, 0x3f80),
  i64: BigInt64Array.of(0n, 1n),
  i32: Int32Array.of(0, 1),
  u8: Uint8Array.of(0, 1),
  i8: Int8Array.of(0, 1),
  bool: Uint8Array.of(0, 1),
};

/** @param dtypes that the engine says it has. */
export function engineTypes(name: Engine["name"], open: () => Engine, dtypes: readonly DType[]): void {
  describe("element types", () => {
    for (const [dtype, stored] of Object.entries(STORED) as [DType, ArrayBufferView][]) {
      const bytes = new Uint8Array(stored.buffer);
      if (!dtypes.includes(dtype)) {
        test(`${dtype} is refused by its name, as a tensor and in a graph`, () => refused(dtype));
        continue;
      }
      test(`${dtype} is stored, and read by Cast`, async () => {
        const engine = open();
        const x = engine.allocate(dtype, [2]);
        x.tensor.bytes.set(bytes);
        const cast = node("Cast", 1, { to: DATA_TYPE.f32 });
        const executable = await engine.compile(graphOf([cast], [value("x0", dtype, [2])], [Y2]));
        const y = engine.allocate("f32", [2]);
        const binding = executable.bind({ x0: x }, { y });
        await binding.run();
        expect([...y.tensor.f32()]).toEqual([0, 1]);
        releaseAll(engine, [x, y, binding, executable]);
      });
    }

    async function refused(dtype: DType): Promise<void> {
      const engine = open();
      const refusal = new RegExp(`${dtype}\\[2\\].*${name} engine.*another engine`);
      expect(() => engine.allocate(dtype, [2])).toThrow(refusal);
      const cast = graphOf([node("Cast", 1, { to: DATA_TYPE.f32 })], [value("x0", dtype, [2])], [Y2]);
      const failure = await failureOf(engine.compile(cast));
      expect(failure).toBeInstanceOf(EngineError);
      expect(failure.message).toMatch(refusal);
      expect(failure.message).toContain('"x0"');
      expect(engine.usage()).toEqual(NOTHING);
    }
  });

  describe("a tensor on the device", () => {
    test("is written, updated in place by runs, and read", async () => {
      const engine = open();
      const executable = await engine.compile(SGD);
      const [p, g, lr] = [[2], [2], []].map((shape) => engine.allocate("f32", shape, "device")) as [
        EngineTensor,
        EngineTensor,
        EngineTensor,
      ];
      p.tensor.f32().set([1, 2]);
      g.tensor.f32().set([10, 20]);
      lr.tensor.f32().fill(0.5);
      for (const owned of [p, g, lr]) await owned.write();
      const binding = executable.bind({ p, g, lr }, { y: p });
      // Read after the runs that were asked for, awaited or not.
      const runs = [binding.run(), binding.run()];
      expect([...(await p.read()).f32()]).toEqual([-9, -18]);
      await Promise.all(runs);
      expect(await p.read()).toBe(p.tensor);
      releaseAll(engine, [p, g, lr, binding, executable]);
      expect(await failureOf(p.write())).toBeInstanceOf(EngineError);
      expect(await failureOf(p.read())).toBeInstanceOf(EngineError);
    });

    test("is cleared and copied where the runs see it", async () => {
      const engine = open();
      const executable = await engine.compile(ADD);
      const [a, b, y] = [
        engine.allocate("f32", [2, 2], "device"),
        engine.allocate("f32", [2, 2], "device"),
        engine.allocate("f32", [2, 2], "device"),
      ];
      a.tensor.f32().set([1, 2, 3, 4]);
      b.tensor.f32().fill(1);
      for (const owned of [a, b]) await owned.write();
      const binding = executable.bind({ a, b }, { y });
      await binding.run();
      await a.copy(y);
      await b.clear();
      await binding.run();
      expect([...(await y.read()).f32()]).toEqual([2, 3, 4, 5]);
      releaseAll(engine, [a, b, y, binding, executable]);
    });

    test("is copied from a living tensor of its type", async () => {
      const engine = open();
      const [a, b] = [engine.allocate("f32", [2]), engine.allocate("f32", [3])];
      const { message } = await failureOf(a.copy(b));
      expect(message).toBe("a copy from f32[3], place host to f32[2], place host");
      b.release();
      expect(await failureOf(a.copy(b))).toBeInstanceOf(EngineError);
      releaseAll(engine, [a]);
    });
  });

  describe("memory", () => {
    test("that runs still use is theirs, although it has been released", async () => {
      const engine = open();
      const size = 4096;
      const many = [value("a", "f32", [size]), value("b", "f32", [size])];
      const executable = await engine.compile({
        ...ADD,
        inputs: many,
        outputs: [value("y", "f32", [size])],
      });
      const f32 = (shape: Shape) => engine.allocate("f32", shape);
      const [a, b, y] = [f32([size]), f32([size]), f32([size])];
      a.tensor.f32().fill(1);
      b.tensor.f32().fill(2);
      const binding = executable.bind({ a, b }, { y });
      const run = binding.run();
      for (const owned of [binding, executable, a, b, y]) owned.release();
      const others = [0, 1, 2].map(() => f32([size]));
      for (const { tensor } of others) {
        expect(tensor.f32().every((x) => x === 0)).toBe(true);
        tensor.f32().fill(7);
      }
      await run;
      expect(y.tensor.f32().every((x) => x === 3)).toBe(true);
      for (const { tensor } of others) expect(tensor.f32().every((x) => x === 7)).toBe(true);
      releaseAll(engine, others);
    });
  });
}
