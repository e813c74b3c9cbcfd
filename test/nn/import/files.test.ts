/** What a file may be made of, and what is wrong with one: data beside it, functions of its own, broken bytes. */

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { exportExternalModel, exportModel } from "../../../nn/import/export.ts";
import { importModel } from "../../../nn/import/import.ts";
import { decodeModel, loadFile } from "../../../nn/onnx/proto.ts";
import { ModelProto } from "../../../nn/onnx/schema.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import fixture from "../../fixtures/models/losses.json";
import { Chance } from "../engine/operator-cases.ts";
import { fileOf, mse, refusal } from "./support.ts";
import { parameterData } from "./values.ts";

const FOLDER = join(import.meta.dir, "../../fixtures/models");
const fileNamed = (name: string) => new Uint8Array(readFileSync(join(FOLDER, `${name}.onnx`)));

const chance = new Chance(5);

describe("external data", () => {
  const file = (location: string, fields: Readonly<Record<string, string>> = {}): Uint8Array => {
    const entries = Object.entries({ location, ...fields });
    const external_data = entries.map(([key, value]) => ({ key, value }));
    const initializer = [{ name: "w", dims: [4], data_type: 1, data_location: 1, external_data }];
    const graph = { name: "g", initializer };
    return ModelProto.encode(ModelProto.fromObject({ graph, opset_import: [{ version: 20 }] })).finish();
  };
  const data = Uint8Array.from({ length: 40 }, (_, i) => i);
  const read = (_: string, offset: number, length: number) => data.slice(offset, offset + length);

  test("is read from where the file says, aligned or not", async () => {
    const { graph } = await loadFile(file("weights.bin", { offset: "3", length: "16" }), { external: read });
    expect(graph.initializers.get("w")).toEqual(new Tensor("f32", [4], data.slice(3, 19)));
    const view = (_: string, offset: number, length: number) => data.subarray(offset, offset + length);
    const viewed = await loadFile(file("weights.bin", { offset: "3" }), {
      external: async (...at) => view(...at),
    });
    expect(viewed.graph.initializers.get("w")!.f32()).toHaveLength(4);
  });

  const missing = () => {
    throw new Error("no such file");
  };
  test.each([
    [
      "outside the folder",
      file("../secrets.bin"),
      { external: read },
      '"../secrets.bin" is outside the model',
    ],
    ["outside, further in", file("a/../../b"), { external: read }, "is outside the model's folder"],
    ["at an absolute path", file("/etc/passwd"), { external: read }, '"/etc/passwd" is outside the model'],
    ["on another drive", file("C:\\weights"), { external: read }, "is outside the model's folder"],
    ["without a place", file(""), { external: read }, "external data without a location"],
    [
      "missing",
      file("w.bin"),
      { external: missing },
      'cannot read "w.bin" (no such file); put it beside the .onnx file',
    ],
    [
      "too short",
      file("w.bin", { offset: "30" }),
      { external: read },
      '"w.bin" has 10 of 16 bytes at 30; it is truncated',
    ],
    [
      "of another length",
      file("w.bin", { length: "12" }),
      { external: read },
      "12 bytes of external data for f32[4] (16)",
    ],
    [
      "at no number",
      file("w.bin", { offset: "-1" }),
      { external: read },
      'the offset "-1", which is no number',
    ],
    ["nobody can read", file("w.bin"), {}, 'external data in "w.bin", and no way to read files was given'],
  ] as const)("%s is refused by name", async (_, bytes, options, message) => {
    expect(await refusal(bytes, options)).toContain(`tensor "w": `);
    expect(await refusal(bytes, options)).toContain(message);
  });

  test("is written beside the model and read again", async () => {
    const model = await importModel(fileNamed("mlp"), {
      ...{ rows: 16, loss: "cross-entropy" },
      external: (location) => parameterData(location, fixture.mlp.parameters),
    });
    const noted = { ...model, metadata: { trained: "here" } };
    const { model: bytes, data: chunks } = await exportExternalModel(noted, new Map(), "mlp.data");
    const whole = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const chunk of chunks) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    const external = (location: string, offset: number, length: number) => {
      expect(location).toBe("mlp.data");
      expect(offset % 64).toBe(0);
      return whole.slice(offset, offset + length);
    };
    const { graph, metadata } = await loadFile(bytes, { external });
    expect(metadata).toEqual({ trained: "here" });
    const { initializers, nodes, inputs } = decodeModel(await exportModel(model, new Map()));
    expect(graph).toMatchObject({ initializers, nodes, inputs });
  });
});

