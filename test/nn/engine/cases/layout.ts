/** Random instances of the operators that move elements, look them up, or make tensors out of constants. */

import { elements, Tensor } from "../../../../protocols/tensor.ts";
import type { Chance, OperatorCase } from "../operator-cases.ts";

type Maker = (chance: Chance) => OperatorCase;

const ints = (values: readonly number[]) => Tensor.i64([values.length], values);
const int = (value: number) => Tensor.i64([], [value]);

/** All different, so that an order is one order. */
const distinct = (c: Chance, shape: readonly number[]): Tensor =>
  Tensor.f32(
    shape,
    c.permutation(elements(shape)).map((x) => x / 8 - 2),
  );

const pad: Maker = (c) => {
  const shape = c.shape(c.int(1, 4)).map((dim) => dim + 1);
  const mode = c.pick("constant", "constant", "reflect", "edge", "wrap");
  const low = mode === "constant" ? -1 : 0;
  if (mode === "constant" && c.int(0, 2) === 0) {
    const axes = c.axes(shape.length);
    const pads = axes.flatMap(() => [c.int(low, 2), c.int(low, 2)]);
    const inputs = [c.f32(shape), ints(pads), Tensor.f32([], [0.5]), ints(axes)];
    return { inputs, constant: [1, 3], attributes: { mode } };
  }
  const amount = (dim: number) => c.int(low, mode === "reflect" ? dim - 1 : Math.min(dim, 2));
  const pads = [...shape.map(amount), ...shape.map(amount)];
  const value = mode === "constant" && c.int(0, 1) ? [Tensor.f32([], [-1.5])] : [];
  return {
    inputs: [c.f32(shape), ints(pads), ...value],
    constant: [1],
    ...(mode !== "constant" && { attributes: { mode } }),
  };
};

const gatherND: Maker = (c) => {
  const shape = c.shape(c.int(2, 4));
  const batch = c.int(0, shape.length - 2);
  const depth = c.int(1, shape.length - batch);
  const rows = [...shape.slice(0, batch), ...c.shape(c.int(0, 2))];
  if (rows.length === batch) rows.push(2);
  const pointed = shape.slice(batch, batch + depth);
  const indices = Array.from({ length: elements(rows) }, () => pointed.map((dim) => c.int(-dim, dim - 1)));
  return {
    inputs: [c.f32(shape), Tensor.i64([...rows, depth], indices.flat())],
    attributes: { batch_dims: batch },
  };
};

const topK: Maker = (c) => {
  const shape = c.shape();
  const axis = c.int(-shape.length, shape.length - 1);
  const attributes = { axis, largest: c.int(0, 1), sorted: 1 };
  return {
    inputs: [distinct(c, shape), ints([c.int(1, shape.at(axis)!)])],
    constant: [1],
    attributes,
    outputs: 2,
  };
};

export const LAYOUT_CASES: Readonly<Record<string, Maker>> = {
  Flatten: (c) => {
    const shape = c.shape();
    return { inputs: [c.f32(shape)], attributes: { axis: c.int(-shape.length, shape.length) } };
  },
  Tile: (c) => {
    const shape = c.shape();
    return { inputs: [c.f32(shape), ints(shape.map(() => c.int(1, 3)))], constant: [1] };
  },
  Pad: pad,
  DepthToSpace: (c) => {
    const block = c.int(1, 3);
    const shape = [c.int(1, 2), c.int(1, 3) * block * block, c.int(1, 3), c.int(1, 3)];
    return { inputs: [c.f32(shape)], attributes: { blocksize: block, mode: c.pick("DCR", "CRD") } };
  },
  SpaceToDepth: (c) => {
    const block = c.int(1, 3);
    const shape = [c.int(1, 2), c.int(1, 3), c.int(1, 3) * block, c.int(1, 3) * block];
    return { inputs: [c.f32(shape)], attributes: { blocksize: block } };
  },
  CumSum: (c) => {
    const shape = c.shape();
    const attributes = { exclusive: c.int(0, 1), reverse: c.int(0, 1) };
    return {
      inputs: [c.f32(shape), int(c.int(-shape.length, shape.length - 1))],
      constant: [1],
      attributes,
    };
  },
  /** One that drops nothing. */
  Dropout: (c) => {
    const training = new Tensor("bool", [], Uint8Array.of(c.int(0, 1)));
    const ratio = Tensor.f32([], [training.bytes[0] ? 0 : 0.5]);
    const options = c.int(0, 2) ? [ratio, training] : [];
    return { inputs: [c.f32(c.shape()), ...options], constant: [1, 2], outputs: 2 };
  },
  Size: (c) => ({ inputs: [c.f32(c.shape())] }),
  EyeLike: (c) => {
    const k = c.int(-2, 2);
    const [FLOAT, INT64] = [1, 7];
    const attributes = c.int(0, 1) ? { k, dtype: c.pick(FLOAT, INT64) } : { k };
    return { inputs: [c.f32(c.shape(2))], attributes } as OperatorCase;
  },
  OneHot: (c) => {
    const indices = c.i64(c.shape(c.int(1, 3)), -4, 5);
    const values = Tensor.f32([2], [c.pick(0, -1), 1.5]);
    return {
      inputs: [indices, int(4), values],
      constant: [1],
      attributes: { axis: c.int(-1, indices.shape.length) },
    };
  },
  GatherND: gatherND,
  TopK: topK,
};
