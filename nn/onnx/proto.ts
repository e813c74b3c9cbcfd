/**
 * Graphs as real `.onnx` files and back: the ONNX ModelProto through protobufjs.
 *
 * Written tensors use `raw_data`, or lie in a file of their own; read tensors may use any of the fields. Attributes
 * keep the difference between 1 and 1.0 (see `float` in graph.ts).
 */

import { Tensor } from "../../protocols/tensor.ts";
import { DATA_TYPE } from "./datatype.ts";
import { type ExternalTensor, type ReadExternal, readExternal } from "./external.ts";
import { type Attribute, type Graph, GraphError, MICROSOFT, OPSET, type ValueInfo } from "./graph.ts";
import { toOpset } from "./opset.ts";
import { ATTRIBUTE, type OnnxFile, parseFile, type SymbolicInfo } from "./proto-file.ts";
import { ModelProto } from "./schema.ts";

const IR_VERSION = 9;
/** Protobuf messages are smaller than 2 GiB. */
const LARGEST = 2 ** 31 - 1;
/** Where a tensor may begin in a file of external data. */
const ALIGNMENT = 64;

export interface ExternalModel {
  /** The `.onnx` file. */
  readonly model: Uint8Array;
  /** What the file of external data holds, in order. Borrowed: the graph's own tensors, and padding between them. */
  readonly data: readonly Uint8Array[];
}

/**
 * The graph as the bytes of an `.onnx` file.
 * @throws GraphError when they would be more than a file may be; see `encodeExternalModel`.
 */
export function encodeModel(graph: Graph, metadata: Readonly<Record<string, string>> = {}): Uint8Array {
  const size = [...graph.initializers.values()].reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  if (size > LARGEST) {
    throw new GraphError(`${size} bytes of constants are more than an .onnx file holds; use external data`);
  }
  return encode(graph, metadata, encodeTensor);
}

/**
 * The graph as an `.onnx` file and one with the data of its initializers.
 * @param location name of the file of external data, beside the model.
 */
export function encodeExternalModel(
  graph: Graph,
  location: string,
  metadata: Readonly<Record<string, string>> = {},
): ExternalModel {
  const data: Uint8Array[] = [];
  let offset = 0;
  const model = encode(graph, metadata, (name, { dtype, shape, bytes }) => {
    const padding = (ALIGNMENT - (offset % ALIGNMENT)) % ALIGNMENT;
    if (padding > 0) data.push(new Uint8Array(padding));
    data.push(bytes);
    const entries = { location, offset: offset + padding, length: bytes.byteLength };
    offset += padding + bytes.byteLength;
    return {
      name,
      dims: shape,
      data_type: DATA_TYPE[dtype],
      data_location: 1,
      external_data: Object.entries(entries).map(([key, value]) => ({ key, value: String(value) })),
    };
  });
  return { model, data };
}

function encode(
  graph: Graph,
  metadata: Readonly<Record<string, string>>,
  initializer: (name: string, tensor: Tensor) => object,
): Uint8Array {
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
        initializer: [...graph.initializers].map(([name, tensor]) => initializer(name, tensor)),
        input: graph.inputs.map(encodeValueInfo),
        output: graph.outputs.map(encodeValueInfo),
      },
    }),
  ).finish();
  // Under Bun and Node protobufjs returns a Buffer, whose slice() is no copy; a plain array has no such surprise.
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Reads the bytes of an `.onnx` file whose sizes are all numbers and whose data is inside.
 * @throws GraphError when the bytes are not an ONNX model, or use what is not supported (old operators, external
 * data, symbolic dimensions), naming it.
 */
export function decodeModel(bytes: Uint8Array): Graph {
  const file = parseFile(bytes);
  const initializers = new Map<string, Tensor>();
  for (const [name, tensor] of file.initializers) {
    if (tensor instanceof Tensor) initializers.set(name, tensor);
    else
      throw new GraphError(
        `tensor ${JSON.stringify(name)}: external data, and no way to read files was given`,
      );
  }
  const outputs = file.outputTypes.map((type, i) => {
    if (type) return numbered(type, {});
    throw new GraphError(`value ${JSON.stringify(file.outputs[i])} has no tensor type with a shape`);
  });
  return toOpset(
    {
      name: file.name,
      inputs: file.inputs.map((input) => numbered(input, {})),
      outputs,
      initializers,
      nodes: file.nodes,
    },
    file.opset,
  );
}

