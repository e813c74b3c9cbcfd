/** Operators that read or write at indices held in a tensor. */

import { elements } from "../../../protocols/tensor.ts";
import { intAttribute, normalAxis } from "../../onnx/shapes.ts";
import { compute, eachIndex, type NdArray, store, stridesOf } from "./ndarray.ts";
import type { Call, Operator, Operators } from "./operator.ts";

/** An index counted from the front. @throws EngineError outside of the axis. */
function within(call: Call, index: number, size: number): number {
  if (index < -size || index >= size) throw call.error(`index ${index} is outside of an axis of ${size}`);
  return index < 0 ? index + size : index;
}

const gather: Operator = (call) => {
  const [array, indices] = [call.input(0), call.input(1)];
  const axis = normalAxis(intAttribute(call.node, "axis", 0), array.shape.length);
  const size = array.shape[axis]!;
  const inner = elements(array.shape.slice(axis + 1));
  const count = indices.data.length;
  const shape = [...array.shape.slice(0, axis), ...indices.shape, ...array.shape.slice(axis + 1)];
  return [
    compute(array.dtype, shape, (i) => {
      const outer = Math.floor(i / (inner * count));
      const index = within(call, indices.data[Math.floor(i / inner) % count]!, size);
      return array.data[(outer * size + index) * inner + (i % inner)]!;
    }),
  ];
};

/** Calls `visit` with each flat index of `indices` and the flat index in `array` that it points to along the axis. */
function eachPointed(
  call: Call,
  array: NdArray,
  indices: NdArray,
  visit: (flat: number, pointed: number) => void,
): void {
  const axis = normalAxis(intAttribute(call.node, "axis", 0), array.shape.length);
  const strides = stridesOf(array.shape);
  eachIndex(indices.shape, (flat, at) => {
    const index = within(call, indices.data[flat]!, array.shape[axis]!);
    visit(
      flat,
      at.reduce((sum, position, i) => sum + (i === axis ? index : position) * strides[i]!, 0),
    );
  });
}

const gatherElements: Operator = (call) => {
  const [array, indices] = [call.input(0), call.input(1)];
  const result = compute(array.dtype, indices.shape, () => 0);
  eachPointed(call, array, indices, (flat, pointed) => {
    result.data[flat] = array.data[pointed]!;
  });
  return [result];
};

const REDUCTIONS: Readonly<Record<string, (old: number, update: number) => number>> = {
  none: (_, update) => update,
  add: (old, update) => old + update,
  mul: (old, update) => old * update,
  min: Math.min,
  max: Math.max,
};

/** How a scattered element is combined with what is there. */
function combine(call: Call): (old: number, update: number) => number {
  const reduction = call.node.attributes.reduction ?? "none";
  const f = REDUCTIONS[String(reduction)];
  if (f) return f;
  throw call.error(`reduction "${reduction}" is not supported`);
}

const scatterElements: Operator = (call) => {
  const [array, indices, updates] = [call.input(0), call.input(1), call.input(2)];
  const [result, round, f] = [array.data.slice(), store(array.dtype), combine(call)];
  eachPointed(call, array, indices, (flat, pointed) => {
    result[pointed] = round(f(result[pointed]!, updates.data[flat]!));
  });
  return [{ ...array, data: result }];
};

/** Each row of `indices` (its last axis) names a slice of the array; `updates` holds one slice per row. */
const scatterND: Operator = (call) => {
  const [array, indices, updates] = [call.input(0), call.input(1), call.input(2)];
  const [result, round, f] = [array.data.slice(), store(array.dtype), combine(call)];
  const depth = indices.shape.at(-1)!;
  const strides = stridesOf(array.shape);
  const size = elements(array.shape.slice(depth));
  for (let row = 0; row * depth < indices.data.length; row++) {
    let start = 0;
    for (let axis = 0; axis < depth; axis++) {
      start += within(call, indices.data[row * depth + axis]!, array.shape[axis]!) * strides[axis]!;
    }
    for (let i = 0; i < size; i++) {
      result[start + i] = round(f(result[start + i]!, updates.data[row * size + i]!));
    }
  }
  return [{ ...array, data: result }];
};

/** As scatterND reads its indices; the first `batch_dims` axes of array and indices go together. */
const gatherND: Operator = (call) => {
  const [array, indices] = [call.input(0), call.input(1)];
  const batch = intAttribute(call.node, "batch_dims", 0);
  const depth = indices.shape.at(-1)!;
  const size = elements(array.shape.slice(batch + depth));
  const strides = stridesOf(array.shape);
  const perBatch = elements(indices.shape.slice(batch, -1));
  const shape = [...indices.shape.slice(0, -1), ...array.shape.slice(batch + depth)];
  return [
    compute(array.dtype, shape, (i) => {
      const row = Math.floor(i / size);
      let at = Math.floor(row / perBatch) * (strides[batch - 1] ?? 0);
      for (let axis = 0; axis < depth; axis++) {
        const index = within(call, indices.data[row * depth + axis]!, array.shape[batch + axis]!);
        at += index * strides[batch + axis]!;
      }
      return array.data[at + (i % size)]!;
    }),
  ];
};

/** The k largest (or smallest) elements along an axis, in order, the first of equal ones first; and their places. */
const topK: Operator = (call) => {
  const { dtype, shape, data } = call.input(0);
  const axis = normalAxis(intAttribute(call.node, "axis", -1), shape.length);
  const k = call.numbers(1)[0]!;
  const sign = intAttribute(call.node, "largest", 1) === 1 ? -1 : 1;
  const inner = elements(shape.slice(axis + 1));
  const size = shape[axis]!;
  const values = compute(dtype, shape.with(axis, k), () => 0);
  const places = compute("i64", shape.with(axis, k), () => 0);
  for (let line = 0; line < data.length / size; line++) {
    const [outer, column] = [Math.floor(line / inner), line % inner];
    const at = (i: number) => data[(outer * size + i) * inner + column]!;
    const order = Array.from({ length: size }, (_, i) => i).sort((i, j) => sign * (at(i) - at(j)) || i - j);
    for (let i = 0; i < k; i++) {
      values.data[(outer * k + i) * inner + column] = at(order[i]!);
      places.data[(outer * k + i) * inner + column] = order[i]!;
    }
  }
  return [values, places];
};

export const indexing: Operators = {
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherND,
  TopK: topK,
  ScatterElements: scatterElements,
  ScatterND: scatterND,
};
