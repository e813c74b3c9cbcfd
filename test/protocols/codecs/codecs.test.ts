import { describe, expect, test } from "bun:test";
import { Codec } from "../../../protocols/codec.ts";
import { compressed, ErrorFeedback, tensorCodec } from "../../../protocols/codecs/compressed.ts";
import { bf16, f16 } from "../../../protocols/codecs/half.ts";
import { INT8_BLOCK, int8 } from "../../../protocols/codecs/int8.ts";
import type { TensorCodec } from "../../../protocols/codecs/tensor_codec.ts";
import { topK } from "../../../protocols/codecs/topk.ts";
import { DEFAULT_LIMITS } from "../../../protocols/limits.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { type Random, seededRandom } from "../../../runtime/random.ts";

const through = (codec: TensorCodec, values: Float32Array) =>
  codec.decode(codec.encode(values), values.length);
const f32 = (...values: number[]) => Float32Array.from(values);
const fromBits = (...bits: number[]) => new Float32Array(Uint32Array.from(bits).buffer);
const bitsOf = (values: Float32Array) => [
  ...new Uint32Array(values.buffer, values.byteOffset, values.length),
];
const specials = f32(0, -0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);

/** Floats of every size: bits at random, without infinities and NaN. */
function anyFloats(random: Random, count: number): Float32Array {
  const values = new Float32Array(random.bytes(4 * count).slice().buffer);
  for (let i = 0; i < count; i++) if (!Number.isFinite(values[i]!)) values[i] = random.next();
  return values;
}

function normal(random: Random, count: number): Float32Array {
  return Float32Array.from({ length: count }, () => random.next() + random.next() + random.next() - 1.5);
}

describe("sixteen-bit floats", () => {
  test("keep zeros with their sign and infinities; NaN stays NaN, whatever its payload", () => {
    for (const codec of [bf16, f16]) {
      expect(bitsOf(through(codec, specials))).toEqual(bitsOf(specials));
      for (const nan of [0x7fc00000, 0x7f800001, 0xff800001, 0x7fffffff]) {
        expect(through(codec, fromBits(nan))[0]).toBeNaN();
      }
    }
  });

  test("are exact for every value they have", () => {
    const all = Uint16Array.from({ length: 0x10000 }, (_, i) => i);
    for (const codec of [bf16, f16]) {
      const values = codec.decode(new Uint8Array(all.buffer), all.length);
      const again = new Uint16Array(codec.encode(values).buffer);
      const changed = [...again].filter((bits, i) => !Number.isNaN(values[i]) && bits !== i);
      expect(changed).toEqual([]);
    }
  });

  test("round to the nearest, ties to even", () => {
    for (const [codec, step] of [
      [bf16, 2 ** -7],
      [f16, 2 ** -10],
    ] as const) {
      const near = (x: number) => through(codec, f32(x))[0];
      expect(near(1 + step / 2)).toBe(1);
      expect(near(1 + (3 * step) / 2)).toBe(1 + 2 * step);
      expect(near(1 + step / 2 + 2 ** -22)).toBe(1 + step);
      expect(near(-(1 + step / 2 - 2 ** -22))).toBe(-1);
    }
    const least = 2 ** -24;
    expect([
      ...through(f16, f32(least / 2, least / 2 + 2 ** -47, 1.5 * least, 2.5 * least, least / 4)),
    ]).toEqual([0, least, 2 * least, 2 * least, 0]);
    expect([...through(f16, f32(65504, 65519.99, 65520))]).toEqual([65504, 65504, Number.POSITIVE_INFINITY]);
    expect(through(bf16, f32(3.4028235e38))[0]).toBe(Number.POSITIVE_INFINITY);
  });

  test("f16 agrees with the platform's, bit for bit", () => {
    const Float16 = (globalThis as { Float16Array?: new (values: Float32Array) => ArrayLike<number> })
      .Float16Array;
    if (!Float16) return; // an older platform has none
    const random = seededRandom(1);
    const values = new Float32Array(40_000);
    for (let i = 0; i < values.length; i++)
      values[i] = (random.next() - 0.5) * 2 ** (random.integer(46) - 28);
    const platform = Float32Array.from(new Float16(values));
    expect(bitsOf(through(f16, values))).toEqual(bitsOf(platform));
  });

  test("errors stay within their bounds for floats of every size", () => {
    const values = anyFloats(seededRandom(2), 50_000);
    const wide = through(bf16, values);
    const narrow = through(f16, values);
    const beyond = values.filter((value, i) => {
      const size = Math.abs(value);
      const bf16Kept = size >= 3.38e38 || Math.abs(wide[i]! - value) <= Math.max(2 ** -8 * size, 2 ** -134);
      const f16Kept =
        size < 65520
          ? Math.abs(narrow[i]! - value) <= Math.max(2 ** -11 * size, 2 ** -25)
          : Math.abs(narrow[i]!) === Number.POSITIVE_INFINITY;
      return !bf16Kept || !f16Kept;
    });
    expect([...beyond]).toEqual([]);
  });
});

