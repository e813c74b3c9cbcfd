/** Tensors cut into the parts that ranks have, and joined again: bytes are moved, never changed. */

import { byteLength, DTYPE_BYTES, elements, Tensor, TensorError } from "../../protocols/tensor.ts";
import { type Cut, cutLength, type Range, rangesLength } from "./layout.ts";

/** How many indices each rank has. */
export const sizesOf = ({ ranges }: Cut): number[] => ranges.map(rangesLength);

/** The part of a whole tensor that a rank has, in memory of its own. */
export function sliceTensor(whole: Tensor, { axis, ranges }: Cut, rank: number): Tensor {
  const own = ranges[rank]!;
  const result = Tensor.zeros(whole.dtype, whole.shape.with(axis, rangesLength(own)));
  eachRun(whole, axis, own, (inWhole, inPart, bytes) => {
    result.bytes.set(whole.bytes.subarray(inWhole, inWhole + bytes), inPart);
  });
  return result;
}

/** As `sliceTensor`, but a view of the whole where the part lies in one piece there: to be read, not kept. */
export function viewPart(whole: Tensor, cut: Cut, rank: number): Tensor {
  const own = cut.ranges[rank]!;
  const [first] = own;
  if (!first || own.length > 1 || elements(whole.shape.slice(0, cut.axis)) !== 1) {
    return sliceTensor(whole, cut, rank);
  }
  const shape = whole.shape.with(cut.axis, first[1] - first[0]);
  const row = byteLength(whole.dtype, whole.shape.slice(cut.axis + 1));
  return new Tensor(whole.dtype, shape, whole.bytes.subarray(first[0] * row, first[1] * row));
}

/**
 * The whole tensor, of the ranks' parts in their order.
 * @throws TensorError for a part that is not as large as its ranges say.
 */
export function joinTensors(parts: readonly Tensor[], cut: Cut): Tensor {
  const [first] = parts as [Tensor];
  const whole = Tensor.zeros(first.dtype, first.shape.with(cut.axis, cutLength(cut)));
  joinInto(whole, parts, cut);
  return whole;
}

/** As `joinTensors`, into memory that is there. @throws TensorError as it does. */
export function joinInto(whole: Tensor, parts: readonly Tensor[], { axis, ranges }: Cut): void {
  parts.forEach((tensor, rank) => {
    const expected = whole.shape.with(axis, rangesLength(ranges[rank] ?? []));
    if (tensor.dtype === whole.dtype && tensor.shape.join() === expected.join()) return;
    throw new TensorError(`rank ${rank} has a part of [${tensor.shape}], its ranges are of [${expected}]`);
  });
  parts.forEach((tensor, rank) => {
    eachRun(whole, axis, ranges[rank]!, (inWhole, inPart, bytes) => {
      whole.bytes.set(tensor.bytes.subarray(inPart, inPart + bytes), inWhole);
    });
  });
}

/** Every run of bytes that is contiguous both in the whole and in the part. */
function eachRun(
  { dtype, shape }: Tensor,
  axis: number,
  ranges: readonly Range[],
  visit: (inWhole: number, inPart: number, bytes: number) => void,
): void {
  const inner = elements(shape.slice(axis + 1)) * DTYPE_BYTES[dtype];
  const outer = elements(shape.slice(0, axis));
  let inPart = 0;
  for (let i = 0; i < outer; i++) {
    for (const [from, to] of ranges) {
      const bytes = (to - from) * inner;
      visit((i * shape[axis]! + from) * inner, inPart, bytes);
      inPart += bytes;
    }
  }
}
