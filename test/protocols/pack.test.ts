import { describe, expect, test } from "bun:test";
import { decode, encode } from "@msgpack/msgpack";
import type { ProtocolError } from "../../protocols/errors.ts";
import { Packer } from "../../protocols/pack.ts";
import { Unpacker } from "../../protocols/unpack.ts";
import { type Random, seededRandom } from "../../runtime/random.ts";

const refuse = () => {
  throw new Error("not plain");
};
const packer = new Packer(64, refuse);
const unpacker = new Unpacker(64, refuse);
const pack = (value: unknown) => {
  packer.reset();
  packer.pack(value);
  return packer.bytes.slice(0, packer.length);
};
const unpack = (bytes: Uint8Array) => unpacker.unpack(bytes, 0, bytes.byteLength);

function anyValue(random: Random, depth: number): unknown {
  const kind = random.integer(depth > 4 ? 7 : 9);
  const count = depth === 1 && random.next() < 0.05 ? 300 : random.integer(depth > 1 ? 3 : 5);
  if (kind === 0) return null;
  if (kind === 1) return random.next() < 0.5;
  if (kind === 2) return Math.floor((random.next() - 0.5) * 2 ** random.integer(54));
  if (kind === 3) return (random.next() - 0.5) * 10 ** random.integer(300);
  if (kind === 4) return ["ä", "ä€", "ä€😀", "x😀"][random.integer(4)]!.repeat(random.integer(30));
  if (kind < 7) return "a name".slice(0, random.integer(7)).repeat(1 + random.integer(8));
  if (kind === 7) return Array.from({ length: count }, () => anyValue(random, depth + 1));
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, anyValue(random, depth + 1)]));
}

const EDGES = [
  ...[0, 1, 127, 128, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 2 ** 60],
  ...[-1, -32, -33, -128, -129, -32768, -32769, -(2 ** 31), -(2 ** 31) - 1, -(2 ** 53) + 1, -(2 ** 60)],
  ...[0.5, -1.25, Number.MAX_VALUE, Number.MIN_VALUE, Number.POSITIVE_INFINITY],
  ...["", "x".repeat(24), "x".repeat(25), "x".repeat(70_000), "\u0000", "é".repeat(24)],
];

describe("the same values as the library", () => {
  test("at the edges of every form", () => {
    for (const value of EDGES) {
      expect(decode(pack(value))).toEqual(value);
      expect(unpack(encode(value))).toEqual(value);
    }
    expect(unpack(pack(Number.NaN))).toBeNaN();
    expect(unpack(pack(-0))).toBe(-0);
    expect(unpack(encode(1.5, { forceFloat32: true }))).toBe(1.5);
    for (const n of [1, 2, 4, 8]) expect(unpack(encode(BigInt(-n), { useBigInt64: true }))).toBe(-n);
  });

  test("for any nest of plain values, both ways", () => {
    const random = seededRandom(5);
    for (let i = 0; i < 300; i++) {
      const value = anyValue(random, 0);
      expect(decode(pack(value))).toEqual(value);
      expect(unpack(encode(value))).toEqual(value);
    }
  });
});

test("an undefined property is left out, an undefined element is null", () => {
  expect(unpack(pack({ a: undefined, b: [undefined] }))).toEqual({ b: [null] });
});

test("a property that would change an object's prototype crosses in neither direction", () => {
  const value = JSON.parse('{"__proto__": {"a": 1}}');
  expect(() => pack(value)).toThrow("__proto__");
  const bytes = pack({ __pr0to__: 1 });
  bytes[6] = 0x6f; // the digit becomes the letter
  expect(() => unpack(bytes)).toThrow("__proto__");
});

test("texts of the same length and beginning are not taken for each other", () => {
  const random = seededRandom(6);
  for (let i = 0; i < 3000; i++) {
    const text = String.fromCharCode(...random.bytes(2 + random.integer(3)).map((b) => b & 0x7f));
    expect(unpack(pack(text))).toBe(text);
  }
});

test("any bytes unpack to what the library makes of them, or are refused by name", () => {
  const random = seededRandom(8);
  let agreed = 0;
  for (let i = 0; i < 5000; i++) {
    let bytes = random.bytes(1 + random.integer(20));
    if (i % 2 === 0) {
      bytes = pack(anyValue(random, 2));
      bytes[random.integer(bytes.length)] = random.integer(256);
    }
    let value: unknown;
    try {
      value = unpack(bytes);
    } catch (error) {
      unpacker.release();
      if ((error as Error).message !== "not plain")
        expect((error as ProtocolError).code).toBe("MALFORMED_HEADER");
      continue;
    }
    if (JSON.stringify(value).includes("\ufffd")) continue; // of text that is no UTF-8 each makes its own
    expect(value).toEqual(decode(bytes));
    agreed++;
  }
  expect(agreed).toBeGreaterThan(500);
});

test("one large header does not keep its memory", () => {
  pack("x".repeat(2 ** 20));
  pack(1);
  expect(packer.bytes.byteLength).toBeLessThanOrEqual(64 * 1024);
});
