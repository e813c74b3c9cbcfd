/** What is said on a wire: tensors, frames, codec, chunking, credit, handshake, messages. No sockets, no timers. */

export { type Allocate, Assembler, type InMessage } from "./assemble.ts";
export { Interleaver, type OutFrame, type OutMessage } from "./chunk.ts";
export { Codec, type CodecHooks, type Encoded } from "./codec.ts";
export { CompressedTensor, compressed, ErrorFeedback, tensorCodec } from "./codecs/compressed.ts";
export { bf16, f16 } from "./codecs/half.ts";
export { int8 } from "./codecs/int8.ts";
export type { TensorCodec } from "./codecs/tensor_codec.ts";
export { topK } from "./codecs/topk.ts";
export { type Account, ReceiveWindow, SendWindow } from "./credit.ts";
export { EnvelopeCodec } from "./envelope.ts";
export { ProtocolError, type ProtocolErrorCode } from "./errors.ts";
export {
  encodeFrame,
  type FrameHeader,
  FrameKind,
  FrameReader,
  type FrameSink,
  PROTOCOL_VERSION,
} from "./frame.ts";
export {
  type Channel,
  Handshake,
  type HandshakeOptions,
  type HandshakeStep,
  type Identity,
} from "./handshake.ts";
export { DEFAULT_LIMITS, HANDSHAKE_BYTES, type Limits } from "./limits.ts";
export { type ActorAddress, type DownReason, type Envelope, fromWire, toWire } from "./messages.ts";
export { Replays } from "./replays.ts";
export { byteLength, DTYPE_BYTES, type DType, elements, type Shape, Tensor, TensorError } from "./tensor.ts";
