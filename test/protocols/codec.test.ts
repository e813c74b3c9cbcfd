import { describe, expect, test } from "bun:test";
import { Codec } from "../../protocols/codec.ts";
import type { ProtocolError } from "../../protocols/errors.ts";
import { DEFAULT_LIMITS } from "../../protocols/limits.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { type Random, seededRandom } from "../../runtime/random.ts";

class FakeRef {
  readonly to: string;
  constructor(to: string) {
    this.to = to;
  }
}

const hooks = {
  encodeRef: (value: object) => (value instanceof FakeRef ? [value.to] : undefined),
  decodeRef: (data: unknown) => new FakeRef((data as string[])[0]!),
};
const codec = new Codec(hooks, DEFAULT_LIMITS);

function roundTrip(value: unknown): unknown {
  const { header, segments } = codec.encode(value);
  const received = header.slice();
  const decoded = codec.decode(
    received,
    segments.map((s) => s.slice()),
  );
  received.fill(0xff); // the header was only borrowed
  return decoded;
}

function code(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return (error as ProtocolError).code;
  }
  return "nothing was thrown";
}

function anyValue(random: Random, depth: number): unknown {
  const kind = random.integer(depth > 4 ? 7 : 9);
  const count = depth === 1 && random.next() < 0.05 ? 300 : random.integer(depth > 1 ? 3 : 5);
  if (kind === 0) return null;
  if (kind === 1) return random.next() < 0.5;
  if (kind === 2) return Math.floor(random.next() * 2 ** random.integer(54)) - 2 ** 20;
  if (kind === 3) return (random.next() - 0.5) * 10 ** random.integer(300);
  if (kind === 4) return ["ä", "ä€", "ä€😀", "x😀"][random.integer(4)]!.repeat(random.integer(30));
  if (kind < 7) return "a name".slice(0, random.integer(7)).repeat(1 + random.integer(8));
  if (kind === 7) return Array.from({ length: count }, () => anyValue(random, depth + 1));
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, anyValue(random, depth + 1)]));
}

describe("round trips", () => {
  const values: [string, unknown][] = [
    [
      "scalars",
      [null, true, false, 0, -1, 1.5, 2 ** 40, -(2 ** 40), 2 ** 53 - 1, "", "ünï", Number.NaN, Infinity],
    ],
    ["bigints", [0n, -1n, 2n ** 64n, -(2n ** 200n)]],
    ["nested plain values", { a: [1, { b: "c" }], "a key": [[]], empty: {} }],
    [
      "short and long byte strings",
      [new Uint8Array(3).fill(7), new Uint8Array(5000).fill(9), new Uint8Array(0)],
    ],
    ["dates", new Date(123456789)],
  ];
  for (const [what, value] of values) test(what, () => expect(roundTrip(value)).toEqual(value));

  test("an undefined property is left out, an undefined element is null", () => {
    expect(roundTrip({ a: undefined, b: [undefined] })).toEqual({ b: [null] });
  });

  test("numbers and texts at the edges of every form", () => {
    const numbers = [
      127,
      128,
      255,
      256,
      65535,
      65536,
      2 ** 32 - 1,
      2 ** 32,
      2 ** 53,
      2 ** 60,
      Number.MAX_VALUE,
    ];
    for (const n of numbers) for (const value of [n, -n, -n - 1]) expect(roundTrip(value)).toBe(value);
    for (const length of [31, 32, 255, 256, 70_000]) {
      for (const letter of ["x", "é", "😀"])
        expect(roundTrip(letter.repeat(length))).toBe(letter.repeat(length));
    }
  });

  test("any nest of plain values", () => {
    const random = seededRandom(5);
    for (let i = 0; i < 300; i++) {
      const value = anyValue(random, 0);
      expect(roundTrip(value)).toEqual(value);
    }
  });

  test("a large header leaves room and memory to the small ones behind it", () => {
    const large = "x".repeat(100_000);
    expect(roundTrip(large)).toBe(large);
    expect(codec.encode(1).header.buffer.byteLength).toBeLessThan(64 * 1024);
  });

  test("refs, through the hooks", () => {
    const decoded = roundTrip({ who: new FakeRef("x") }) as { who: FakeRef };
    expect(decoded.who).toBeInstanceOf(FakeRef);
    expect(decoded.who.to).toBe("x");
  });

  test("errors keep name, message, stack, code and cause", () => {
    const cause = new RangeError("inner");
    const error = Object.assign(new TypeError("outer", { cause }), { code: "E1" });
    const decoded = roundTrip(error) as Error & { code: string; cause: Error };
    expect(decoded).toBeInstanceOf(Error);
    expect([decoded.name, decoded.message, decoded.stack, decoded.code]).toEqual([
      "TypeError",
      "outer",
      error.stack,
      "E1",
    ]);
    expect([decoded.cause.name, decoded.cause.message]).toEqual(["RangeError", "inner"]);
  });

  test("a chain of causes that is too long loses its end, not its beginning", () => {
    let error = new Error("0");
    for (let i = 1; i < 100; i++) error = new Error(String(i), { cause: error });
    expect((roundTrip(error) as Error).message).toBe("99");
  });
});

