/** Random instances of the rules that move elements and look them up; see ../rule-cases.ts. */

import { elements, Tensor } from "../../../../protocols/tensor.ts";
import type { Chance } from "../../engine/operator-cases.ts";
import type { RuleCase } from "../rule-cases.ts";

type Maker = (chance: Chance) => RuleCase;

const ints = (values: readonly number[]) => Tensor.i64([values.length], values);

const slice: Maker = (c) => {
  const shape = c.shape();
  const axes = c.axes(shape.length);
  const starts = axes.map((axis) => c.int(-shape.at(axis)!, shape.at(axis)! - 1));
  const steps = axes.map(() => c.pick(1, 1, 2, 3, -1, -2));
  // A forward slice ends beyond its start, a backward one in front of it: none is empty.
  const ends = axes.map((axis, i) => {
    const size = shape.at(axis)!;
    const start = starts[i]! < 0 ? starts[i]! + size : starts[i]!;
    return steps[i]! > 0 ? c.pick(c.int(start + 1, size), 1000) : c.pick(start - 1 - size, -1000);
  });
  return { inputs: [c.f32(shape), ...[starts, ends, axes, steps].map(ints)], constant: [1, 2, 3, 4] };
};

const pad: Maker = (c) => {
  const shape = c.shape(c.int(1, 3)).map((dim) => dim + 1);
  const mode = c.pick("constant", "reflect", "reflect", "edge", "wrap");
  if (mode === "constant") {
    const axes = c.axes(shape.length);
    const pads = axes.flatMap(() => [c.int(0, 2), c.int(-1, 2)]);
    const value = [Tensor.f32(c.pick([], [1]), [0.5])];
    return { inputs: [c.f32(shape), ints(pads), ...value, ints(axes)], constant: [1, 3] };
  }
  const amount = (dim: number) =>
    c.int(mode === "reflect" ? 1 : 0, mode === "reflect" ? dim - 1 : Math.min(dim, 3));
  const pads = [...shape.map(amount), ...shape.map(amount)];
  return { inputs: [c.f32(shape), ints(pads)], constant: [1], attributes: { mode } };
};

/** Indices along an axis, as GatherElements takes them; repeated ones only where they may be. */
const pointed = (c: Chance, repeat: boolean) => {
  const shape = c.shape(c.int(1, 3));
  const axis = c.int(-shape.length, shape.length - 1);
  const size = shape.at(axis)!;
  const positive = (axis + shape.length) % shape.length;
  const count = repeat ? 3 : c.int(1, size);
  const indices = shape.map((dim, i) => (i === positive ? count : c.int(1, dim)));
  if (repeat) return { shape, axis, indices: c.i64(indices, -size, size - 1) };
  const order = c.permutation(size);
  const inner = elements(indices.slice(positive + 1));
  const data = Array.from(
    { length: elements(indices) },
    (_, i) => order[Math.floor(i / inner) % count]! - c.pick(0, size),
  );
  return { shape, axis, indices: Tensor.i64(indices, data) };
};

const gather: Maker = (c) => {
  const shape = c.shape(c.int(1, 3));
  const axis = c.int(-shape.length, shape.length - 1);
  const size = shape.at(axis)!;
  const attributes = { axis };
  if (c.int(0, 2) === 0) {
    // Constant: one element, or a range.
    const start = c.int(0, size - 1);
    const count = c.int(1, size - start);
    const range = Array.from({ length: count }, (_, i) => start + i - c.pick(0, size));
    const indices = c.pick(Tensor.i64([], [start - size]), ints(range));
    return { inputs: [c.f32(shape), indices], constant: [1], attributes };
  }
  // More indices than rows: some rows are read several times.
  return { inputs: [c.f32(shape), c.i64(c.pick([], [7], [3, 4]), -size, size - 1)], attributes };
};