describe("a function of the file", () => {
  const named = (name: string, node: readonly object[], more: object = {}) => ({
    ...{
      name,
      domain: "local",
      input: ["a"],
      output: ["b"],
      node,
      opset_import: [{ domain: "", version: 20 }],
    },
    ...more,
  });
  const file = (functions: readonly object[]): Uint8Array => {
    const tensor_type = { elem_type: 1, shape: { dim: [{ dim_value: 2 }, { dim_value: 4 }] } };
    const use = (input: string, output: string, alpha?: number) => ({
      ...{ op_type: "Twice", domain: "local", input: [input], output: [output] },
      attribute: alpha === undefined ? [] : [{ name: "slope", type: 1, f: alpha }],
    });
    const graph = {
      name: "g",
      input: [{ name: "x", type: { tensor_type } }],
      output: [{ name: "y" }],
      initializer: [{ name: "fc.w", dims: [4], data_type: 1, float_data: [1, 2, 3, 4] }],
      node: [{ op_type: "Mul", input: ["x", "fc.w"], output: ["m"] }, use("m", "n", 0.25), use("n", "y")],
    };
    const opset_import = [{ version: 20 }, { domain: "local", version: 1 }];
    return ModelProto.encode(ModelProto.fromObject({ graph, functions, opset_import })).finish();
  };
  const slope = { name: "alpha", type: 1, ref_attr_name: "slope" };
  const leaky = (input: string, output: string) => ({
    op_type: "LeakyRelu",
    input: [input],
    output: [output],
    attribute: [slope],
  });

  test("is written out, with the attributes of its use or its own", async () => {
    const inner = { op_type: "Inner", domain: "local", input: ["c"], output: ["b"], attribute: [] };
    const twice = named("Twice", [leaky("a", "c"), inner], {
      attribute_proto: [{ name: "slope", type: 1, f: 0.5 }],
    });
    const { graph } = await loadFile(
      file([twice, named("Inner", [{ op_type: "Neg", input: ["a"], output: ["b"] }])]),
    );
    expect(graph.nodes.map(({ op }) => op)).toEqual(["Mul", "LeakyRelu", "Neg", "LeakyRelu", "Neg"]);
    expect(graph.nodes.map(({ attributes }) => attributes.alpha)).toEqual([
      ...[undefined, { float: 0.25 }, undefined, { float: 0.5 }, undefined],
    ]);
    expect(new Set(graph.nodes.flatMap(({ outputs }) => outputs)).size).toBe(5);
    expect(graph.nodes.at(-1)!.outputs).toEqual(["y"]);
  });

  test("that uses itself is refused", async () => {
    const cyclic = named("Twice", [{ op_type: "Twice", domain: "local", input: ["a"], output: ["b"] }]);
    expect(await refusal(file([cyclic]), mse)).toContain('function "Twice" is nested deeper than');
  });

  test("of another domain that the file does not hold is refused", async () => {
    expect(await refusal(file([]), mse)).toContain('operator "Twice" of the domain "local"');
  });
});

test("names from a file are kept on the message's one line", async () => {
  const bytes = fileOf({ w: chance.f32([4]) }, (b, x) => b.op("Mul", [x, "w"], {}, "y"));
  const broken = bytes.map((byte) => (byte === "x".charCodeAt(0) ? 10 : byte));
  const named = fileOf({}, (b, x) => b.op("Relu", [x], {}, "two\nlines"));
  expect(await refusal(named, mse)).not.toBe("");
  await refusal(broken, mse);
  expect(await refusal(named, { loss: "none" })).toContain("two\\nlines");
});

describe("broken files are refused with one line, or are a model:", () => {
  test.each(["mlp", "gpt2"] as const)("%s", async (name) => {
    const bytes = fileNamed(name);
    const { parameters, loss, inputs } = fixture[name];
    const rows = (Object.values(inputs)[0]![1] as number[])[0]!;
    const external = (location: string) => parameterData(location, parameters);
    const noise = new Chance(11);
    let refused = 0;
    for (let i = 0; i < (name === "mlp" ? 400 : 40); i++) {
      const broken = bytes.slice(0, noise.unit() < 0.1 ? noise.int(0, bytes.length) : bytes.length);
      for (let change = noise.int(1, 4); change > 0; change--) {
        broken[noise.int(0, broken.length - 1)] = noise.int(0, 255);
      }
      if ((await refusal(broken, { rows, loss, external })) !== "") refused++;
    }
    expect(refused).toBeGreaterThan(name === "mlp" ? 100 : 10);
  });
});
