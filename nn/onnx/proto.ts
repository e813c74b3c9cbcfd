/**
 * Graphs as real `.onnx` files and back: the ONNX ModelProto through protobufjs.
 *
 * Written tensors use `raw_data`; read tensors may use raw_data or the typed fields. Attributes keep the
 * difference between 1 and 1.0 (see `float` in graph.ts).
 */

import { byteLength, type DType, Tensor } from "../../protocols/tensor.ts";
import { DATA_TYPE, dtypeOf } from "./datatype.ts";
import {
  type Attribute,
  type Graph,
  GraphError,
  MICROSOFT,
  type Node,
  OPSET,
  type ValueInfo,
} from "./graph.ts";
import { ModelProto } from "./schema.ts";

const IR_VERSION = 9;
/** Since then axes and sizes are inputs of all operators that have them, as shape inference expects. */
const OLDEST_OPSET = 13;
/** Both names of the standard domain. */
const STANDARD = ["", "ai.onnx"];
const [FLOAT, INT, STRING, TENSOR, FLOATS, INTS] = [1, 2, 3, 4, 6, 7];

/** The graph as the bytes of an `.onnx` file. */
export function encodeModel(graph: Graph, metadata: Readonly<Record<string, string>> = {}): Uint8Array {
  const bytes = ModelProto.encode(
    ModelProto.fromObject({
      ir_version: IR_VERSION,
      producer_name: "troupe",
      opset_import: [
        { domain: "", version: OPSET },
        { domain: MICROSOFT, version: 1 },
      ],
      metadata_props: Object.entries(metadata).map(([key, value]) => ({ key, value })),
      graph: {
        name: graph.name,
        node: graph.nodes.map((node, index) => ({
          name: `${node.op}_${index}`,
          op_type: node.op,
          domain: node.domain,
          input: node.inputs,
          output: node.outputs,
          attribute: Object.entries(node.attributes).map(([name, value]) => encodeAttribute(name, value)),
        })),
        initializer: [...graph.initializers].map(([name, tensor]) => encodeTensor(name, tensor)),
        input: graph.inputs.map(encodeValueInfo),
        output: graph.outputs.map(encodeValueInfo),
      },
    }),
  ).finish();
  // Under Bun and Node protobufjs returns a Buffer, whose slice() is no copy; a plain array has no such surprise.
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Reads the bytes of an `.onnx` file.
 * @throws GraphError when the bytes are not an ONNX model, or use what is not supported (old operators, external
 * data, symbolic dimensions), naming it.
 */
export function decodeModel(bytes: Uint8Array): Graph {
  let model: any;
  try {
    // 64-bit integers as strings: the data of a tensor may need all of their bits.
    model = ModelProto.toObject(ModelProto.decode(bytes), { longs: String, arrays: true, defaults: true });
  } catch (cause) {
    throw new GraphError("not an ONNX file, or a truncated one", { cause });
  }
  const graph = model.graph;
  if (!graph) throw new GraphError("not an ONNX file: it holds no graph");
  const opset = model.opset_import.find(({ domain }: any) => STANDARD.includes(domain));
  if (!opset)
    throw new GraphError("a truncated ONNX file: it does not say which version of the operators it uses");
  if (Number(opset.version) < OLDEST_OPSET) {
    throw new GraphError(`ONNX operators of version ${opset.version}; known are ${OLDEST_OPSET} and later`);
  }
  const imported = new Set(model.opset_import.map(({ domain }: any) => domain));
  const foreign = graph.node.find(({ domain }: any) => !STANDARD.includes(domain) && !imported.has(domain));
  if (foreign) {
    const domain = JSON.stringify(foreign.domain);
    throw new GraphError(
      `a truncated ONNX file: ${nodeText(foreign)} is of the domain ${domain}, not imported`,
    );
  }
  const initializers = new Map<string, Tensor>(
    graph.initializer.map((tensor: any) => [tensor.name, decodeTensor(tensor)]),
  );
  return {
    name: graph.name,
    initializers,
    inputs: graph.input.filter((input: any) => !initializers.has(input.name)).map(decodeValueInfo),
    outputs: graph.output.map(decodeValueInfo),
    nodes: graph.node.map(
      (node: any): Node => ({
        op: node.op_type,
        domain: STANDARD.includes(node.domain) ? "" : node.domain,
        inputs: node.input,
        outputs: node.output,
        attributes: Object.fromEntries(node.attribute.map((a: any) => [a.name, decodeAttribute(node, a)])),
      }),
    ),
  };
}

function encodeAttribute(name: string, value: Attribute): object {
  if (typeof value === "number") {
    if (!Number.isInteger(value))
      throw new GraphError(`attribute ${name}: mark the float ${value} as float(…)`);
    return { name, type: INT, i: value };
  }
  if (typeof value === "string") return { name, type: STRING, s: new TextEncoder().encode(value) };
  if (value instanceof Tensor) return { name, type: TENSOR, t: encodeTensor("", value) };
  if ("float" in value) return { name, type: FLOAT, f: value.float };
  return { name, type: INTS, ints: value };
}

/** Names come from the file and may hold anything; quoted, they keep a message on one line. */
const nodeText = (node: any): string => `node ${JSON.stringify(node.name)} (${JSON.stringify(node.op_type)})`;

function decodeAttribute(node: any, a: any): Attribute {
  switch (a.type) {
    case FLOAT:
      return { float: a.f };
    case INT:
      return Number(a.i);
    case STRING:
      return new TextDecoder().decode(a.s);
    case TENSOR:
      if (a.t) return decodeTensor(a.t);
      throw new GraphError(`${nodeText(node)}: attribute ${JSON.stringify(a.name)} holds no tensor`);
    case INTS:
      return a.ints.map(Number);
    case FLOATS:
      throw new GraphError(
        `${nodeText(node)}: attribute ${JSON.stringify(a.name)} is a list of floats, not supported`,
      );
    default:
      throw new GraphError(
        `${nodeText(node)}: attribute ${JSON.stringify(a.name)} has unsupported type ${a.type}`,
      );
  }
}

function encodeTensor(name: string, tensor: Tensor): object {
  return { name, dims: tensor.shape, data_type: DATA_TYPE[tensor.dtype], raw_data: tensor.bytes };
}

function decodeTensor(proto: any): Tensor {
  const where = `tensor ${JSON.stringify(proto.name)}`;
  const dtype = dtypeNumbered(proto.data_type, where);
  const shape = checkedShape(proto.dims, where);
  if (proto.data_location === 1) throw new GraphError(`${where}: external data is not supported`);
  const expected = byteLength(dtype, shape);
  // A copy: protobuf hands out views into the file at any alignment.
  let bytes = Uint8Array.from(proto.raw_data as Uint8Array);
  if (bytes.byteLength === 0 && expected > 0) bytes = typedFields(proto, dtype);
  if (bytes.byteLength !== expected) {
    throw new GraphError(`${where}: ${bytes.byteLength} bytes for ${dtype}[${shape}] (${expected})`);
  }
  return new Tensor(dtype, shape, bytes);
}

function typedFields(proto: any, dtype: DType): Uint8Array<ArrayBuffer> {
  const of = (array: ArrayBufferView<ArrayBuffer>) =>
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  switch (dtype) {
    case "f32":
      return of(Float32Array.from(proto.float_data));
    case "f64":
      return of(Float64Array.from(proto.double_data));
    case "i64":
      return of(BigInt64Array.from(proto.int64_data, (value: string) => BigInt(value)));
    case "i32":
      return of(Int32Array.from(proto.int32_data));
    case "f16":
    case "bf16":
      return of(Uint16Array.from(proto.int32_data));
    default:
      return Uint8Array.from(proto.int32_data);
  }
}

function encodeValueInfo(value: ValueInfo): object {
  return {
    name: value.name,
    type: {
      tensor_type: {
        elem_type: DATA_TYPE[value.dtype],
        shape: { dim: value.shape.map((dim) => ({ dim_value: dim })) },
      },
    },
  };
}

function decodeValueInfo(proto: any): ValueInfo {
  const where = `value ${JSON.stringify(proto.name)}`;
  const tensor = proto.type?.tensor_type;
  if (!tensor?.shape) throw new GraphError(`${where} has no tensor type with a shape`);
  const dims = tensor.shape.dim.map((dim: any) => {
    if (dim.dim_value !== undefined) return dim.dim_value;
    throw new GraphError(`${where} has the symbolic dimension ${JSON.stringify(dim.dim_param ?? "")}`);
  });
  return {
    name: proto.name,
    dtype: dtypeNumbered(tensor.elem_type, where),
    shape: checkedShape(dims, where),
  };
}

function checkedShape(dims: readonly string[], where: string): number[] {
  const shape = dims.map(Number);
  if (shape.every((dim) => dim >= 0 && Number.isSafeInteger(dim))) return shape;
  throw new GraphError(`${where}: [${dims}] is no shape`);
}

function dtypeNumbered(id: number, where: string): DType {
  const dtype = dtypeOf(id);
  if (!dtype) throw new GraphError(`${where}: ONNX data type ${id} is not supported`);
  return dtype;
}