describe("blockwise int8", () => {
  test("errors stay within their bound, in whole and broken blocks, for floats of every size", () => {
    const random = seededRandom(3);
    for (const length of [1, 63, 64, 65, 127, 1000]) {
      for (const values of [
        normal(random, length),
        anyFloats(random, length),
        anyFloats(random, length).map((x) => x * 1e-38 * 1e-6),
      ]) {
        const back = through(int8, values);
        for (let from = 0; from < length; from += INT8_BLOCK) {
          const block = values.subarray(from, from + INT8_BLOCK);
          const most = block.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
          const bound = (most / 254) * (1 + 2 ** -20) + 2 ** -142;
          block.forEach((x, i) => void expect(Math.abs(back[from + i]! - x)).toBeLessThanOrEqual(bound));
        }
      }
    }
  });

  test("zeros are exact, and an outlier costs its own block only", () => {
    const values = new Float32Array(3 * INT8_BLOCK).fill(0.5, 0, 2 * INT8_BLOCK);
    values[3] = 1e6;
    const back = through(int8, values);
    expect(back[4]).toBe(0);
    expect(back[INT8_BLOCK]).toBeCloseTo(0.5, 6);
    expect([...back.subarray(2 * INT8_BLOCK)]).toEqual(new Array(INT8_BLOCK).fill(0));
  });

  test("what has diverged shows, in its block", () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const values = new Float32Array(2 * INT8_BLOCK).fill(1);
      values[5] = bad;
      const back = through(int8, values);
      expect(back.subarray(0, INT8_BLOCK).every(Number.isNaN)).toBe(true);
      expect(back[INT8_BLOCK]).toBeCloseTo(1, 6);
    }
  });
});

describe("top-k", () => {
  test("keeps the largest exactly, the first of equals, and nothing else", () => {
    const back = through(topK(0.5), f32(1, -5, 0.1, 5, 5, -2, 0, 1));
    expect([...back]).toEqual([0, -5, 0, 5, 5, -2, 0, 0]);
    expect([...through(topK(0.25), f32(2, 2, 2, 2, 2))]).toEqual([2, 2, 0, 0, 0]);
  });

  test("as sorting would, for floats of every size", () => {
    const random = seededRandom(4);
    for (const fraction of [1 / 256, 0.01, 0.3, 1]) {
      const values = anyFloats(random, 5000);
      const k = Math.ceil(fraction * values.length);
      const least = [...values].map(Math.abs).sort((a, b) => b - a)[k - 1]!;
      const back = through(topK(fraction), values);
      values.forEach((x, i) => void expect(back[i]).toBe(Math.abs(x) >= least ? x : 0));
    }
  });

  test("neither NaN nor infinity is lost", () => {
    const values = new Float32Array(300).fill(1);
    values[7] = Number.NEGATIVE_INFINITY;
    values[200] = Number.NaN;
    const back = through(topK(1 / 256), values);
    expect(back[7]).toBe(Number.NEGATIVE_INFINITY);
    expect(back[200]).toBeNaN();
  });

  test("a few bytes cannot claim a large tensor, indices must rise and lie within", () => {
    const { decode } = topK(1);
    expect(() => decode(new Uint8Array(8), 2 ** 30)).toThrow("do not take 8 bytes");
    const bytes = (...indices: number[]) =>
      new Uint8Array(Uint32Array.from([...indices, ...indices.map(() => 0)]).buffer);
    expect(() => decode(bytes(3, 3), 10)).toThrow("index 3 after 3");
    expect(() => decode(bytes(3, 10), 10)).toThrow("index 10");
    expect(() => topK(0)).toThrow("fraction");
    expect(() => topK(Number.NaN)).toThrow("fraction");
  });
});

test("every codec takes empty tensors, bytes that lie askew, and refuses bytes of another length", () => {
  for (const name of ["f16", "bf16", "int8", "top-0.1"]) {
    const codec = tensorCodec(name);
    expect(codec.name).toBe(name);
    expect(through(codec, new Float32Array(0))).toEqual(new Float32Array(0));
    const values = normal(seededRandom(5), 100);
    const bytes = codec.encode(values);
    const askew = new Uint8Array(bytes.byteLength + 1);
    askew.set(bytes, 1);
    expect(codec.decode(askew.subarray(1), 100)).toEqual(codec.decode(bytes, 100));
    expect(() => codec.decode(bytes.subarray(1), 100)).toThrow("take");
  }
  for (const name of ["f8", "top-2", "top-", "toString", "__proto__"])
    expect(() => tensorCodec(name)).toThrow();
});

