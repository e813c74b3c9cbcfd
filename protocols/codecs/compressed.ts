/**
 * Tensors that travel in fewer bytes. `compressed(tensor, codec)` is the same tensor, over the same memory, that
 * says how it wants to cross a wire: on the way it is encoded, where it arrives it is an ordinary f32 tensor again.
 * Whoever sends decides, for each tensor and so for each link; the receiver need not know. Within a node nothing
 * is encoded, so nothing is lost.
 *
 * Error feedback keeps what a lossy codec leaves out and adds it to the next tensor of the same kind, so that over
 * time nothing is lost (Seide et al., "1-Bit Stochastic Gradient Descent", 2014; Karimireddy et al., "Error
 * Feedback Fixes SignSGD", ICML 2019). Its tensors are what arrives, on whichever node they are read.
 */

import { type DType, type Shape, Tensor, TensorError } from "../tensor.ts";
import { bf16, f16 } from "./half.ts";
import { int8 } from "./int8.ts";
import { floatsOf, type TensorCodec } from "./tensor_codec.ts";
import { topK } from "./topk.ts";

const NAMED: Readonly<Record<string, TensorCodec>> = { f16, bf16, int8 };

/** The codec of this name: `f16`, `bf16`, `int8`, or `top-0.01` for a hundredth. @throws TensorError for others. */
export function tensorCodec(name: string): TensorCodec {
  const known = Object.hasOwn(NAMED, name) ? NAMED[name] : undefined;
  if (known) return known;
  if (/^top-[0-9.e-]{1,24}$/.test(name)) return topK(Number(name.slice(4)));
  throw new TensorError(
    `no tensor codec "${name.slice(0, 40)}"; there are f16, bf16, int8 and top-<fraction>`,
  );
}

/** An f32 tensor with the form in which it crosses a wire. */
export class CompressedTensor extends Tensor {
  /** The form it takes on a wire. */
  readonly codec: TensorCodec;
  private readonly made: Uint8Array | undefined;

  /** Over the memory of `bytes`. `made`: what the codec has made of it already. */
  constructor(dtype: DType, shape: Shape, bytes: Uint8Array, codec: TensorCodec, made?: Uint8Array) {
    super(dtype, shape, bytes);
    this.codec = codec;
    this.made = made;
  }

  /** Its bytes on the wire. */
  encode(): Uint8Array {
    return this.made ?? this.codec.encode(floatsOf(this));
  }
}

/**
 * The same tensor, over the same memory, that crosses wires in the form of a codec.
 * @throws TensorError unless it is f32, or for a codec nobody knows.
 */
export function compressed(tensor: Tensor, codec: TensorCodec | string): CompressedTensor {
  if (tensor.dtype !== "f32") throw new TensorError(`only f32 is compressed, not ${tensor.dtype}`);
  const found = typeof codec === "string" ? tensorCodec(codec) : codec;
  return new CompressedTensor("f32", tensor.shape, tensor.bytes, found);
}

/** The sender's memory of what its codec left out; one for each place in a model that sends again and again. */
export class ErrorFeedback {
  private readonly codec: TensorCodec;
  private residual: Float32Array | undefined;

  /** With nothing left out yet. @throws TensorError for a codec nobody knows. */
  constructor(codec: TensorCodec | string) {
    this.codec = typeof codec === "string" ? tensorCodec(codec) : codec;
  }

  /**
   * What is to be sent instead of `tensor` (borrowed): it and what was left out before, as far as the codec carries
   * it. In memory of its own. What is not finite is sent and not remembered, or it would never go away.
   * @throws TensorError unless it is f32 and as large as the ones before.
   */
  apply(tensor: Tensor): CompressedTensor {
    const values = floatsOf(tensor);
    const { residual } = this;
    if (residual && residual.length !== values.length) {
      throw new TensorError(`error feedback of ${residual.length} elements, a tensor of ${values.length}`);
    }
    const wanted = values.slice();
    if (residual) for (let i = 0; i < wanted.length; i++) wanted[i] = wanted[i]! + residual[i]!;
    const made = this.codec.encode(wanted);
    const carried = this.codec.decode(made, wanted.length);
    for (let i = 0; i < wanted.length; i++) {
      const lost = wanted[i]! - carried[i]!;
      wanted[i] = Number.isFinite(lost) ? lost : 0;
    }
    this.residual = wanted;
    return new CompressedTensor("f32", tensor.shape, new Uint8Array(carried.buffer), this.codec, made);
  }

  /** Forgets what was left out: the next tensor has nothing to do with the ones before. */
  reset(): void {
    this.residual = undefined;
  }
}
