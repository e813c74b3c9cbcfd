/**
 * A safetensors file read by ranges: the header first, then each tensor when it is asked for. So a device that
 * trains a few layers of a model reads those layers' bytes and no others, and a file larger than memory is no
 * obstacle. Whoever holds the file hands in how its bytes are read.
 */

import { DTYPE_BYTES, Tensor } from "../../protocols/tensor.ts";
import {
  headerEnd,
  LENGTH_BYTES,
  type Metadata,
  parseHeader,
  type TensorEntry,
  WeightsError,
} from "./header.ts";
import { aligned } from "./safetensors.ts";

/** The bytes [start, end) of a file; fewer where the file ends before. */
export type ReadRange = (start: number, end: number) => Promise<Uint8Array>;

export class SafetensorsReader {
  /** What the file holds, in the order of its bytes. */
  readonly entries: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Metadata;
  private readonly body: number;
  private readonly read: ReadRange;
  private readonly source: string;

  private constructor(
    read: ReadRange,
    body: number,
    entries: readonly TensorEntry[],
    metadata: Metadata,
    source: string,
  ) {
    this.read = read;
    this.body = body;
    this.entries = new Map(entries.map((entry) => [entry.name, entry]));
    this.metadata = metadata;
    this.source = source;
  }

  /**
   * Reads the header of a file of `size` bytes; `source` names it in errors.
   * @throws WeightsError as `decodeSafetensors` does: what is wrong with a file is found before a tensor is read.
   */
  static async open(read: ReadRange, size: number, source: string): Promise<SafetensorsReader> {
    const body = headerEnd(await read(0, LENGTH_BYTES), size, source);
    const json = await read(LENGTH_BYTES, body);
    const { entries, metadata } = parseHeader(json, size - body, source);
    return new SafetensorsReader(read, body, entries, metadata, source);
  }

  /** Reads one tensor; it is the caller's. @throws WeightsError for an unknown name, or when bytes are missing. */
  async tensor(name: string): Promise<Tensor> {
    const entry = this.entries.get(name);
    if (!entry) throw new WeightsError(`${this.source}: there is no tensor ${name}`);
    const { dtype, shape, start, end } = entry;
    const bytes = await this.read(this.body + start, this.body + end);
    if (bytes.byteLength !== end - start) {
      const took = `${bytes.byteLength} of the ${end - start} bytes of tensor ${name} could be read`;
      throw new WeightsError(`${this.source}: truncated while in use: ${took}`);
    }
    return new Tensor(dtype, shape, aligned(bytes, DTYPE_BYTES[dtype]));
  }
}
