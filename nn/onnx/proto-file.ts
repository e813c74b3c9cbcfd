/**
 * What stands in an `.onnx` file, as plain data: the protobuf fields checked and named, and nothing decided yet.
 * Sizes may still be symbols, data may still lie in other files, operators are of whatever version the file says.
 *
 * A file is foreign: whatever its bytes are, reading it either succeeds or throws a GraphError.
 */

import { byteLength, type DType, type Shape, Tensor } from "../../protocols/tensor.ts";
import { dtypeOf } from "./datatype.ts";
import { type ExternalTensor, externalTensor } from "./external.ts";
import { type Attribute, GraphError, type Node } from "./graph.ts";
import { inlineFunctions } from "./proto-functions.ts";
import { ModelProto } from "./schema.ts";

/** A value of which some sizes may be symbols, or not known at all (null). */
export interface SymbolicInfo {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly (number | string | null)[];
}

export interface OnnxFile {
  readonly name: string;
  /** Version of the standard operators. */
  readonly opset: number;
  readonly producer: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly inputs: readonly SymbolicInfo[];
  /** Names only: what an output is follows from the nodes. */
  readonly outputs: readonly string[];
  /** Their declared types, where they are complete. */
  readonly outputTypes: readonly (SymbolicInfo | undefined)[];
  readonly initializers: ReadonlyMap<string, Tensor | ExternalTensor>;
  /** In topological order. */
  readonly nodes: readonly Node[];
}

/** Both names of the standard domain. */
export const STANDARD: readonly string[] = ["", "ai.onnx"];

/** AttributeProto.AttributeType of the specification. */
export const ATTRIBUTE = { FLOAT: 1, INT: 2, STRING: 3, TENSOR: 4, FLOATS: 6, INTS: 7, STRINGS: 8 } as const;

const REFUSED: Readonly<Record<number, string>> = {
  5: "a subgraph: control flow cannot be trained, export the model without it (traced, with fixed branches)",
  9: "a list of tensors, not supported",
  10: "subgraphs: control flow cannot be trained, export the model without it (traced, with fixed branches)",
  11: "a sparse tensor: store it dense",
  12: "sparse tensors: store them dense",
  13: "a type, not supported: export the model with tensors only",
  14: "types, not supported: export the model with tensors only",
};

/** Integer types that the IR does not have, and the one that holds their values. */
const WIDER: Readonly<Record<number, "i32" | "i64">> = { 4: "i32", 5: "i32", 12: "i64", 13: "i64" };

const TYPE_NAMES: Readonly<Record<number, string>> = {
  4: "u16", 5: "i16", 8: "string", 12: "u32", 13: "u64", 14: "complex64", 15: "complex128",
  17: "float8", 18: "float8", 19: "float8", 20: "float8", 21: "u4", 22: "i4", 23: "float4",
}; // biome-ignore format: a table

