/**
 * Flushing what the optimiser remembers to zero where it has become too small to matter.
 *
 * The moments of a parameter that gets no gradient any more (a row of an embedding whose token is not seen) shrink by a
 * factor at every step until they are denormal numbers, where rounding keeps them for ever: the last bits times 0.9 are
 * the last bits. Processors are slow with such numbers, and an update of many takes several times as long.
 */

import { GraphBuilder } from "../onnx/builder.ts";
import type { Graph, ValueInfo } from "../onnx/graph.ts";
import { updatedName } from "./update.ts";

/** Smaller than what any optimiser's step could tell from zero, and far above the denormal numbers, 1.2e-38. */
const NEGLIGIBLE = 1e-30;
/** In so many steps, at a decay of 0.9 or more, what is not negligible does not become denormal. */
const EVERY = 64;

/**
 * Whether the update of this step, 0-based, ends in a flush: decided by its number alone, so that every stage of every
 * cut does it at the same steps, after a resume too.
 */
export function isFlushed(step: number): boolean {
  return step % EVERY === EVERY - 1;
}

/** f32 tensors in; out, under `updatedName`s, the same with 0 where the magnitude is negligible. NaN stays. */
export function flushGraph(states: readonly Omit<ValueInfo, "dtype">[]): Graph {
  const b = new GraphBuilder("flush");
  for (const { name, shape } of states) {
    const x = b.input(name, "f32", shape);
    const small = b.op("Less", [b.op("Abs", [x]), b.scalar(NEGLIGIBLE)]);
    b.op("Where", [small, b.scalar(0), x], {}, updatedName(name));
    b.output(updatedName(name));
  }
  return b.build();
}