export interface ReadOptions {
  /** Reads external data; without it, files that have any are refused. */
  readonly external?: ReadExternal;
  /** Sizes of symbolic dimensions, by name. */
  readonly dimensions?: Readonly<Record<string, number>>;
  /** Rows of a micro-batch: size of first dimensions that are symbols without a size, or unknown; default 1. */
  readonly rows?: number;
  /** Size of all other symbolic dimensions without a size; left out, they are refused. */
  readonly others?: number;
}

/** A file with all of its data and numbers for all sizes of its inputs; see `importModel` for what is made of it. */
export interface LoadedFile {
  /** Operators are of version `OPSET`; the declared types of its outputs are not known yet. */
  readonly graph: Omit<Graph, "outputs">;
  readonly outputs: readonly string[];
  readonly producer: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Reads the bytes of any `.onnx` file, with its external data.
 * @throws GraphError for broken files, sizes that are not given, unreadable external data, unknown operators' versions.
 */
export async function loadFile(bytes: Uint8Array, options: ReadOptions = {}): Promise<LoadedFile> {
  const file: OnnxFile = parseFile(bytes);
  const inputs = file.inputs.map((input) => numbered(input, { rows: 1, ...options }));
  const initializers = new Map<string, Tensor>();
  for (const [name, tensor] of file.initializers) {
    initializers.set(name, tensor instanceof Tensor ? tensor : await load(tensor, options));
  }
  const graph = { name: file.name, inputs, initializers, nodes: file.nodes };
  return {
    graph: toOpset({ ...graph, outputs: [] }, file.opset),
    outputs: file.outputs,
    producer: file.producer,
    metadata: file.metadata,
  };
}

const load = (tensor: ExternalTensor, { external }: ReadOptions) => readExternal(tensor, external);

/** A value with a number for every size. */
function numbered(info: SymbolicInfo, { dimensions = {}, rows, others }: ReadOptions): ValueInfo {
  const where = `value ${JSON.stringify(info.name)}`;
  const shape = info.shape.map((dim, axis) => {
    if (typeof dim === "number") return dim;
    const given = dim !== null && Object.hasOwn(dimensions, dim) ? dimensions[dim] : undefined;
    const size = given ?? (axis === 0 ? rows : others);
    if (size === undefined) {
      const symbol = JSON.stringify(dim ?? "");
      throw new GraphError(`${where} has the symbolic dimension ${symbol} at axis ${axis}; give its size`);
    }
    if (!Number.isSafeInteger(size) || size < 1) {
      throw new GraphError(`${where}: ${size} is no size for the dimension ${JSON.stringify(dim ?? axis)}`);
    }
    return size;
  });
  return { name: info.name, dtype: info.dtype, shape };
}

function encodeAttribute(name: string, value: Attribute): object {
  if (typeof value === "number") {
    if (!Number.isInteger(value))
      throw new GraphError(`attribute ${name}: mark the float ${value} as float(…)`);
    return { name, type: ATTRIBUTE.INT, i: value };
  }
  const text = (string: string) => new TextEncoder().encode(string);
  if (typeof value === "string") return { name, type: ATTRIBUTE.STRING, s: text(value) };
  if (value instanceof Tensor) return { name, type: ATTRIBUTE.TENSOR, t: encodeTensor("", value) };
  if ("float" in value) return { name, type: ATTRIBUTE.FLOAT, f: value.float };
  if ("floats" in value) return { name, type: ATTRIBUTE.FLOATS, floats: value.floats };
  if ("strings" in value) return { name, type: ATTRIBUTE.STRINGS, strings: value.strings.map(text) };
  return { name, type: ATTRIBUTE.INTS, ints: value };
}

function encodeTensor(name: string, tensor: Tensor): object {
  return { name, dims: tensor.shape, data_type: DATA_TYPE[tensor.dtype], raw_data: tensor.bytes };
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
