/**
 * The safetensors format, bytes in and bytes out: how weights are kept on disk and exchanged with others.
 *
 * A file is the length of its header (8 bytes, little-endian), the header (JSON: name → dtype, shape and the
 * range of its bytes; strings about the file under `__metadata__`) and the raw tensors, row-major and
 * little-endian, without gaps. Source: the format section of https://github.com/huggingface/safetensors.
 *
 * Nothing here touches files. Encoding borrows the tensors' bytes and copies none of them; decoding returns views
 * of the file's bytes and copies only a tensor that lies at an address its element type cannot be read from.
 */

import { byteLength, DTYPE_BYTES, type DType, type Shape, Tensor } from "../../protocols/tensor.ts";

export type Metadata = Readonly<Record<string, string>>;

export interface Safetensors {
  /** In the order of their bytes. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly metadata: Metadata;
}

/** A weights file that is damaged or not one; the message says what was expected and what came. */
export class WeightsError extends Error {
  readonly code = "WEIGHTS";
  override readonly name = "WeightsError";
}

/** The limit the format's own implementation sets, against a header length that is not one. */
const MAX_HEADER_BYTES = 100_000_000;

/** The header is padded with spaces so that tensors start at a multiple of the largest element. */
const ALIGNMENT = 8;

const METADATA = "__metadata__";

const NAMES: Readonly<Record<DType, string>> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
  f64: "F64",
  i64: "I64",
  i32: "I32",
  u8: "U8",
  i8: "I8",
  bool: "BOOL",
};

const DTYPES: ReadonlyMap<string, DType> = new Map(
  Object.entries(NAMES).map(([dtype, name]) => [name, dtype as DType]),
);

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
    entries.push([name, { dtype: NAMES[dtype], shape, data_offsets: [start, end] }]);
  }
  // Written pair by pair: an object would reorder names that look like numbers.
  const json = new TextEncoder().encode(
    `{${entries.map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`).join(",")}}`,
  );
  const header = new Uint8Array(Math.ceil((8 + json.length) / ALIGNMENT) * ALIGNMENT).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - 8), true);
  header.set(json, 8);
  return [header, ...ordered.map(([, tensor]) => tensor.bytes)];
}

/**
 * Reads a whole file. The tensors are views of `bytes`, which therefore must stay as they are while in use.
 * `source` names the file in errors.
 * @throws WeightsError when the file is truncated, longer than it says, malformed, of an element type Troupe does
 *   not know, or when tensors overlap or leave gaps.
 */
export function decodeSafetensors(bytes: Uint8Array, source = "safetensors"): Safetensors {
  const fail = (what: string): never => {
    throw new WeightsError(`${source}: ${what}`);
  };
  const { header, body } = parseHeader(bytes, fail);
  let metadata: Metadata = {};
  const entries: Entry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === METADATA) metadata = parseMetadata(value, fail);
    else entries.push(parseEntry(name, value, fail));
  }
  entries.sort((a, b) => a.start - b.start || a.end - b.end);

  const tensors = new Map<string, Tensor>();
  let previous = { name: "", end: 0 };
  for (const entry of entries) {
    const { name, dtype, shape, start, end } = entry;
    if (end > body.byteLength) {
      fail(
        `truncated: tensor ${name} ends at byte ${end}, the file holds ${body.byteLength} bytes of tensors`,
      );
    }
    if (start < previous.end) fail(`tensors ${previous.name} and ${name} overlap at byte ${start}`);
    if (start > previous.end) {
      fail(`a gap of ${start - previous.end} bytes before tensor ${name}: tensors must follow one another`);
    }
    tensors.set(name, new Tensor(dtype, shape, aligned(body.subarray(start, end), DTYPE_BYTES[dtype])));
    previous = entry;
  }
  if (previous.end < body.byteLength) {
    fail(`${body.byteLength - previous.end} bytes after the last tensor belong to none`);
  }
  return { tensors, metadata };
}

interface Entry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
  readonly start: number;
  readonly end: number;
}

type Fail = (what: string) => never;

function parseHeader(bytes: Uint8Array, fail: Fail): { header: Record<string, unknown>; body: Uint8Array } {
  if (bytes.byteLength < 8) {
    fail(`truncated: a file has at least 8 bytes of header length, this one ${bytes.byteLength}`);
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    fail(
      `not a safetensors file: it claims a header of ${length} bytes, at most ${MAX_HEADER_BYTES} are allowed`,
    );
  }
  const end = 8 + Number(length);
  if (end > bytes.byteLength) {
    fail(`truncated: the header ends at byte ${end}, the file at ${bytes.byteLength}`);
  }
  const body = bytes.subarray(end);
  try {
    const header: unknown = JSON.parse(
      new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, end)),
    );
    if (isRecord(header)) return { header, body };
  } catch {
    // Told in the same words as JSON of another kind.
  }
  return fail("not a safetensors file: its header is not a JSON object");
}

function parseMetadata(value: unknown, fail: Fail): Metadata {
  if (!isRecord(value) || !Object.values(value).every((entry) => typeof entry === "string")) {
    return fail(`${METADATA} must map names to strings`);
  }
  return value as Metadata;
}

function parseEntry(name: string, value: unknown, fail: Fail): Entry {
  const { dtype: dtypeName, shape, data_offsets: offsets } = isRecord(value) ? value : {};
  const dtype = DTYPES.get(String(dtypeName));
  if (dtype === undefined) {
    return fail(`tensor ${name} has dtype ${dtypeName}, known are ${[...DTYPES.keys()].join(", ")}`);
  }
  if (!isCounts(shape)) return fail(`tensor ${name} has no shape of non-negative integers`);
  if (!isCounts(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
    return fail(`tensor ${name} has no data_offsets [start, end] with start <= end`);
  }
  const [start, end] = offsets as [number, number];
  const expected = byteLength(dtype, shape);
  if (end - start !== expected) {
    fail(
      `tensor ${name}: ${dtype}[${shape.join(",")}] takes ${expected} bytes, its offsets give ${end - start}`,
    );
  }
  return { name, dtype, shape, start, end };
}

function aligned(bytes: Uint8Array, elementBytes: number): Uint8Array {
  return bytes.byteOffset % elementBytes === 0 ? bytes : bytes.slice();
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}
