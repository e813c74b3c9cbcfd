/** Copies travel in pieces as large as is asked for: nothing is left out, nothing is said twice, nothing is copied. */

import { expect, test } from "bun:test";
import { Copies } from "../../../actors/recovery/copies.ts";
import { Cutter, type Slice } from "../../../actors/recovery/pieces.ts";
import { Tensor } from "../../../protocols/tensor.ts";

const MOST = 1000;
const bytesOf = (piece: readonly Slice[]) => piece.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);

test.each([
  ["nothing", []],
  ["a scalar", [4]],
  ["an empty one", [0]],
  ["an empty one behind a full piece", [MOST, 0]],
  ["as much as there is room for", [MOST / 2, MOST / 2, 4]],
  ["one that is larger than a piece", [4, 3 * MOST, 4]],
  ["many", Array.from({ length: 50 }, (_, i) => (i * 37 * 64) % (MOST + 300))],
])("%s", (_, sizes) => {
  const given = sizes.map((size, i): [string, Tensor] => {
    return [
      `v${i}`,
      new Tensor(
        "u8",
        [size],
        Uint8Array.from({ length: size }, (_, at) => at * i),
      ),
    ];
  });
  const cutter = new Cutter(given);
  const copies = new Copies();
  const pieces: (readonly Slice[])[] = [];
  for (let piece = cutter.next(MOST); piece; piece = cutter.next(MOST)) pieces.push(piece);
  for (const piece of pieces) {
    for (const { name, bytes } of piece) expect(bytes.buffer).toBe(new Map(given).get(name)!.bytes.buffer);
    copies.write(0, piece);
  }
  for (const piece of pieces.slice(0, -1)) expect(bytesOf(piece)).toBe(MOST);
  expect([...(copies.at(0) ?? [])]).toEqual(given);
});

test("pieces may be of any size, each of another", () => {
  const cutter = new Cutter([["w", Tensor.zeros("f32", [10])]]);
  expect([7, 1, 100, 1].map((most) => cutter.next(most)?.map(({ at, bytes }) => [at, bytes.length]))).toEqual(
    [[[0, 7]], [[7, 1]], [[8, 32]], undefined],
  );
});
