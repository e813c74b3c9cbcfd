/** Cases of elementwise arithmetic beyond the transformer's: see operator-cases.ts. */

import { Tensor } from "../../../../protocols/tensor.ts";
import type { Chance, OperatorCase } from "../operator-cases.ts";

type Maker = (chance: Chance) => OperatorCase;

const unary =
  (low: number, high: number): Maker =>
  (c) => ({ inputs: [c.f32(c.shape(), low, high)] });

/** Halves among others, where rounding has two neighbours to choose from. */
const halves: Maker = (c) => {
  const tensor = c.f32(c.shape(), -4, 4);
  return {
    inputs: [
      Tensor.f32(
        tensor.shape,
        tensor.f32().map((x) => c.pick(x, Math.round(x) + 0.5)),
      ),
    ],
  };
};

const logical: Maker = (c) => {
  const shape = c.shape();
  return { inputs: [c.bool(shape), c.bool(c.narrowed(shape))] };
};

/** With infinities and NaN among the elements. */
const special: Maker = (c) => {
  const tensor = c.f32(c.shape());
  const values = tensor.f32().map((x) => c.pick(x, Infinity, -Infinity, NaN));
  return { inputs: [Tensor.f32(tensor.shape, values)] };
};

export const ELEMENTWISE_CASES: Readonly<Record<string, Maker>> = {
  Tan: unary(-1.4, 1.4),
  Asin: unary(-1, 1),
  Acos: unary(-1, 1),
  Atan: unary(-5, 5),
  Sinh: unary(-3, 3),
  Cosh: unary(-3, 3),
  Asinh: unary(-5, 5),
  Acosh: unary(1, 5),
  Atanh: unary(-0.9, 0.9),
  Sign: (c) => ({ inputs: [c.pick(c.f32(c.shape()), c.i64(c.shape(), -1, 1))] }),
  Floor: halves,
  Ceil: halves,
  Round: halves,
  Not: (c) => ({ inputs: [c.bool(c.shape())] }),
  And: logical,
  Or: logical,
  Xor: logical,
  IsNaN: special,
  IsInf: (c) => ({
    ...special(c),
    attributes: c.pick<Record<string, number>>({}, { detect_negative: 0 }, { detect_positive: 0 }),
  }),
  Mean: (c) => {
    const shape = c.shape();
    return {
      inputs: [shape, c.narrowed(shape), c.narrowed(shape)].slice(0, c.int(1, 3)).map((s) => c.f32(s)),
    };
  },
  Mod: (c) => {
    const shape = c.shape();
    if (c.int(0, 1)) return { inputs: [c.i64(shape, -9, 9), c.i64(c.narrowed(shape), 1, 5)] };
    return { inputs: [c.f32(shape, -9, 9), c.f32(c.narrowed(shape), 0.5, 3)], attributes: { fmod: 1 } };
  },
  Clip: (c) => {
    const bounds = [Tensor.f32([], [c.pick(-1, 0)]), Tensor.f32([], [c.pick(0.5, 6)])];
    return { inputs: [c.f32(c.shape()), ...bounds.slice(0, c.int(0, 2))] };
  },
  CastLike: (c) => ({
    inputs: [c.pick(c.f32(c.shape(), -9, 9), c.bool(c.shape())), c.pick(c.f32([1]), c.i64([2], 0, 1))],
  }),
};
