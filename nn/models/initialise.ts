/**
 * Schemes for initial weights, as functions of (seed, name, shape): every device forms the same bits for itself.
 * Element i of a parameter comes from the random stream that its name owns; `init.ts` says how a word of it becomes
 * a number.
 *
 * All are uniform around zero with the standard deviation that the scheme's paper asks for. Where PyTorch's models
 * draw from a normal distribution of that deviation, these do not: a normal one takes logarithms and cosines, and no
 * two platforms round those alike. What the schemes are about, the variance, is the same.
 */

import { elements, type Shape, Tensor } from "../../protocols/tensor.ts";
import { uniformTensor } from "./init.ts";

/** Makes the initial value of the parameter `name`. */
export type Scheme = (seed: number, name: string, shape: Shape) => Tensor;

/** Every element is `value`. */
export const constant =
  (value: number): Scheme =>
  (_seed, _name, shape) =>
    Tensor.f32(shape, new Float32Array(elements(shape)).fill(value));

/** Uniform with the standard deviation `std`. */
export const spread =
  (std: number): Scheme =>
  (seed, name, shape) =>
    uniformTensor(seed, name, shape, std);

/**
 * Keeps the variance through layers followed by a rectifier: variance 2 / `fan`, where the fan is the inputs that a
 * unit adds up (for what goes forward) or the outputs that read it (for gradients). He et al., "Delving Deep into
 * Rectifiers", 2015.
 */
export const kaiming = (fan: number): Scheme => spread(Math.sqrt(2 / fan));

/** Between the two fans: variance 2 / (in + out). Glorot and Bengio, 2010. */
export const xavier = (fanIn: number, fanOut: number): Scheme => spread(Math.sqrt(2 / (fanIn + fanOut)));

/** Variance 1 / `fanIn`: LeCun et al., "Efficient BackProp", 1998. */
export const lecun = (fanIn: number): Scheme => spread(Math.sqrt(1 / fanIn));

/** What PyTorch's Linear and Conv start from, weights and biases: uniform in ±1/√fanIn, variance 1 / (3 · fanIn). */
export const torchDefault = (fanIn: number): Scheme => spread(Math.sqrt(1 / (3 * fanIn)));
