/**
 * The header of a safetensors file: which tensors there are and where their bytes lie. Reading it takes the first
 * bytes of the file and its size; the tensors themselves are not touched.
 *
 * Source: the format section of https://github.com/huggingface/safetensors.
 */

import { byteLength, type DType, type Shape } from "../../protocols/tensor.ts";

export type Metadata = Readonly<Record<string, string>>;

/** A weights file that is damaged or not one; the message says what was expected and what came. */
export class WeightsError extends Error {
  readonly code = "WEIGHTS";
  override readonly name = "WeightsError";
}

/** One tensor of a file. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
  /** First byte, and the one after the last, counted from the end of the header. */
  readonly start: number;
  readonly end: number;
}

export interface Header {
  /** In the order of their bytes. */
  readonly entries: readonly TensorEntry[];
  readonly metadata: Metadata;
}

/** Bytes before the header's JSON: its length, a little-endian u64. */
export const LENGTH_BYTES = 8;

/** The name that holds strings about the file; no tensor can have it. */
export const METADATA = "__metadata__";

/** The limit the format's own implementation sets, against a header length that is not one. */
const MAX_HEADER_BYTES = 100_000_000;

/** Element types as the format names them. */
export const DTYPE_NAMES: Readonly<Record<DType, string>> = {
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
  Object.entries(DTYPE_NAMES).map(([dtype, name]) => [name, dtype as DType]),
);

type Fail = (what: string) => never;

const failing =
  (source: string): Fail =>
  (what) => {
    throw new WeightsError(`${source}: ${what}`);
  };

/**
 * Where the header ends and the tensors begin, from the first bytes of a file of `size` bytes.
 * @throws WeightsError, naming `source`, when the file is shorter than that or no safetensors file.
 */
export function headerEnd(first: Uint8Array, size: number, source: string): number {
  const fail = failing(source);
  if (first.byteLength < LENGTH_BYTES) {
    fail(
      `truncated: a file has at least ${LENGTH_BYTES} bytes of header length, this one ${first.byteLength}`,
    );
  }
  const length = new DataView(first.buffer, first.byteOffset).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    fail(
      `not a safetensors file: it claims a header of ${length} bytes, at most ${MAX_HEADER_BYTES} are allowed`,
    );
  }
  const end = LENGTH_BYTES + Number(length);
  if (end > size) fail(`truncated: the header ends at byte ${end}, the file at ${size}`);
  return end;
}

/**
 * Reads the header's JSON.
 * @param bodyBytes bytes of the file after the header.
 * @throws WeightsError, naming `source`, when it is malformed, names an element type Troupe does not know, or when
 *   tensors overlap, leave gaps, or are not what the file holds.
 */
export function parseHeader(json: Uint8Array, bodyBytes: number, source: string): Header {
  const fail = failing(source);
  let metadata: Metadata = {};
  const entries: TensorEntry[] = [];
  for (const [name, value] of Object.entries(parseObject(json, fail))) {
    if (name === METADATA) metadata = parseMetadata(value, fail);
    else entries.push(parseEntry(name, value, fail));
  }
  entries.sort((a, b) => a.start - b.start || a.end - b.end);

  let previous = { name: "", end: 0 };
  for (const entry of entries) {
    const { name, start, end } = entry;
    if (end > bodyBytes) {
      fail(`truncated: tensor ${name} ends at byte ${end}, the file holds ${bodyBytes} bytes of tensors`);
    }
    if (start < previous.end) fail(`tensors ${previous.name} and ${name} overlap at byte ${start}`);
    if (start > previous.end) {
      fail(`a gap of ${start - previous.end} bytes before tensor ${name}: tensors must follow one another`);
    }
    previous = entry;
  }
  if (previous.end < bodyBytes) {
    fail(`${bodyBytes - previous.end} bytes after the last tensor belong to none`);
  }
  return { entries, metadata };
}

function parseObject(json: Uint8Array, fail: Fail): Record<string, unknown> {
  try {
    const header: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));
    if (isRecord(header)) return header;
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

function parseEntry(name: string, value: unknown, fail: Fail): TensorEntry {
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

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}
