/** What a file becomes: which constants are parameters, what the loss is, what sizes are, and what is refused and how. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Engine } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { exportModel, inferenceGraph } from "../../../nn/import/export.ts";
import { type ImportOptions, importModel } from "../../../nn/import/import.ts";
import type { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { float, type Graph } from "../../../nn/onnx/graph.ts";
import { decodeModel } from "../../../nn/onnx/proto.ts";
import { ModelProto } from "../../../nn/onnx/schema.ts";
import { removeDead } from "../../../nn/passes/dead.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { runGraph } from "../run.ts";
import { fileOf, mse, refusal } from "./support.ts";

let engine: Engine;
beforeAll(() => {
  engine = createReferenceEngine();
});
afterAll(() => engine.close());

const chance = new Chance(5);

describe("parameters are", () => {
  const parameters = async (
    initializers: Readonly<Record<string, Tensor>>,
    write: (b: GraphBuilder, x: string) => string,
    options: ImportOptions = mse,
  ) =>
    (
      await importModel(
        fileOf({ "base.w": chance.f32([4]), ...initializers }, (b, x) =>
          write(b, b.op("Mul", [x, "base.w"])),
        ),
        options,
      )
    ).parameters.filter((name) => name !== "base.w");

  test("matrices, whatever their name, and through a Transpose", async () => {
    const write = (b: GraphBuilder, x: string) => {
      const turned = b.op("Transpose", ["fc.weight"], { perm: [1, 0] });
      return b.op("MatMul", [b.op("MatMul", [x, "onnx::MatMul_7"]), turned]);
    };
    const tensors = { "onnx::MatMul_7": chance.f32([4, 4]), "fc.weight": chance.f32([4, 4]) };
    expect(await parameters(tensors, write)).toEqual(["onnx::MatMul_7", "fc.weight"]);
  });

  test("vectors that are added or multiplied, scales of normalisations", async () => {
    const write = (b: GraphBuilder, x: string) =>
      b.op("LayerNormalization", [b.op("Add", [b.op("Mul", [x, "gamma"]), "onnx::Add_3"]), "scale"], {
        axis: -1,
      });
    const tensors = { gamma: chance.f32([4]), "onnx::Add_3": chance.f32([4]), scale: chance.f32([4]) };
    expect(await parameters(tensors, write)).toEqual(["gamma", "onnx::Add_3", "scale"]);
  });

  test("learned positions, not masks, tables of factors or scalars", async () => {
    const write = (b: GraphBuilder, x: string) => {
      const placed = b.op("Mul", [b.op("Add", [b.op("Add", [x, "pos_embed"]), "hidden"]), "cosines"]);
      return b.op("Div", [b.op("Add", [placed, "unsqueeze_4"]), "temperature"]);
    };
    const tensors = {
      pos_embed: chance.f32([1, 3, 4]),
      hidden: Tensor.f32([1, 3, 4], new Float32Array(12).fill(-3.4e38, 3, 5)),
      cosines: chance.f32([3, 4]),
      unsqueeze_4: chance.f32([3, 4]),
      temperature: Tensor.f32([], [2]),
    };
    expect(await parameters(tensors, write)).toEqual(["pos_embed"]);
  });

  test("not what is named like a buffer", async () => {
    const write = (b: GraphBuilder, x: string) => b.op("MatMul", [x, "rotary_emb.inv_freq"]);
    expect(await parameters({ "rotary_emb.inv_freq": chance.f32([4, 4]) }, write)).toEqual([]);
  });

  test("not frequencies of positions, nor what only prepares the input", async () => {
    const write = (b: GraphBuilder, x: string) => {
      const even = b.op("Div", [b.op("Sub", [x, "val_1"]), "val_2"]);
      const angles = b.op("MatMul", ["val_3", "val_4"]);
      const turned = b.op("Mul", [even, b.op("Cos", [angles])]);
      return b.op("Add", [b.op("MatMul", [turned, "val_5"]), "val_6"]);
    };
    const file = {
      ...{ val_1: chance.f32([4]), val_2: chance.f32([1, 1, 4]), val_3: chance.f32([3, 1]) },
      ...{ val_4: chance.f32([1, 4]), val_5: chance.f32([4, 4]), val_6: chance.f32([1, 3, 1]) },
    };
    const bytes = fileOf(file, write);
    expect((await importModel(bytes, mse)).parameters).toEqual(["val_5", "val_6"]);
  });

  test("apart where they were stored once for being equal so far", async () => {
    const ones = Tensor.f32([4], [1, 1, 1, 1]);
    const write = (b: GraphBuilder, x: string) => {
      const norm = (y: string) => b.op("LayerNormalization", [y, "norm.scale"], { axis: -1 });
      const gemm = (y: string, w: string) => b.op("Gemm", [y, w, "fc.bias"]);
      const rows = b.op("Reshape", [norm(norm(x)), b.ints([6, 4])]);
      return b.op("Add", [gemm(gemm(rows, "a"), "a"), gemm(rows, "b")]);
    };
    const file = {
      "norm.scale": ones,
      "fc.bias": Tensor.zeros("f32", [4]),
      a: chance.f32([4, 4]),
      b: chance.f32([4, 4]),
    };
    const model = await importModel(fileOf(file, write), mse);
    expect(model.parameters.filter((name) => !(name in model.ties)).sort()).toEqual([
      "a",
      "b",
      "fc.bias",
      "fc.bias.copy2",
      "norm.scale",
      "norm.scale.copy2",
    ]);
  });

  test("apart where the exporter left both names, but for a table and the head tied to it", async () => {
    const write = (b: GraphBuilder, x: string) => {
      const second = b.op("Identity", ["first.weight"], {}, "second.weight");
      const head = b.op("Identity", ["table"], {}, "head.weight");
      const looked = b.op("Gather", ["table", b.ints([0, 2, 1])], { axis: 0 });
      const hidden = b.op("MatMul", [
        b.op("Relu", [b.op("MatMul", [b.op("Add", [x, looked]), "first.weight"])]),
        second,
      ]);
      return b.op("MatMul", [hidden, b.op("Transpose", [head], { perm: [1, 0] })]);
    };
    const model = await importModel(
      fileOf({ "first.weight": chance.f32([4, 4]), table: chance.f32([5, 4]) }, write),
      mse,
    );
    expect(model.parameters).toEqual(["first.weight", "table", "table.use2", "second.weight"]);
    expect(model.ties).toEqual({ "table.use2": "table" });
  });

  test("one where an exporter turned the table for the head", async () => {
    const table = chance.f32([5, 4]);
    const turned = Tensor.f32(
      [4, 5],
      Array.from({ length: 20 }, (_, i) => table.f32()[(i % 5) * 4 + Math.floor(i / 5)]!),
    );
    const write = (b: GraphBuilder, x: string) =>
      b.op("MatMul", [b.op("Add", [x, b.op("Gather", ["table", b.ints([0, 2, 1])], { axis: 0 })]), "val_9"]);
    const model = await importModel(fileOf({ table, val_9: turned }, write), mse);
    expect(model.parameters).toEqual(["table", "table.use2"]);
    turned.f32()[7]! += 1;
    const apart = await importModel(fileOf({ table, val_9: turned }, write), mse);
    expect(apart.parameters).toEqual(["table", "val_9"]);
  });

  test("what patterns say, less what is frozen", async () => {
    const write = (b: GraphBuilder, x: string) => b.op("MatMul", [b.op("MatMul", [x, "a.w"]), "b.w"]);
    const bytes = fileOf({ "a.w": chance.f32([4, 4]), "b.w": chance.f32([4, 4]) }, write);
    const some = await importModel(bytes, { ...mse, frozen: ["a.*"] });
    expect([some.parameters, some.frozen]).toEqual([["b.w"], ["a.w"]]);
    const named = await importModel(bytes, { ...mse, parameters: ["*a.w"] });
    expect([named.parameters, named.frozen]).toEqual([["a.w"], []]);
    expect(named.graph.initializers.has("b.w")).toBe(true);
    expect(await refusal(bytes, { ...mse, frozen: ["c.*"] })).toContain(
      'no float initializer of file is named "c.*"',
    );
  });

  test("initially what the file has, in f32", async () => {
    const half = new Tensor("f16", [2, 1], Uint8Array.of(0, 0x3c, 0, 0xc0));
    const bytes = fileOf({}, (b, x) => {
      b.constant("w", half);
      return b.op("MatMul", [
        b.op("Cast", [b.op("Slice", [x, b.ints([0]), b.ints([2]), b.ints([2])])], { to: 10 }),
        "w",
      ]);
    });
    const model = await importModel(bytes, mse);
    expect(await model.initial("w", 0)).toEqual(Tensor.f32([2, 1], [1, -2]));
    expect(model.graph.inputs.map(({ dtype }) => dtype)).toEqual(["f32", "f32", "f32"]);
    expect(() => model.initial("v", 0)).toThrow('holds no value named "v"');
  });

  test("one where one is used twice, tied", async () => {
    const write = (b: GraphBuilder, x: string) =>
      b.op("MatMul", [b.op("Relu", [b.op("MatMul", [x, "w"])]), "w"]);
    const model = await importModel(fileOf({ w: chance.f32([4, 4]) }, write), mse);
    expect(model.parameters).toEqual(["w", "w.use2"]);
    expect(model.ties).toEqual({ "w.use2": "w" });
    expect(await model.initial("w.use2", 0)).toBe(await model.initial("w", 0));
  });

  test("missing: then there is nothing to train", async () => {
    expect(
      await refusal(
        fileOf({}, (b, x) => b.op("Relu", [x])),
        mse,
      ),
    ).toContain("no parameters on the way to its loss");
  });
});

describe("losses", () => {
  const linear = (b: GraphBuilder, x: string) => b.op("MatMul", [x, "w"]);
  const weight = { w: chance.f32([4, 5]) };
  const values = (graph: Graph): Record<string, Tensor> => {
    const made = new Chance(9);
    return Object.fromEntries(
      graph.inputs.map(({ name, dtype, shape }) => [
        name,
        dtype === "i64" ? made.i64(shape, 0, 4) : made.f32(shape, 0.1, 0.9),
      ]),
    );
  };
  const mean = (numbers: ArrayLike<number>) =>
    Array.from(numbers).reduce((a, b) => a + b, 0) / numbers.length;
  const formulas: Record<string, (p: number, t: number) => number> = {
    mse: (p, t) => (p - t) ** 2,
    l1: (p, t) => Math.abs(p - t),
    bce: (p, t) => -(t * Math.log(p) + (1 - t) * Math.log(1 - p)),
    "bce-logits": (p, t) => Math.log1p(Math.exp(p)) - p * t,
  };
  test.each(Object.entries(formulas))("%s is the mean over all values", async (loss, formula) => {
    const write = (b: GraphBuilder, x: string) =>
      loss === "bce" ? b.op("Sigmoid", [linear(b, x)]) : linear(b, x);
    const model = await importModel(fileOf(weight, write), { loss });
    const given = values(model.graph);
    const result = await runGraph(engine, model.graph, given);
    const inference = inferenceGraph(model);
    const predicted = Object.values(await runGraph(engine, inference, given))[0]!.f32();
    const targets = given.targets!.f32();
    const expected = mean(predicted.map((p, i) => formula(p, targets[i]!)));
    expect(result[model.graph.outputs[0]!.name]!.f32()[0]).toBeCloseTo(expected, 5);
  });

  test("cross-entropy takes every position of sequences", async () => {
    const model = await importModel(fileOf(weight, linear), { loss: "cross-entropy" });
    expect(model.graph.inputs.find(({ name }) => name === "targets")).toEqual({
      name: "targets",
      dtype: "i64",
      shape: [6],
    });
    expect(model.graph.outputs[0]).toMatchObject({ dtype: "f32", shape: [] });
  });

  test("of the file itself", async () => {
    const write = (b: GraphBuilder, x: string) => {
      const y = linear(b, x);
      return [y, b.op("ReduceMean", [b.op("Mul", [y, y])], { keepdims: 0 }, "objective")];
    };
    const bytes = fileOf(weight, write);
    for (const options of [{}, { loss: "objective" }]) {
      const model = await importModel(bytes, options);
      expect(model.graph.outputs.map(({ name }) => name)).toEqual(["objective"]);
      expect(model.prediction).toBeNull();
    }
  });

  test.each([
    [{}, "has 0 outputs that could be a loss; name one, or attach cross-entropy"],
    [{ loss: "hinge" }, 'has no output "hinge": there are MatMul.0, and the losses cross-entropy'],
    [{ loss: "mse", prediction: "y" }, 'has no output "y"'],
    [{ loss: "MatMul.0" }, 'output "MatMul.0" is f32[2,3,5]: a loss is an f32 scalar'],
  ] as [ImportOptions, string][])("%j is refused by name", async (options, message) => {
    expect(await refusal(fileOf(weight, linear), options)).toContain(message);
  });

  test("of integers, or beside a value named targets, are refused", async () => {
    const cast = (b: GraphBuilder, x: string) => b.op("Cast", [linear(b, x)], { to: 7 });
    expect(await refusal(fileOf(weight, cast), mse)).toContain("is i64[2,3,5]: a loss is made of f32 values");
    const named = (b: GraphBuilder, x: string) => b.op("Tanh", [b.op("Tanh", [linear(b, x)], {}, "targets")]);
    expect(await refusal(fileOf(weight, named), mse)).toContain('has a value named "targets"');
  });
});

describe("sizes", () => {
  const file = (dims: readonly object[]): Uint8Array => {
    const tensor_type = { elem_type: 1, shape: { dim: dims } };
    const graph = {
      name: "sized",
      input: [{ name: "x", type: { tensor_type } }],
      output: [{ name: "y" }],
      initializer: [{ name: "fc.w", dims: [4], data_type: 1, float_data: [1, 2, 3, 4] }],
      node: [{ op_type: "Mul", input: ["x", "fc.w"], output: ["y"] }],
    };
    return ModelProto.encode(ModelProto.fromObject({ graph, opset_import: [{ version: 20 }] })).finish();
  };
  const shape = async (dims: readonly object[], options: ImportOptions) =>
    (await importModel(file(dims), { ...mse, ...options })).graph.inputs[0]!.shape;

  test("of the first dimension are rows, of others given by name", async () => {
    const dims = [{ dim_param: "batch" }, { dim_param: "time" }, { dim_value: 4 }];
    expect(await shape(dims, { rows: 8, dimensions: { time: 3 } })).toEqual([8, 3, 4]);
    expect(await shape(dims, { rows: 8, dimensions: { time: 3, batch: 2 } })).toEqual([2, 3, 4]);
    expect(await shape([{}, { dim_value: 4 }], {})).toEqual([1, 4]);
  });

  test("that are not given are refused with their name", async () => {
    const dims = [{ dim_param: "batch" }, { dim_param: "time" }, { dim_value: 4 }];
    expect(await refusal(file(dims), mse)).toContain(
      '"x" has the symbolic dimension "time" at axis 1; give its size',
    );
    expect(await refusal(file(dims), { ...mse, dimensions: { time: 0 } })).toContain("0 is no size");
  });
});

describe("a file written for inference", () => {
  const vector = () => chance.f32([3], 0.5, 1.5);
  const norm = (b: GraphBuilder, x: string) =>
    b.op("BatchNormalization", [x, "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"], {
      epsilon: float(1e-5),
    });
  const tensors = {
    ...{
      "bn.weight": vector(),
      "bn.bias": vector(),
      "bn.running_mean": vector(),
      "bn.running_var": vector(),
    },
  };
  const bytes = fileOf(tensors, (b, x) => b.op("Dropout", [norm(b, x), b.scalar(0.25)], {}, "y"));
  const operators = (graph: Graph) => graph.nodes.map(({ op }) => op);

  test("trains: by the batch's statistics, which move the running ones, and with dropout", async () => {
    const model = await importModel(bytes, mse);
    expect(model.parameters).toEqual(["bn.weight", "bn.bias"]);
    const after = Object.values(model.statistics);
    expect(Object.keys(model.statistics)).toEqual(["bn.running_mean", "bn.running_var"]);
    expect(model.graph.outputs.slice(1).map(({ name }) => name)).toEqual(after);
    expect(await model.initial("bn.running_var", 0)).toEqual(tensors["bn.running_var"]);
    expect(operators(model.graph).slice(0, 2)).toEqual(["BatchNormalization", "Dropout"]);
    expect(model.graph.nodes[0]!.attributes.training_mode).toBe(1);
    expect(model.graph.initializers.get(model.graph.nodes[1]!.inputs[2]!)!.bytes[0]).toBe(1);
    expect(operators(inferenceGraph(model))).toEqual(["BatchNormalization"]);
  });

  test("or stays as it is", async () => {
    const model = await importModel(bytes, { ...mse, training: false });
    expect([model.statistics, operators(model.graph)[0]]).toEqual([{}, "BatchNormalization"]);
    expect(operators(model.graph)).not.toContain("Dropout");
    expect(model.graph.initializers.has("bn.running_mean")).toBe(true);
  });

  test("by PyTorch has running variances of the sample", async () => {
    const { ...proto } = ModelProto.toObject(ModelProto.decode(bytes));
    const pytorch = ModelProto.encode(ModelProto.fromObject({ ...proto, producer_name: "pytorch" })).finish();
    const x = { x: chance.f32([2, 3, 4]), targets: chance.f32([2, 3, 4]) };
    const variance = async (file: Uint8Array) => {
      const model = await importModel(file, mse);
      const graph = { ...model.graph, nodes: model.graph.nodes.filter(({ op }) => op !== "Dropout") };
      const name = model.statistics["bn.running_var"]!;
      const outputs = graph.outputs.filter((output) => output.name === name);
      const needed = removeDead({ ...graph, outputs });
      return (await runGraph(engine, needed, { ...x, ...tensors }))[name]!.f32();
    };
    const [population, sample] = [await variance(bytes), await variance(pytorch)];
    const before = tensors["bn.running_var"].f32();
    // Of 8 values each: the new part, a tenth, is 8 / 7 times as much.
    for (const [i, value] of sample.entries()) {
      const fresh = (population[i]! - 0.9 * before[i]!) / 0.1;
      expect(value).toBeCloseTo(0.9 * before[i]! + (0.1 * fresh * 8) / 7, 5);
    }
  });
});

describe("an exported model", () => {
  test("has the file's own inputs and outputs, and new values", async () => {
    const bytes = fileOf({ w: chance.f32([4, 4]), "fc.b": chance.f32([4]) }, (b, x) => {
      const y = b.op("Add", [b.op("MatMul", [b.op("MatMul", [x, "w"]), "w"]), "fc.b"], {}, "y");
      return [y, b.op("Relu", [y], {}, "z")];
    });
    const model = await importModel(bytes, mse);
    const trained = new Map([["w", chance.f32([4, 4])]]);
    const back = decodeModel(await exportModel(model, trained));
    expect([back.inputs.map(({ name }) => name), back.outputs.map(({ name }) => name)]).toEqual([
      ["x"],
      ["y", "z"],
    ]);
    expect(back.initializers.get("w")).toEqual(trained.get("w")!);
    const original = decodeModel(bytes);
    const changed = { ...original, initializers: new Map([...original.initializers, ...trained]) };
    const x = { x: chance.f32([2, 3, 4]) };
    const [a, b] = [await runGraph(engine, back, x), await runGraph(engine, changed, x)];
    for (const name of ["y", "z"]) {
      for (const [i, value] of a[name]!.f32().entries()) expect(value).toBeCloseTo(b[name]!.f32()[i]!, 4);
    }
  });
});
