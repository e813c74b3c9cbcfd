/** Values in pieces that do not keep a link to themselves for long, and fit into messages. */

import type { Tensor } from "../../protocols/tensor.ts";

/** A large tensor is a piece of its own. */
const PIECE_BYTES = 1 << 20;

export function* inPieces(values: Iterable<readonly [string, Tensor]>): Generator<Record<string, Tensor>> {
  let piece: Record<string, Tensor> = {};
  let bytes = 0;
  for (const [name, tensor] of values) {
    const { byteLength } = tensor.bytes;
    if (bytes > 0 && bytes + byteLength > PIECE_BYTES) {
      yield piece;
      [piece, bytes] = [{}, 0];
    }
    piece[name] = tensor;
    bytes += byteLength;
  }
  if (Object.keys(piece).length > 0) yield piece;
}
