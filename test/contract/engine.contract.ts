/**
 * What every engine promises, run by `engine.test.ts` for each of them. Values are computed by hand here, so that
 * an engine is held to the operator's definition and not to another engine.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Engine, EngineError, type EngineTensor, type Executable } from "../../nn/engine/engine.ts";
import { float, MICROSOFT, type Node } from "../../nn/onnx/graph.ts";
import { type DType, type Shape, Tensor } from "../../protocols/tensor.ts";
import { failureOf, NOTHING, releaseAll } from "./engine.checks.ts";
import { ADD, graphOf, node, SGD, value, Y2 } from "./engine.graphs.ts";
import { engineTypes } from "./engine.types.ts";

export interface EngineTraits {
  /** Element types that it says it has. */
  readonly dtypes: readonly DType[];
  /** Says which operators took the time. */
  readonly profiles: boolean;
}

export function engineContract(name: Engine["name"], create: () => Promise<Engine>, traits: EngineTraits) {
  describe(`engine: ${name}`, () => {
    let engine: Engine;
    beforeAll(async () => {
      engine = await create();
    });
    afterAll(() => engine.close());

    const f32 = (shape: Shape, values: readonly number[] = []): EngineTensor => {
      const owned = engine.allocate("f32", shape);
      owned.tensor.f32().set(values);
      return owned;
    };
    const i64 = (shape: Shape, values: readonly number[]): EngineTensor => {
      const owned = engine.allocate("i64", shape);
      owned.tensor.i64().set(values.map(BigInt));
      return owned;
    };

    /** Runs a graph of one node over these inputs and gives its one output. */
    const apply = async (node: Node, inputs: readonly EngineTensor[], shape: Shape): Promise<number[]> => {
      const values = inputs.map(({ tensor: { dtype, shape } }, i) => ({ name: `x${i}`, dtype, shape }));
      const executable = await engine.compile(graphOf([node], values, [{ name: "y", dtype: "f32", shape }]));
      const y = f32(shape);
      const binding = executable.bind(Object.fromEntries(inputs.map((input, i) => [`x${i}`, input])), { y });
      await binding.run();
      const result = [...y.tensor.f32()];
      releaseAll(engine, [...inputs, y, binding, executable]);
      return result;
    };

    test("has its name", () => {
      expect(engine.name).toBe(name);
    });

    describe("tensors", () => {
      for (const [dtype, shape, bytes] of [
        ["f32", [3, 5], 60],
        ["i64", [], 8],
        ["bool", [7], 7],
        ["f32", [0, 4], 0],
      ] as const) {
        test(`${dtype}[${shape}] is allocated and zero-filled`, () => {
          const { tensor, release } = engine.allocate(dtype, shape);
          expect([tensor.dtype, tensor.shape]).toEqual([dtype, shape]);
          expect(tensor.bytes.every((byte) => byte === 0)).toBe(true);
          expect(engine.usage()).toEqual({ ...NOTHING, tensors: 1, tensorBytes: bytes });
          release();
          release();
          expect(engine.usage()).toEqual(NOTHING);
        });
      }
    });

    engineTypes(name, () => engine, traits.dtypes);

    describe("binding", () => {
      let executable: Executable;
      let fits: EngineTensor;
      beforeAll(async () => {
        executable = await engine.compile(ADD);
        fits = f32([2, 2]);
      });
      afterAll(() => {
        executable.release();
        fits.release();
        expect(engine.usage()).toEqual(NOTHING);
      });
      const refusal = (feeds: Record<string, EngineTensor>, fetches: Record<string, EngineTensor>) => {
        try {
          executable.bind(feeds, fetches);
        } catch (error) {
          expect(error).toBeInstanceOf(EngineError);
          return (error as Error).message;
        }
        throw new Error("bind did not throw");
      };

      test("tells the graph's inputs and outputs", () => {
        expect(executable.inputs).toEqual(ADD.inputs);
        expect(executable.outputs).toEqual(ADD.outputs);
      });
      test("names a missing input", () => {
        expect(refusal({ a: fits }, { y: fits })).toContain('input "b"');
      });
      test("names a missing output", () => {
        expect(refusal({ a: fits, b: fits }, {})).toContain('output "y"');
      });
      test("names an unknown value, and the known ones", () => {
        expect(refusal({ a: fits, b: fits, c: fits }, { y: fits })).toMatch(/"c".*a, b/);
      });
      test("names value, expected and given shape", () => {
        const wide = f32([2, 3]);
        expect(refusal({ a: fits, b: wide }, { y: fits })).toMatch(/"b".*f32\[2,2\].*f32\[2,3\]/);
        wide.release();
      });
      test("names value, expected and given dtype", () => {
        const integers = i64([2, 2], []);
        expect(refusal({ a: fits, b: fits }, { y: integers })).toMatch(/"y".*f32\[2,2\].*i64\[2,2\]/);
        integers.release();
      });
      test("refuses a released tensor", () => {
        const gone = f32([2, 2]);
        gone.release();
        expect(refusal({ a: fits, b: gone }, { y: fits })).toContain('"b"');
      });
      test("refuses a tensor of another engine", async () => {
        const other = await create();
        expect(refusal({ a: fits, b: other.allocate("f32", [2, 2]) }, { y: fits })).toContain('"b"');
        await other.close();
      });
      test("is refused by a released executable", async () => {
        const released = await engine.compile(ADD);
        released.release();
        expect(() => released.bind({ a: fits, b: fits }, { y: fits })).toThrow(EngineError);
      });
      test("does not run once it or its executable is released", async () => {
        const owner = await engine.compile(ADD);
        const [first, second] = [0, 1].map(() => owner.bind({ a: fits, b: fits }, { y: fits }));
        first!.release();
        expect(await failureOf(first!.run())).toBeInstanceOf(EngineError);
        owner.release();
        expect(await failureOf(second!.run())).toBeInstanceOf(EngineError);
        expect(engine.usage().bindings).toBe(0);
      });
    });

    describe("operators", () => {
      test("Add broadcasts", async () => {
        const inputs = [f32([2, 3], [1, 2, 3, 4, 5, 6]), f32([3], [10, 20, 30])];
        expect(await apply(node("Add", 2), inputs, [2, 3])).toEqual([11, 22, 33, 14, 25, 36]);
      });
      test("Gather reads rows", async () => {
        const inputs = [f32([3, 2], [1, 2, 3, 4, 5, 6]), i64([3], [2, 0, 2])];
        expect(await apply(node("Gather", 2), inputs, [3, 2])).toEqual([5, 6, 1, 2, 5, 6]);
      });
      test("Softmax along an axis", async () => {
        const inputs = [f32([2, 2], [0, 5, 0, 5])];
        expect(await apply(node("Softmax", 1, { axis: 0 }), inputs, [2, 2])).toEqual([0.5, 0.5, 0.5, 0.5]);
      });
      test("Gemm with a transposed operand, scaled and added", async () => {
        const attributes = { transA: 1, alpha: float(2), beta: float(1) };
        const inputs = [f32([2, 1], [3, 4]), f32([2, 2], [1, 2, 5, 6]), f32([1, 2], [100, 200])];
        expect(await apply(node("Gemm", 3, attributes), inputs, [1, 2])).toEqual([146, 260]);
      });
      test("FusedMatMul scales and transposes the last axes", async () => {
        const inputs = [f32([1, 2], [1, 2]), f32([2, 2], [3, 4, 5, 6])];
        const fused = node("FusedMatMul", 2, { transB: 1, alpha: float(0.5) }, MICROSOFT);
        expect(await apply(fused, inputs, [1, 2])).toEqual([5.5, 8.5]);
      });
      test("FusedMatMul moves the first axis behind the batch axes", async () => {
        // a is [row, batch, depth], b is [depth, batch, column]: per batch [1 2] · [1 0; 0 1]ᵗ and [3 4] · 2.
        const a = f32([1, 2, 2], [1, 2, 3, 4]);
        const b = f32([2, 2, 2], [1, 0, 2, 0, 0, 1, 0, 2]);
        const fused = node("FusedMatMul", 2, { transBatchA: 1, transBatchB: 1 }, MICROSOFT);
        expect(await apply(fused, [a, b], [2, 1, 2])).toEqual([1, 2, 6, 8]);
      });
      test("integers and booleans", async () => {
        const graph = graphOf(
          [
            { ...node("Less", 2), inputs: ["a", "b"], outputs: ["less"] },
            { ...node("Add", 2), inputs: ["a", "b"], outputs: ["sum"] },
          ],
          [value("a", "i64", [3]), value("b", "i64", [3])],
          [value("less", "bool", [3]), value("sum", "i64", [3])],
        );
        const executable = await engine.compile(graph);
        const [a, b] = [i64([3], [1, 2, 3]), i64([3], [3, 2, -5])];
        const [less, sum] = [engine.allocate("bool", [3]), engine.allocate("i64", [3])];
        const binding = executable.bind({ a, b }, { less, sum });
        await binding.run();
        expect([...less.tensor.bytes]).toEqual([1, 0, 0]);
        expect([...sum.tensor.i64()]).toEqual([4n, 4n, -2n]);
        releaseAll(engine, [a, b, less, sum, binding, executable]);
      });
      test("initializers", async () => {
        const graph = {
          ...graphOf([{ ...node("Mul", 2), inputs: ["a", "two"] }], [value("a", "f32", [2])], [Y2]),
          initializers: new Map([["two", Tensor.f32([], [2])]]),
        };
        const executable = await engine.compile(graph);
        const [a, y] = [f32([2], [3, -4]), f32([2])];
        const binding = executable.bind({ a }, { y });
        await binding.run();
        expect([...y.tensor.f32()]).toEqual([6, -8]);
        releaseAll(engine, [a, y, binding, executable]);
      });
    });

    describe("in place", () => {
      test("p − lr·g overwrites p", async () => {
        const executable = await engine.compile(SGD);
        const [p, g, lr] = [f32([2], [1, 2]), f32([2], [10, 20]), f32([], [0.5])];
        const binding = executable.bind({ p, g, lr }, { y: p });
        await binding.run();
        await binding.run();
        expect([...p.tensor.f32()]).toEqual([-9, -18]);
        releaseAll(engine, [p, g, lr, binding, executable]);
      });

      test("Gemm accumulates, with the bits of a double-buffered run", async () => {
        const [m, k, n] = [48, 33, 40];
        const gemm = { ...node("Gemm", 3, { transA: 1, beta: float(1) }), inputs: ["a", "b", "c"] };
        const graph = graphOf(
          [gemm],
          [value("a", "f32", [k, m]), value("b", "f32", [k, n]), value("c", "f32", [m, n])],
          [value("y", "f32", [m, n])],
        );
        const wave = (count: number, pace: number) =>
          Array.from({ length: count }, (_, i) => Math.sin(i * pace));
        const executable = await engine.compile(graph);
        const [a, b] = [f32([k, m], wave(k * m, 0.37)), f32([k, n], wave(k * n, 0.71))];
        const [c, y, sum] = [f32([m, n]), f32([m, n]), f32([m, n])];
        const apart = executable.bind({ a, b, c }, { y });
        const inPlace = executable.bind({ a, b, c: sum }, { y: sum });
        for (let i = 0; i < 3; i++) {
          await apart.run();
          await inPlace.run();
          c.tensor.bytes.set(y.tensor.bytes);
        }
        expect(sum.tensor.bytes).toEqual(y.tensor.bytes);
        expect(sum.tensor.f32().some((x) => Math.abs(x) > 1)).toBe(true);
        releaseAll(engine, [a, b, c, y, sum, apart, inPlace, executable]);
      });

      test("ScatterND adds rows, repeated ones too", async () => {
        const scatter = {
          ...node("ScatterND", 3, { reduction: "add" }),
          inputs: ["table", "rows", "updates"],
        };
        const graph = graphOf(
          [scatter],
          [value("table", "f32", [3, 2]), value("rows", "i64", [3, 1]), value("updates", "f32", [3, 2])],
          [value("y", "f32", [3, 2])],
        );
        const executable = await engine.compile(graph);
        const table = f32([3, 2], [1, 1, 1, 1, 1, 1]);
        const [rows, updates] = [i64([3, 1], [2, 0, 2]), f32([3, 2], [1, 2, 3, 4, 5, 6])];
        const binding = executable.bind({ table, rows, updates }, { y: table });
        await binding.run();
        expect([...table.tensor.f32()]).toEqual([4, 5, 1, 1, 7, 9]);
        await binding.run();
        expect([...table.tensor.f32()]).toEqual([7, 9, 1, 1, 13, 17]);
        releaseAll(engine, [table, rows, updates, binding, executable]);
      });
    });

    describe("runs", () => {
      test("execute in the order they were asked for", async () => {
        const [add, sgd] = [await engine.compile(ADD), await engine.compile(SGD)];
        const [x, one] = [f32([2, 2]), f32([2, 2], [1, 1, 1, 1])];
        const [p, g, lr] = [f32([2], [1, 1]), f32([2], [1, 1]), f32([], [1])];
        const increment = add.bind({ a: x, b: one }, { y: x });
        const double = add.bind({ a: x, b: x }, { y: x });
        const other = sgd.bind({ p, g, lr }, { y: p });
        const order: number[] = [];
        const runs = [increment, double, increment, other, double, double].map((binding, i) =>
          binding.run().then(() => order.push(i)),
        );
        await Promise.all(runs);
        expect(order).toEqual([0, 1, 2, 3, 4, 5]);
        expect([...x.tensor.f32()]).toEqual([12, 12, 12, 12]);
        expect([...p.tensor.f32()]).toEqual([0, 0]);
        releaseAll(engine, [x, one, p, g, lr, increment, double, other, add, sgd]);
      });

      test("read what was written to the tensors since", async () => {
        const executable = await engine.compile(ADD);
        const [a, b, y] = [f32([2, 2]), f32([2, 2]), f32([2, 2])];
        const binding = executable.bind({ a, b }, { y });
        for (const x of [1, 2, 3]) {
          a.tensor.f32().fill(x);
          expect(await binding.run()).toBeGreaterThanOrEqual(0);
          expect(y.tensor.f32()[3]).toBe(x);
        }
        releaseAll(engine, [a, b, y, binding, executable]);
      });

      test("that were asked for are done before a release takes effect", async () => {
        const executable = await engine.compile(ADD);
        const [a, b, y] = [f32([2, 2], [1, 2, 3, 4]), f32([2, 2], [1, 1, 1, 1]), f32([2, 2])];
        const binding = executable.bind({ a, b }, { y });
        const run = binding.run();
        for (const owned of [binding, executable, a, b, y]) owned.release();
        await run;
        expect([...y.tensor.f32()]).toEqual([2, 3, 4, 5]);
        expect(engine.usage()).toEqual(NOTHING);
      });

      test("that fail tell the runtime's reason, and the engine works on", async () => {
        const graph = graphOf(
          [{ ...node("Gather", 2), inputs: ["a", "i"] }],
          [value("a", "f32", [3]), value("i", "i64", [2])],
          [Y2],
        );
        const executable = await engine.compile(graph);
        const [a, i, y] = [f32([3], [1, 2, 3]), i64([2], [0, 7]), f32([2])];
        const binding = executable.bind({ a, i }, { y });
        const failure = await failureOf(binding.run());
        expect(failure).toBeInstanceOf(EngineError);
        expect(failure.message).toContain("7");
        i.tensor.i64()[1] = 2n;
        await binding.run();
        expect([...y.tensor.f32()]).toEqual([1, 3]);
        releaseAll(engine, [a, i, y, binding, executable]);
      });
    });

    describe("compile", () => {
      test("refuses an unknown operator by its name", async () => {
        const bad = graphOf([{ ...node("Bogus", 1), inputs: ["a"] }], [value("a", "f32", [2])], [Y2]);
        const failure = await failureOf(engine.compile(bad));
        expect(failure).toBeInstanceOf(EngineError);
        expect(failure.message).toContain("Bogus");
        expect(engine.usage()).toEqual(NOTHING);
      });

      test.skipIf(!traits.profiles)("with profile counts calls and times per operator", async () => {
        const executable = await engine.compile(SGD, { profile: true });
        const [p, g, lr] = [f32([2]), f32([2]), f32([])];
        const binding = executable.bind({ p, g, lr }, { y: p });
        const calls = async () =>
          Object.fromEntries((await executable.profile()).map((time) => [time.op, time.calls]));
        await binding.run();
        await binding.run();
        expect(await calls()).toEqual({ Mul: 2, Sub: 2 });
        await binding.run();
        expect(await calls()).toEqual({ Mul: 3, Sub: 3 });
        for (const { ms } of await executable.profile()) expect(ms).toBeGreaterThanOrEqual(0);
        releaseAll(engine, [p, g, lr, binding, executable]);
      });

      test("without profile has no times to give", async () => {
        const executable = await engine.compile(SGD);
        expect(await failureOf(executable.profile())).toBeInstanceOf(EngineError);
        executable.release();
      });
    });

    describe("close", () => {
      test("rejects what is in flight and what comes after, and is idempotent", async () => {
        const closing = await create();
        const executable = await closing.compile(ADD);
        const tensors = ["a", "b", "y"].map(() => closing.allocate("f32", [2, 2])) as [
          EngineTensor,
          EngineTensor,
          EngineTensor,
        ];
        const binding = executable.bind({ a: tensors[0], b: tensors[1] }, { y: tensors[2] });
        const outcomes = Promise.allSettled([binding.run(), binding.run(), closing.compile(ADD)]);
        const closed = closing.close();
        expect(closing.close()).toBe(closed);
        for (const outcome of await outcomes) {
          expect(outcome.status).toBe("rejected");
          expect((outcome as PromiseRejectedResult).reason).toBeInstanceOf(EngineError);
        }
        await closed;
        expect(closing.usage()).toEqual(NOTHING);
        expect(await failureOf(binding.run())).toBeInstanceOf(EngineError);
        expect(await failureOf(closing.compile(ADD))).toBeInstanceOf(EngineError);
        expect(() => closing.allocate("f32", [1])).toThrow(EngineError);
        for (const owned of [...tensors, binding, executable]) owned.release();
      });
    });
  });
}
