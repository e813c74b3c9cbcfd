import { describe, expect, test } from "bun:test";
import { gptGraph, gptParameters } from "../../../nn/models/gpt.ts";
import { float, type Graph, GraphError, type Node } from "../../../nn/onnx/graph.ts";
import { decodeModel, encodeModel } from "../../../nn/onnx/proto.ts";
import { ModelProto } from "../../../nn/onnx/schema.ts";
import { adamwGraph, DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import { trainingGraphs } from "../../../nn/training.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";

const config = { layers: 1, width: 8, heads: 2, context: 4, vocabulary: 8 };
const gpt = gptGraph(config, 2, 4, "loss");

const empty: Graph = { name: "g", inputs: [], outputs: [], initializers: new Map(), nodes: [] };
const nodeWith = (attributes: Node["attributes"]): Graph => ({
  ...empty,
  nodes: [{ op: "Any", domain: "", inputs: ["", "x"], outputs: ["y"], attributes }],
});

/** A model file of which the graph is given as protobuf fields. */
const file = (graph: object, opset = 20): Uint8Array =>
  ModelProto.encode(ModelProto.fromObject({ graph, opset_import: [{ version: opset }] })).finish();

const refusal = (bytes: Uint8Array): string => {
  try {
    decodeModel(bytes);
  } catch (error) {
    expect(error).toBeInstanceOf(GraphError);
    expect((error as Error).message).not.toMatch(/\n/);
    return (error as Error).message;
  }
  return "";
};

describe("a written graph is read back as it was:", () => {
  const parameters = gptParameters(config);
  const names = new Set(parameters.map(({ name }) => name));
  const stage = { input: null, output: null, microBatches: 2, recompute: false };
  const training = trainingGraphs(gpt, (name) => names.has(name), stage);

  test.each([
    ["GPT", gpt],
    ["its gradient", training.joint!],
    ["its optimiser", adamwGraph(parameters, parameters.length, { ...DEFAULT_ADAMW, steps: 10 })],
    [
      "attributes of every kind",
      nodeWith({
        i: -3,
        f: float(0.1),
        one: float(1),
        s: "é",
        list: [1, -2],
        t: Tensor.i64([1], [5]),
        floats: { floats: [0.5, -2] },
        strings: { strings: ["é", ""] },
      }),
    ],
    ["an empty graph", empty],
  ])("%s", (_, graph) => {
    expect(decodeModel(encodeModel(graph))).toEqual(graph);
  });

  test("tensors of every dtype", () => {
    const tensors = (["f32", "f16", "bf16", "f64", "i64", "i32", "u8", "i8", "bool"] as const).map(
      (dtype) => {
        const tensor = Tensor.zeros(dtype, [2, 1]);
        tensor.bytes.forEach((_, i, bytes) => {
          bytes[i] = 200 - i;
        });
        return [dtype, tensor] as const;
      },
    );
    const scalar = ["scalar", Tensor.f32([], [3])] as const;
    const none = ["none", Tensor.zeros("f32", [0, 3])] as const;
    const graph = { ...empty, initializers: new Map<string, Tensor>([...tensors, scalar, none]) };
    expect(decodeModel(encodeModel(graph))).toEqual(graph);
  });
});

test("what is read holds on to none of the file's bytes", () => {
  const bytes = encodeModel(gpt);
  const graph = decodeModel(bytes);
  bytes.fill(0);
  expect(graph).toEqual(gpt);
});

test("metadata is written", () => {
  const { metadata_props: props } = ModelProto.toObject(ModelProto.decode(encodeModel(gpt, { layers: "1" })));
  expect(props).toEqual([{ key: "layers", value: "1" }]);
});

test("a float that is not marked is refused", () => {
  expect(() => encodeModel(nodeWith({ alpha: 0.5 }))).toThrow("attribute alpha: mark the float 0.5");
});

test("more than a file may hold is refused, before it is written", () => {
  const huge = { dtype: "u8", shape: [2 ** 31], bytes: { byteLength: 2 ** 31 } } as unknown as Tensor;
  expect(() => encodeModel({ ...empty, initializers: new Map([["w", huge]]) })).toThrow("use external data");
});

describe("files of other producers:", () => {
  test("typed fields, each 64-bit integer exactly", () => {
    const initializer = [
      { name: "f32", dims: [2], data_type: 1, float_data: [1.5, -2] },
      { name: "i64", dims: [2], data_type: 7, int64_data: ["9223372036854775807", "-1"] },
      { name: "i32", dims: [1], data_type: 6, int32_data: [-7] },
      { name: "f64", dims: [], data_type: 11, double_data: [0.1] },
      { name: "u8", dims: [1], data_type: 2, int32_data: [255] },
      { name: "i8", dims: [1], data_type: 3, int32_data: [-2] },
      { name: "bool", dims: [2], data_type: 9, int32_data: [1, 0] },
      { name: "f16", dims: [1], data_type: 10, int32_data: [0x3c00] },
      { name: "u16", dims: [2], data_type: 4, raw_data: Uint8Array.of(255, 255, 1, 0) },
      { name: "i16", dims: [1], data_type: 5, int32_data: [-2] },
      { name: "u32", dims: [1], data_type: 12, uint64_data: ["4294967295"] },
      { name: "u64", dims: [1], data_type: 13, uint64_data: ["9223372036854775807"] },
    ];
    const read = (name: string) => decodeModel(file({ initializer })).initializers.get(name)!;
    expect([...read("f32").f32()]).toEqual([1.5, -2]);
    expect([...read("i64").i64()]).toEqual([2n ** 63n - 1n, -1n]);
    expect([...read("f64").f64()]).toEqual([0.1]);
    expect(read("i32").bytes).toEqual(Uint8Array.of(0xf9, 0xff, 0xff, 0xff));
    expect(read("u16")).toEqual(new Tensor("i32", [2], Uint8Array.of(255, 255, 0, 0, 1, 0, 0, 0)));
    expect(read("i16")).toEqual(new Tensor("i32", [1], Uint8Array.of(254, 255, 255, 255)));
    expect([...read("u32").i64(), ...read("u64").i64()]).toEqual([2n ** 32n - 1n, 2n ** 63n - 1n]);
    expect(["u8", "i8", "bool", "f16"].map((name) => [...read(name).bytes])).toEqual([
      [255],
      [254],
      [1, 0],
      [0, 0x3c],
    ]);
  });

  test("initializers that are inputs as well are constants; ai.onnx is the standard domain", () => {
    const type = { tensor_type: { elem_type: 1, shape: { dim: [{ dim_value: 1 }] } } };
    const graph = decodeModel(
      file({
        input: [
          { name: "x", type },
          { name: "w", type },
        ],
        initializer: [{ name: "w", dims: [1], data_type: 1, float_data: [1] }],
        node: [{ op_type: "Add", domain: "ai.onnx", input: ["x", "w"], output: ["y"] }],
      }),
    );
    expect(graph.inputs.map(({ name }) => name)).toEqual(["x"]);
    expect(graph.nodes[0]!.domain).toBe("");
  });

  const tensor = (fields: object) =>
    file({ initializer: [{ name: "w", dims: [2], data_type: 1, ...fields }] });
  const attribute = (fields: object) =>
    file({ node: [{ op_type: "If", attribute: [{ name: "a", ...fields }] }] });
  const input = (tensor_type: object) => file({ input: [{ name: "x", type: { tensor_type } }] });
  test.each([
    ["external data", tensor({ data_location: 1 }), 'tensor "w": external data'],
    ["missing data", tensor({ float_data: [1] }), 'tensor "w": 4 bytes for f32[2] (8)'],
    ["strings", tensor({ data_type: 8 }), 'tensor "w": ONNX data type 8 (string) is not supported'],
    ["a negative size", tensor({ dims: [-2, -1] }), 'tensor "w": [-2,-1] is no shape'],
    ["a subgraph", attribute({ type: 5 }), '("If"): attribute "a" holds a subgraph: control flow'],
    ["a sparse tensor", attribute({ type: 11 }), '("If"): attribute "a" holds a sparse tensor'],
    [
      "a kind of attribute that nobody knows",
      attribute({ type: 99 }),
      'attribute "a" has unsupported type 99',
    ],
    ["sparse initializers", file({ sparse_initializer: [Uint8Array.of(1)] }), "has sparse initializers"],
    ["an attribute without its tensor", attribute({ type: 4 }), 'attribute "a" holds no tensor'],
    ["a symbolic size", input({ elem_type: 1, shape: { dim: [{ dim_param: "N\n" }] } }), 'dimension "N\\n"'],
    ["an input without shape", input({ elem_type: 1 }), 'value "x" has no tensor type with a shape'],
    [
      "operators of before axes were inputs",
      file({}, 12),
      "version 12; known are 13 to 23: export the model again",
    ],
    ["operators of the future", file({}, 24), "version 24; known are 13 to 23: export the model again"],
    ["a foreign domain that is not imported", file({ node: [{ op_type: "A", domain: "b" }] }), 'domain "b"'],
  ])("%s is refused by name", (_, bytes, message) => {
    expect(refusal(bytes)).toContain(message);
  });
});

describe("broken files", () => {
  const bytes = encodeModel(gpt);

  test("cut short anywhere are refused in one line", () => {
    for (
      let length = 0;
      length < bytes.length;
      length += length < 64 || length > bytes.length - 64 ? 1 : 29
    ) {
      expect(refusal(bytes.slice(0, length)), `${length} of ${bytes.length} bytes`).not.toBe("");
    }
  });

  test("with bytes changed are refused in one line, or are a graph", () => {
    const chance = new Chance(3);
    const outcomes = Array.from({ length: 300 }, () => {
      const broken = bytes.slice();
      for (let i = 0; i < 3; i++) broken[chance.int(0, bytes.length - 1)] = chance.int(0, 255);
      return refusal(broken);
    });
    expect(outcomes.filter((message) => message !== "").length).toBeGreaterThan(50);
  });

  test("of text are refused", () => {
    expect(refusal(new TextEncoder().encode("The quick brown fox jumps over the lazy dog"))).toContain(
      "not an ONNX file",
    );
  });
});
