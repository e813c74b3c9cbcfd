/** Cases of the rules of elementwise arithmetic: see rule-cases.ts. */

import { DATA_TYPE } from "../../../../nn/onnx/datatype.ts";
import { Tensor } from "../../../../protocols/tensor.ts";
import type { Chance } from "../../engine/operator-cases.ts";
import type { RuleCase } from "../rule-cases.ts";

type Maker = (chance: Chance) => RuleCase;

export const unary =
  (low = -2, high = 2): Maker =>
  (c) => ({ inputs: [c.f32(c.shape(), low, high)] });

/** Nowhere near a multiple of `step`, where there is a kink. */
export const away =
  (step: number, range = 3): Maker =>
  (c) => {
    const steps = Math.round(range / step);
    const x = c.f32(c.shape(), 0.1 * step, 0.9 * step);
    return {
      inputs: [
        Tensor.f32(
          x.shape,
          x.f32().map((v) => v + step * c.int(-steps, steps - 1)),
        ),
      ],
    };
  };

/** Two or three operands that are nowhere equal. */
const distinct: Maker = (c) => {
  const shape = c.shape();
  const count = c.int(1, 3);
  const inputs = Array.from({ length: count }, (_, i) => {
    const x = c.f32(i === 0 ? shape : c.narrowed(shape), 0.1, 0.9);
    return Tensor.f32(
      x.shape,
      x.f32().map((v) => (v * 0.8) / count + i / count + c.int(-2, 2)),
    );
  });
  return { inputs };
};

const variadic: Maker = (c) => {
  const shape = c.shape();
  return { inputs: [shape, c.narrowed(shape), c.narrowed(shape)].slice(0, c.int(1, 3)).map((s) => c.f32(s)) };
};

const number = (value: number) => Tensor.f32([], [value]);

/** Exponents as models have them: constants, cheap or not, and tensors. */
const pow: Maker = (c) => {
  const shape = c.shape();
  const base = c.f32(shape, 0.3, 2);
  if (c.int(0, 3) === 0) return { inputs: [base, c.f32(c.narrowed(shape), -2, 3)] };
  if (c.int(0, 4) === 0) return { inputs: [base, c.i64([], -2, 3)] };
  return {
    inputs: [base, number(c.pick(-2, -1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 0.3, -1.7))],
    constant: [1],
  };
};

export const ELEMENTWISE_RULE_CASES: Readonly<Record<string, Maker>> = {
  Sum: variadic,
  Mean: variadic,
  Min: distinct,
  Max: distinct,
  Pow: pow,
  Mod: (c) => {
    const shape = c.shape();
    const [x, y] = [c.f32(shape, 0.2, 0.8), c.f32(c.narrowed(shape), 0.9, 1)];
    return {
      inputs: [
        Tensor.f32(
          shape,
          x.f32().map((v) => v * c.pick(1, -1)),
        ),
        y,
      ],
      attributes: { fmod: 1 },
    };
  },
  Abs: away(3),
  Reciprocal: unary(0.3, 3),
  Sin: unary(),
  Cos: unary(),
  Tan: unary(-1, 1),
  Asin: unary(-0.8, 0.8),
  Acos: unary(-0.8, 0.8),
  Atan: unary(),
  Sinh: unary(),
  Cosh: unary(),
  Asinh: unary(),
  Acosh: unary(1.3, 3),
  Atanh: unary(-0.8, 0.8),
  Sign: away(3),
  Floor: away(1),
  Ceil: away(1),
  Round: away(0.5),
  Where: (c) => {
    const shape = c.shape();
    return { inputs: [c.bool(c.narrowed(shape)), c.f32(c.narrowed(shape)), c.f32(shape)] };
  },
  Clip: (c) => {
    const [low, high] = [number(-1), number(1)];
    const inputs = [...away(1)(c).inputs, ...c.pick([], [low], [low, high], [undefined, high])];
    return { inputs, constant: c.pick(undefined, [1, 2]) };
  },
  Cast: (c) => ({ inputs: [c.f32(c.shape())], attributes: { to: DATA_TYPE.f32 } }),
  CastLike: (c) => ({ inputs: [c.f32(c.shape()), c.f32([1])], constant: [1] }),
};