/** Reads the fields of an `.onnx` file. @throws GraphError when it is not one, or holds what cannot be read. */
export function parseFile(bytes: Uint8Array): OnnxFile {
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
  if (graph.sparse_initializer.length > 0) {
    throw new GraphError(`graph ${JSON.stringify(graph.name)} has sparse initializers: store them dense`);
  }
  const protos = inlineFunctions(graph.node, model.functions);
  const imported = new Set(
    [model, ...model.functions].flatMap((proto: any) => proto.opset_import.map(({ domain }: any) => domain)),
  );
  const foreign = protos.find(({ domain }: any) => !STANDARD.includes(domain) && !imported.has(domain));
  if (foreign) {
    const domain = JSON.stringify(foreign.domain);
    throw new GraphError(
      `a truncated ONNX file: ${nodeText(foreign)} is of the domain ${domain}, not imported`,
    );
  }
  const initializers = new Map<string, Tensor | ExternalTensor>(
    graph.initializer.map((tensor: any) => [tensor.name, decodeTensor(tensor)]),
  );
  return {
    name: graph.name,
    opset: Number(opset.version),
    producer: model.producer_name,
    metadata: Object.fromEntries(model.metadata_props.map(({ key, value }: any) => [key, value])),
    initializers,
    inputs: graph.input.filter((input: any) => !initializers.has(input.name)).map(decodeValueInfo),
    outputs: graph.output.map((output: any) => output.name),
    outputTypes: graph.output.map(tryValueInfo),
    nodes: protos.map(
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

/** Names come from the file and may hold anything; quoted, they keep a message on one line. */
const nodeText = (node: any): string => `node ${JSON.stringify(node.name)} (${JSON.stringify(node.op_type)})`;

function decodeAttribute(node: any, a: any): Attribute {
  const where = `${nodeText(node)}: attribute ${JSON.stringify(a.name)}`;
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  switch (a.type) {
    case ATTRIBUTE.FLOAT:
      return { float: a.f };
    case ATTRIBUTE.INT:
      return Number(a.i);
    case ATTRIBUTE.STRING:
      return text(a.s);
    case ATTRIBUTE.TENSOR: {
      if (!a.t) throw new GraphError(`${where} holds no tensor`);
      const tensor = decodeTensor(a.t);
      if (tensor instanceof Tensor) return tensor;
      throw new GraphError(`${where} has external data, which initializers alone may have`);
    }
    case ATTRIBUTE.INTS:
      return a.ints.map(Number);
    case ATTRIBUTE.FLOATS:
      return { floats: a.floats };
    case ATTRIBUTE.STRINGS:
      return { strings: a.strings.map(text) };
    default:
      throw new GraphError(
        REFUSED[a.type] ? `${where} holds ${REFUSED[a.type]}` : `${where} has unsupported type ${a.type}`,
      );
  }
}

function decodeTensor(proto: any): Tensor | ExternalTensor {
  const where = `tensor ${JSON.stringify(proto.name)}`;
  const shape = checkedShape(proto.dims, where);
  const wider = WIDER[proto.data_type];
  const external = proto.data_location === 1;
  if (wider && !external) return widened(proto, shape, wider, where);
  const dtype = dtypeNumbered(proto.data_type, where);
  if (external) return externalTensor(proto.name, dtype, shape, proto.external_data);
  const expected = byteLength(dtype, shape);
  // A copy: protobuf hands out views into the file at any alignment.
  let bytes = Uint8Array.from(proto.raw_data as Uint8Array);
  if (bytes.byteLength === 0 && expected > 0) bytes = typedFields(proto, dtype);
  if (bytes.byteLength !== expected) {
    throw new GraphError(`${where}: ${bytes.byteLength} bytes for ${dtype}[${shape}] (${expected})`);
  }
  return new Tensor(dtype, shape, bytes);
}

/** Values of an integer type that the IR does not have, in the one that holds them all. */
function widened(proto: any, shape: Shape, dtype: "i32" | "i64", where: string): Tensor {
  const raw = Uint8Array.from(proto.raw_data as Uint8Array);
  const type: number = proto.data_type;
  const size = type === 13 ? 8 : type === 12 ? 4 : 2;
  const count = raw.byteLength / size;
  const views = { 4: Uint16Array, 5: Int16Array, 12: Uint32Array, 13: BigUint64Array };
  let values: bigint[];
  if (count > 0 && Number.isInteger(count)) {
    values = Array.from(new views[type as keyof typeof views](raw.buffer), BigInt);
  } else {
    values = Array.from(type < 12 ? proto.int32_data : proto.uint64_data, (value) => BigInt(value as string));
  }
  if (values.some((value) => value >= 2n ** 63n)) {
    throw new GraphError(`${where}: u64 values beyond i64; store it as i64`);
  }
  const array = dtype === "i64" ? BigInt64Array.from(values) : Int32Array.from(values, Number);
  if (byteLength(dtype, shape) !== array.byteLength) {
    throw new GraphError(`${where}: ${array.length} values for [${shape}]`);
  }
  return new Tensor(dtype, shape, new Uint8Array(array.buffer));
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

function decodeValueInfo(proto: any): SymbolicInfo {
  const where = `value ${JSON.stringify(proto.name)}`;
  const tensor = proto.type?.tensor_type;
  if (!tensor?.shape) {
    throw new GraphError(`${where} has no tensor type with a shape; export the model with one`);
  }
  return {
    name: proto.name,
    dtype: dtypeNumbered(tensor.elem_type, where),
    shape: tensor.shape.dim.map((dim: any) => {
      if (dim.dim_value !== undefined) return checkedShape([dim.dim_value], where)[0]!;
      return dim.dim_param ? dim.dim_param : null;
    }),
  };
}

function tryValueInfo(proto: any): SymbolicInfo | undefined {
  return proto.type?.tensor_type?.shape ? decodeValueInfo(proto) : undefined;
}

function checkedShape(dims: readonly string[], where: string): number[] {
  const shape = dims.map(Number);
  if (shape.every((dim) => dim >= 0 && Number.isSafeInteger(dim))) return shape;
  throw new GraphError(`${where}: [${dims}] is no shape`);
}

function dtypeNumbered(id: number, where: string): DType {
  const dtype = dtypeOf(id);
  if (dtype) return dtype;
  const name = TYPE_NAMES[id] ? ` (${TYPE_NAMES[id]})` : "";
  throw new GraphError(`${where}: ONNX data type ${id}${name} is not supported; convert it to f32 or i64`);
}
