/**
 * Rotary position embedding (Su et al., "RoFormer", 2021) in transformers' layout: the two halves of a head are the
 * two coordinates of its rotations, so that row t turns x to x·cos + (−x₂, x₁)·sin.
 */

import { Tensor } from "../../protocols/tensor.ts";
import type { GraphBuilder } from "../onnx/builder.ts";

/** How the frequencies of a model trained on short sequences are stretched for long ones. */
export type RotaryScaling =
  | { readonly type: "linear"; readonly factor: number }
  | {
      /** Llama 3.1's: low frequencies by the factor, high ones not, those in between by a mixture. */
      readonly type: "llama3";
      readonly factor: number;
      readonly lowFrequency: number;
      readonly highFrequency: number;
      /** Positions that the model was trained with. */
      readonly original: number;
    };

export interface Rotary {
  readonly theta: number;
  readonly scaling: RotaryScaling | null;
}

/** Radians by which each pair of a head of this size turns from one position to the next; in f32, as transformers. */
export function rotaryFrequencies({ theta, scaling }: Rotary, size: number): Float32Array {
  return Float32Array.from({ length: size / 2 }, (_, i) => {
    const frequency = 1 / Math.fround(theta ** Math.fround((2 * i) / size));
    return scaling === null ? frequency : stretched(Math.fround(frequency), scaling);
  });
}

function stretched(frequency: number, scaling: RotaryScaling): number {
  if (scaling.type === "linear") return frequency / scaling.factor;
  const { factor, lowFrequency, highFrequency, original } = scaling;
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength > original / lowFrequency) return frequency / factor;
  if (wavelength < original / highFrequency) return frequency;
  const smooth = (original / wavelength - lowFrequency) / (highFrequency - lowFrequency);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}

/** Turns x [T, B, heads, size] by position. The tables are constants, one pair for all layers of equal shape. */
export function rotate(b: GraphBuilder, x: string, rotary: Rotary): string {
  const [length, , , size] = b.shape(x) as [number, number, number, number];
  const half = size / 2;
  const frequencies = rotaryFrequencies(rotary, size);
  const table = (name: string, at: (angle: number, first: boolean) => number) => {
    const values = Float32Array.from({ length: length * size }, (_, i) => {
      const [position, column] = [Math.floor(i / size), i % size];
      return at(Math.fround(position * frequencies[column % half]!), column < half);
    });
    return b.constant(`rotary.${name}.${length}.${size}`, Tensor.f32([length, 1, 1, size], values));
  };
  const cos = table("cos", (angle) => Math.cos(angle));
  // The sign of the first half is in the table, so that the halves are swapped and nothing is negated.
  const sin = table("sin", (angle, first) => (first ? -Math.sin(angle) : Math.sin(angle)));
  const [low, high] = b.node("Split", [x, b.ints([half, half])], {
    attributes: { axis: 3 },
    outputs: [b.fresh("rotary.low"), b.fresh("rotary.high")],
  }) as [string, string];
  const swapped = b.op("Concat", [high, low], { axis: 3 });
  return b.op("Add", [b.op("Mul", [x, cos]), b.op("Mul", [swapped, sin])]);
}