const gatherND: Maker = (c) => {
  const shape = c.shape(c.int(2, 4));
  const batch = c.int(0, shape.length - 2);
  const depth = c.int(1, shape.length - batch);
  const rows = [...shape.slice(0, batch), c.int(1, 3)];
  const dims = shape.slice(batch, batch + depth);
  const indices = Array.from({ length: elements(rows) }, () => dims.map((dim) => c.int(-dim, dim - 1)));
  return {
    inputs: [c.f32(shape), Tensor.i64([...rows, depth], indices.flat())],
    attributes: { batch_dims: batch },
  };
};

/** Rows that are all different, so that it does not matter which is written last. */
const scatterND: Maker = (c) => {
  const shape = c.shape(c.int(1, 3));
  const reduction = c.pick("none", "add");
  const rows = reduction === "none" ? c.permutation(shape[0]!) : [0, 0, c.int(-shape[0]!, shape[0]! - 1)];
  return {
    inputs: [c.f32(shape), Tensor.i64([rows.length, 1], rows), c.f32([rows.length, ...shape.slice(1)])],
    ...((reduction === "add" || c.int(0, 1) === 1) && { attributes: { reduction } }),
  };
};

export const LAYOUT_RULE_CASES: Readonly<Record<string, Maker>> = {
  Flatten: (c) => {
    const shape = c.shape();
    return { inputs: [c.f32(shape)], attributes: { axis: c.int(-shape.length, shape.length) } };
  },
  Tile: (c) => {
    const shape = c.shape();
    return { inputs: [c.f32(shape), ints(shape.map(() => c.int(1, 3)))], constant: [1] };
  },
  /** One that drops nothing; test/nn/passes/dropout.test.ts has the others. */
  Dropout: (c) => {
    const mode = new Tensor("bool", [], Uint8Array.of(c.int(0, 1)));
    const ratio = Tensor.f32([], [mode.bytes[0] ? 0 : 0.5]);
    return { inputs: [c.f32(c.shape()), ...(c.int(0, 2) ? [ratio, mode] : [])], constant: [1, 2] };
  },
  DepthToSpace: (c) => {
    const block = c.int(1, 2);
    const shape = [c.int(1, 2), c.int(1, 2) * block * block, c.int(1, 3), c.int(1, 3)];
    return { inputs: [c.f32(shape)], attributes: { blocksize: block, mode: c.pick("DCR", "CRD") } };
  },
  SpaceToDepth: (c) => {
    const block = c.int(1, 2);
    const shape = [c.int(1, 2), c.int(1, 3), c.int(1, 2) * block, c.int(1, 2) * block];
    return { inputs: [c.f32(shape)], attributes: { blocksize: block } };
  },
  Slice: slice,
  Pad: pad,
  Trilu: (c) => {
    const inputs = [c.f32(c.shape(c.int(2, 3)))];
    if (c.int(0, 2) === 0) return { inputs };
    const attributes = { upper: c.int(0, 1) };
    return { inputs: [...inputs, Tensor.i64([], [c.int(-2, 2)])], constant: [1], attributes };
  },
  CumSum: (c) => {
    const shape = c.shape(c.int(1, 3));
    const attributes = { exclusive: c.int(0, 1), reverse: c.int(0, 1) };
    const axis = Tensor.i64([], [c.int(-shape.length, shape.length - 1)]);
    return { inputs: [c.f32(shape), axis], constant: [1], attributes };
  },
  Gather: gather,
  GatherElements: (c) => {
    const { shape, axis, indices } = pointed(c, true);
    return { inputs: [c.f32(shape), indices], attributes: { axis } };
  },
  GatherND: gatherND,
  ScatterElements: (c) => {
    const reduction = c.pick("none", "add");
    const { shape, axis, indices } = pointed(c, reduction === "add");
    return { inputs: [c.f32(shape), indices, c.f32(indices.shape)], attributes: { axis, reduction } };
  },
  ScatterND: scatterND,
  TopK: (c) => {
    const shape = c.shape();
    const axis = c.int(-shape.length, shape.length - 1);
    const order = c.permutation(elements(shape)).map((x) => x / 8 - 2);
    const attributes = { axis, largest: c.int(0, 1) };
    return {
      inputs: [Tensor.f32(shape, order), ints([c.int(1, shape.at(axis)!)])],
      constant: [1],
      attributes,
    };
  },
};