describe("tensors", () => {
  test("their bytes are not in the header and are not copied", () => {
    const tensor = Tensor.f32([2, 3], [1, 2, 3, 4, 5, 6]);
    const { header, segments } = codec.encode({ tensor });
    expect(segments[0]).toBe(tensor.bytes);
    expect(header.byteLength).toBeLessThan(40);
    const decoded = (codec.decode(header, segments) as { tensor: Tensor }).tensor;
    expect(decoded.bytes).toBe(tensor.bytes);
    expect([decoded.dtype, decoded.shape]).toEqual(["f32", [2, 3]]);
  });

  test("scalars, empty ones and every dtype", () => {
    for (const dtype of ["f32", "f16", "bf16", "f64", "i64", "i32", "u8", "i8", "bool"] as const) {
      for (const shape of [[], [0], [3, 0, 2], [5]]) {
        const decoded = roundTrip(Tensor.zeros(dtype, shape)) as Tensor;
        expect([decoded.dtype, decoded.shape]).toEqual([dtype, shape]);
      }
    }
  });

  test("one whose segment has another length is refused", () => {
    const { header } = codec.encode(Tensor.zeros("f32", [4]));
    expect(code(() => codec.decode(header, [new Uint8Array(15)]))).toBe("MALFORMED_HEADER");
    expect(code(() => codec.decode(header, []))).toBe("MALFORMED_HEADER");
  });
});

test("what has no form on the wire is refused by name", () => {
  class Thing {}
  for (const value of [new Thing(), new Map(), new Float32Array(2), () => 1, Symbol("s")]) {
    expect(code(() => codec.encode([value]))).toBe("UNENCODABLE");
  }
  expect(() => codec.encode(new Map())).toThrow("Map");
  expect(roundTrip("and the codec still works")).toBe("and the codec still works");
});

test("limits hold on the way out", () => {
  const small = new Codec(hooks, {
    ...DEFAULT_LIMITS,
    headerBytes: 100,
    segments: 1,
    messageBytes: 50,
    headerDepth: 4,
  });
  expect(code(() => small.encode("x".repeat(200)))).toBe("LIMIT_EXCEEDED");
  expect(code(() => small.encode([Tensor.zeros("u8", [1]), Tensor.zeros("u8", [1])]))).toBe("LIMIT_EXCEEDED");
  expect(code(() => small.encode(Tensor.zeros("u8", [51])))).toBe("LIMIT_EXCEEDED");
  expect(code(() => small.encode([[[[[[1]]]]]]))).toBe("UNENCODABLE");
});

test("headers that would cost more than they weigh are refused before they are decoded", () => {
  expect(code(() => codec.decode(Uint8Array.of(0xdd, 0xff, 0xff, 0xff, 0xff), []))).toBe("MALFORMED_HEADER");
  expect(code(() => codec.decode(Uint8Array.of(0xdf, 0xff, 0xff, 0xff, 0xff), []))).toBe("MALFORMED_HEADER");
  expect(code(() => codec.decode(new Uint8Array(1000).fill(0x91), []))).toBe("MALFORMED_HEADER");
});

test("a property that would change an object's prototype crosses in neither direction", () => {
  expect(code(() => codec.encode(JSON.parse('{"__proto__": {"a": 1}}')))).toBe("UNENCODABLE");
  const bytes = codec.encode({ __pr0to__: 1 }).header.slice();
  bytes[bytes.indexOf(0x30)] = 0x6f; // the digit becomes the letter
  expect(code(() => codec.decode(bytes))).toBe("MALFORMED_HEADER");
});

test("a byte string that would be a view of the borrowed header is refused", () => {
  expect(code(() => codec.decode(Uint8Array.of(0xc4, 2, 1, 2)))).toBe("MALFORMED_HEADER");
  expect(code(() => codec.decode(Uint8Array.of(0xc7, 4, 4, 0xc4, 2, 1, 2)))).toBe("MALFORMED_HEADER");
});

test("any bytes decode or are refused, by name", () => {
  const random = seededRandom(7);
  const honest = codec.encode({ a: [1n, new Error("e"), Tensor.zeros("u8", [2])], b: { c: "text", d: 1.5 } });
  for (let i = 0; i < 3000; i++) {
    let bytes = random.bytes(1 + random.integer(40));
    if (i % 2 === 0) {
      bytes = honest.header.slice(0, i % 4 === 0 ? undefined : random.integer(honest.header.byteLength));
      if (bytes.length > 0) bytes[random.integer(bytes.length)] = random.integer(256);
    }
    try {
      codec.decode(bytes, honest.segments);
    } catch (error) {
      expect((error as ProtocolError).code).toBe("MALFORMED_HEADER");
    }
  }
});
