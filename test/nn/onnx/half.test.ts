import { describe, expect, test } from "bun:test";
import { fromHalfBits, roundHalf, toHalfBits } from "../../../nn/onnx/half.ts";
import { filledTensor, numbersOf } from "../../../nn/onnx/numbers.ts";
import { DTYPE_BYTES, type DType } from "../../../protocols/tensor.ts";

describe("sixteen-bit floats", () => {
  test.each(["f16", "bf16"] as const)("every %s comes back as the bits it was", (dtype) => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = fromHalfBits(dtype, bits);
      if (!Number.isNaN(value)) expect(toHalfBits(dtype, value)).toBe(bits);
    }
    expect(roundHalf(dtype, Number.NaN)).toBeNaN();
  });

  test.each<["f16" | "bf16", number, number]>([
    ["f16", 1 + 2 ** -11, 1],
    ["f16", 1 + 3 * 2 ** -11, 1 + 2 ** -9],
    ["f16", 65519, 65504],
    ["f16", 65520, Number.POSITIVE_INFINITY],
    ["f16", 2 ** -25, 0],
    ["f16", -1.5 * 2 ** -25, -(2 ** -24)],
    ["bf16", 1 + 2 ** -8, 1],
    ["bf16", 1 + 3 * 2 ** -8, 1 + 2 ** -6],
    ["bf16", -3.4e38, Number.NEGATIVE_INFINITY],
  ])("%s rounds %f to the nearest, ties to even: %f", (dtype, x, nearest) => {
    expect(roundHalf(dtype, x)).toBe(nearest);
  });
});

test("a filled tensor holds its value, whatever its type", () => {
  for (const dtype of Object.keys(DTYPE_BYTES) as DType[]) {
    expect(numbersOf(filledTensor(dtype, [2, 1], 1))).toEqual([1, 1]);
  }
  expect(numbersOf(filledTensor("i8", [1], -3))).toEqual([-3]);
  expect(numbersOf(filledTensor("i64", [1], -(2 ** 40)))).toEqual([-(2 ** 40)]);
});