describe("a compressed tensor", () => {
  const codec = new Codec({ encodeRef: () => undefined, decodeRef: () => undefined }, DEFAULT_LIMITS);
  const cross = (value: unknown) => {
    const { header, segments } = codec.encode(value);
    const bytes = segments.reduce((sum, s) => sum + s.byteLength, 0);
    return {
      value: codec.decode(
        header.slice(),
        segments.map((s) => s.slice()),
      ),
      bytes,
    };
  };

  test("is the same tensor here, and an ordinary one in fewer bytes where it arrives", () => {
    const tensor = Tensor.f32([10, 20], normal(seededRandom(6), 200));
    for (const [name, bytes] of [
      ["bf16", 400],
      ["f16", 400],
      ["int8", 216],
      ["top-0.05", 80],
    ] as const) {
      const wrapped = compressed(tensor, name);
      expect(wrapped.bytes).toBe(tensor.bytes);
      const arrived = cross({ grad: [wrapped], plain: tensor });
      expect(arrived.bytes).toBe(bytes + 800);
      const { grad, plain } = arrived.value as { grad: [Tensor]; plain: Tensor };
      expect(grad[0].constructor).toBe(Tensor);
      expect([grad[0].dtype, grad[0].shape]).toEqual(["f32", [10, 20]]);
      expect(grad[0].f32()).toEqual(through(tensorCodec(name), tensor.f32()));
      expect(plain.f32()).toEqual(tensor.f32());
    }
  });

  test("of another dtype is refused", () => {
    expect(() => compressed(Tensor.zeros("i32", [2]), "bf16")).toThrow("only f32");
  });

  test("that claims more than it holds is refused by name, before memory is spent", () => {
    const { header, segments } = codec.encode(compressed(Tensor.zeros("f32", [4]), "bf16"));
    for (const segment of [new Uint8Array(0), new Uint8Array(7), new Uint8Array(9)]) {
      expect(() => codec.decode(header, [segment])).toThrow("take 8 bytes");
    }
    expect(() => codec.decode(header, [])).toThrow("segment 0 of 0");
    for (let i = 0; i < header.byteLength; i++) {
      for (const byte of [0, 0x7f, 0xff]) {
        const bad = header.slice();
        bad[i] = byte;
        try {
          codec.decode(bad, segments);
        } catch (error) {
          expect((error as { code?: string }).code).toBe("MALFORMED_HEADER");
        }
      }
    }
  });
});

describe("error feedback", () => {
  test("over time everything arrives: what is missing stays what one message can miss", () => {
    for (const name of ["int8", "top-0.05", "bf16"]) {
      const random = seededRandom(7);
      const feedback = new ErrorFeedback(name);
      const [sent, arrived] = [new Float64Array(300), new Float64Array(300)];
      let missing: number[] = [];
      for (let step = 0; step < 400; step++) {
        const gradient = normal(random, 300);
        gradient.forEach((x, i) => {
          sent[i]! += x;
        });
        feedback
          .apply(Tensor.f32([300], gradient))
          .f32()
          .forEach((x, i) => {
            arrived[i]! += x;
          });
        missing = [...sent].map((x, i) => Math.abs(x - arrived[i]!));
      }
      // At 5 % an element waits some 20 steps for its turn.
      expect(Math.max(...missing)).toBeLessThan(name === "top-0.05" ? 40 : 0.05);
    }
  });

  test("what is read here is what arrives there, and nothing that is not finite is remembered", () => {
    const feedback = new ErrorFeedback("int8");
    const sent = feedback.apply(Tensor.f32([2], [Number.NaN, 1]));
    expect([...int8.decode(sent.encode(), 2)]).toEqual([...sent.f32()]);
    expect([...sent.f32()]).toEqual([Number.NaN, Number.NaN]);
    expect([...feedback.apply(Tensor.f32([2], [1, 1])).f32()].every(Number.isFinite)).toBe(true);
    expect(() => feedback.apply(Tensor.zeros("f32", [3]))).toThrow("of 2 elements");
    feedback.reset();
    expect([...feedback.apply(Tensor.zeros("f32", [3])).f32()]).toEqual([0, 0, 0]);
  });
});
