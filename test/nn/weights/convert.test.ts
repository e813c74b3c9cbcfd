import { describe, expect, test } from "bun:test";
import { fromF32, toF32 } from "../../../nn/weights/convert.ts";
import { Tensor, TensorError } from "../../../protocols/tensor.ts";

const all = new Tensor(
  "f16",
  [1 << 16],
  new Uint8Array(Uint16Array.from({ length: 1 << 16 }, (_, i) => i).buffer),
);
const words = (tensor: Tensor) =>
  new Uint16Array(tensor.bytes.buffer, tensor.bytes.byteOffset, tensor.elements);
const narrowed = (values: readonly number[], dtype: "f16" | "bf16") =>
  [...words(fromF32(Tensor.f32([values.length], values), dtype))].map((word) => word.toString(16));

describe("conversion of weights", () => {
  for (const dtype of ["f16", "bf16"] as const) {
    test(`${dtype} to f32 and back gives every bit pattern back`, () => {
      const tensor = new Tensor(dtype, all.shape, all.bytes);
      const back = words(fromF32(toF32(tensor), dtype));
      const [wide, narrow] = [
        toF32(tensor).f32(),
        toF32(new Tensor(dtype, all.shape, fromF32(toF32(tensor), dtype).bytes)).f32(),
      ];
      back.forEach((word, i) => {
        // Which NaN it is, platforms do not keep.
        if (Number.isNaN(wide[i]!)) expect(narrow[i]).toBeNaN();
        else if (word !== i) throw new Error(`${i.toString(16)} came back as ${word.toString(16)}`);
      });
    });
  }

  test("widens to the values of the standard", () => {
    const half = (bits: number) =>
      toF32(new Tensor("f16", [], new Uint8Array(Uint16Array.of(bits).buffer))).f32()[0];
    expect([0x3c00, 0xc000, 0x7bff, 0x0001, 0x0400, 0x7c00].map(half)).toEqual([
      1,
      -2,
      65504,
      2 ** -24,
      2 ** -14,
      Number.POSITIVE_INFINITY,
    ]);
  });

  test("narrows to the nearest, ties to even", () => {
    expect(
      narrowed([1, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 65519, 65520, 2 ** -25, 2 ** -24 * 1.5, -0], "f16"),
    ).toEqual(["3c00", "3c00", "3c02", "7bff", "7c00", "0", "2", "8000"]);
    expect(narrowed([1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 3.4e38, Number.NEGATIVE_INFINITY], "bf16")).toEqual([
      "3f80",
      "3f80",
      "3f82",
      "7f80",
      "ff80",
    ]);
    const nan = new Tensor("f32", [], new Uint8Array(Uint32Array.of(0x7f800001).buffer));
    for (const dtype of ["f16", "bf16"] as const) expect(toF32(fromF32(nan, dtype)).f32()[0]).toBeNaN();
  });

  test("agrees with the platform's own halves", () => {
    const values = Float32Array.from({ length: 4000 }, (_, i) => Math.sin(i) * 10 ** ((i % 14) - 8));
    const view = new DataView(new ArrayBuffer(2));
    const expected = [...values].map((value) => {
      view.setFloat16(0, value);
      return view.getUint16(0);
    });
    expect([...words(fromF32(Tensor.f32([4000], values), "f16"))]).toEqual(expected);
  });

  test("takes f64, gives f32 back as it is, and refuses integers", () => {
    const wide = new Tensor("f64", [2], new Uint8Array(Float64Array.of(0.1, 2).buffer));
    expect(toF32(wide).f32()).toEqual(Float32Array.of(0.1, 2));
    const single = Tensor.f32([1], [3]);
    expect(toF32(single)).toBe(single);
    expect(fromF32(single, "f32")).toBe(single);
    expect(() => toF32(Tensor.i64([1], [1]))).toThrow(TensorError);
    expect(() => fromF32(wide, "bf16")).toThrow(TensorError);
  });
});
