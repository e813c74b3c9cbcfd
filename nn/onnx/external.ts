/**
 * External data: tensors whose bytes lie in files beside the `.onnx` file. Where those are is the caller's business,
 * who hands in a way to read them; which of them a file may name is decided here: nothing outside the model's folder.
 */

import { byteLength, type DType, type Shape, Tensor } from "../../protocols/tensor.ts";
import { GraphError } from "./graph.ts";

/**
 * Reads `length` bytes from `offset` of a file beside the model. `location` is a relative path with `/` that stays in
 * the model's folder. The bytes are transferred to the caller; fewer mean that the file ends there. A rejection says
 * why the file cannot be read.
 */
export type ReadExternal = (
  location: string,
  offset: number,
  length: number,
) => Uint8Array | Promise<Uint8Array>;

/** A tensor of which a file says only where its bytes are. */
export interface ExternalTensor {
  /** Name of the tensor, for messages. */
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
  readonly location: string;
  readonly offset: number;
}

/** The entries of a TensorProto's `external_data`, checked. @throws GraphError naming the tensor and the path. */
export function externalTensor(
  name: string,
  dtype: DType,
  shape: Shape,
  entries: readonly { readonly key: string; readonly value: string }[],
): ExternalTensor {
  const where = `tensor ${JSON.stringify(name)}`;
  const entry = (key: string) => entries.find((candidate) => candidate.key === key)?.value;
  const number = (key: string): number | undefined => {
    const text = entry(key);
    if (text === undefined) return undefined;
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    if (Number.isSafeInteger(value)) return value;
    throw new GraphError(
      `${where}: external data with the ${key} ${JSON.stringify(text)}, which is no number`,
    );
  };
  const location = entry("location") ?? "";
  checkLocation(where, location);
  const [length, expected] = [number("length"), byteLength(dtype, shape)];
  if (length !== undefined && length !== expected) {
    throw new GraphError(`${where}: ${length} bytes of external data for ${dtype}[${shape}] (${expected})`);
  }
  return { name, dtype, shape, location, offset: number("offset") ?? 0 };
}

function checkLocation(where: string, location: string): void {
  const path = JSON.stringify(location);
  if (location === "") throw new GraphError(`${where}: external data without a location`);
  const absolute = /^([/\\]|[a-zA-Z]:)/.test(location);
  if (!absolute && !location.includes("\0") && !location.split(/[/\\]/).includes("..")) return;
  throw new GraphError(
    `${where}: external data at ${path} is outside the model's folder; save the model again with its data beside it`,
  );
}

/**
 * Reads the bytes of an external tensor.
 * @throws GraphError naming tensor and file when there is nothing to read with, the file cannot be read, or it is
 * too short.
 */
export async function readExternal(
  external: ExternalTensor,
  read: ReadExternal | undefined,
): Promise<Tensor> {
  const { name, dtype, shape, location, offset } = external;
  const where = `tensor ${JSON.stringify(name)}`;
  const file = JSON.stringify(location);
  if (!read) throw new GraphError(`${where}: external data in ${file}, and no way to read files was given`);
  const length = byteLength(dtype, shape);
  let bytes: Uint8Array;
  try {
    bytes = await read(location, offset, length);
  } catch (cause) {
    const reason = (cause instanceof Error ? cause.message : String(cause)).split("\n")[0];
    throw new GraphError(`${where}: cannot read ${file} (${reason}); put it beside the .onnx file`, {
      cause,
    });
  }
  if (bytes.byteLength !== length) {
    throw new GraphError(
      `${where}: ${file} has ${bytes.byteLength} of ${length} bytes at ${offset}; it is truncated or of another model`,
    );
  }
  // Typed views need their alignment.
  return new Tensor(dtype, shape, bytes.byteOffset % 8 === 0 ? bytes : Uint8Array.from(bytes));
}
