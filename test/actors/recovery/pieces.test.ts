/** Copies travel in pieces that fit into messages: nothing is left out, nothing is said twice. */

import { expect, test } from "bun:test";
import { inPieces } from "../../../actors/recovery/pieces.ts";
import { Tensor } from "../../../protocols/tensor.ts";

const MOST = 1 << 20;
const bytesOf = (piece: Record<string, Tensor>) =>
  Object.values(piece).reduce((sum, { bytes }) => sum + bytes.byteLength, 0);

test.each([
  ["nothing", []],
  ["a scalar", [4]],
  ["an empty one", [0]],
  ["as much as there is room for", [MOST / 2, MOST / 2, 4]],
  ["one that is larger than a piece", [4, 3 * MOST, 4]],
  ["many", Array.from({ length: 50 }, (_, i) => (i * 37 * 4096) % (MOST + 4096))],
])("%s", (_, sizes) => {
  const given = sizes.map((bytes, i): [string, Tensor] => [`v${i}`, Tensor.zeros("u8", [bytes])]);
  const pieces = [...inPieces(given)];
  expect(pieces.flatMap((piece) => Object.keys(piece))).toEqual(given.map(([name]) => name));
  for (const piece of pieces) {
    // The very tensors, which are not copied.
    for (const [name, tensor] of Object.entries(piece)) expect(tensor).toBe(new Map(given).get(name)!);
    if (Object.keys(piece).length > 1) expect(bytesOf(piece)).toBeLessThanOrEqual(MOST);
  }
  // Neighbours would not have fitted into one.
  for (const [i, piece] of pieces.slice(1).entries()) {
    const [next] = Object.values(piece);
    expect(bytesOf(pieces[i]!) + next!.bytes.byteLength).toBeGreaterThan(MOST);
  }
});
