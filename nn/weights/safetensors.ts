/**
 * The safetensors format, bytes in and bytes out: how weights are kept on disk and exchanged with others.
 *
 * A file is the length of its header (8 bytes, little-endian), the header (JSON: name → dtype, shape and the
 * range of its bytes; strings about the file under `__metadata__`) and the raw tensors, row-major and
 * little-endian, without gaps. Source: the format section of https://github.com/huggingface/safetensors.
 *
 * Nothing here touches files. Encoding borrows the tensors' bytes and copies none of them; decoding returns views
 * of the file's bytes and copies only a tensor that lies at an address its element type cannot be read from. A file
 * too large to be held whole is read piece by piece with `SafetensorsReader` instead.
 */

import { DTYPE_BYTES, Tensor } from "../../protocols/tensor.ts";
import type { Metadata } from "./header.ts";
import { DTYPE_NAMES, headerEnd, LENGTH_BYTES, METADATA, parseHeader, WeightsError } from "./header.ts";

export { type Metadata, WeightsError } from "./header.ts";

export interface Safetensors {
  /** In the order of their bytes. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly metadata: Metadata;
}

/** The header is padded with spaces so that tensors start at a multiple of the largest element. */
const ALIGNMENT = 8;

/**
 * The file as chunks to write one after another: the header, then each tensor's bytes (borrowed, not copied).
 * Tensors are ordered by falling element size, then by name, so that each is aligned and equal maps give equal
 * files. @throws WeightsError for a tensor named `__metadata__`.
 */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Metadata = {},
): Uint8Array[] {
  if (tensors.has(METADATA))
    throw new WeightsError(`no tensor can be named ${METADATA}: the format reserves it`);
  const ordered = [...tensors].sort(
    ([a, x], [b, y]) => DTYPE_BYTES[y.dtype] - DTYPE_BYTES[x.dtype] || (a < b ? -1 : 1),
  );
  const entries: [string, unknown][] = Object.keys(metadata).length > 0 ? [[METADATA, metadata]] : [];
  let end = 0;
  for (const [name, { dtype, shape, bytes }] of ordered) {
    const start = end;
    end += bytes.byteLength;
    entries.push([name, { dtype: DTYPE_NAMES[dtype], shape, data_offsets: [start, end] }]);
  }
  // Written pair by pair: an object would reorder names that look like numbers.
  const json = new TextEncoder().encode(
    `{${entries.map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`).join(",")}}`,
  );
  const header = new Uint8Array(Math.ceil((LENGTH_BYTES + json.length) / ALIGNMENT) * ALIGNMENT).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - LENGTH_BYTES), true);
  header.set(json, LENGTH_BYTES);
  return [header, ...ordered.map(([, tensor]) => tensor.bytes)];
}

/**
 * Reads a whole file. The tensors are views of `bytes`, which therefore must stay as they are while in use.
 * `source` names the file in errors.
 * @throws WeightsError when the file is truncated, longer than it says, malformed, of an element type Troupe does
 *   not know, or when tensors overlap or leave gaps.
 */
export function decodeSafetensors(bytes: Uint8Array, source = "safetensors"): Safetensors {
  const end = headerEnd(bytes, bytes.byteLength, source);
  const body = bytes.subarray(end);
  const { entries, metadata } = parseHeader(bytes.subarray(LENGTH_BYTES, end), body.byteLength, source);
  const tensors = new Map(
    entries.map(({ name, dtype, shape, start, end: last }): [string, Tensor] => [
      name,
      new Tensor(dtype, shape, aligned(body.subarray(start, last), DTYPE_BYTES[dtype])),
    ]),
  );
  return { tensors, metadata };
}

/** The same bytes at an address that elements of this size can be read from. */
export function aligned(bytes: Uint8Array, elementBytes: number): Uint8Array {
  return bytes.byteOffset % elementBytes === 0 ? bytes : bytes.slice();
}
