/**
 * What can be wrong with what came over a wire. A `ProtocolError` closes the link it happened on and touches no
 * other; its code is stable, its message names what was expected and what came.
 */

/** What was wrong with what came, for programs. A code does not change its meaning. */
export type ProtocolErrorCode =
  /** The first two bytes of a frame are not ours: something else is talking to this port. */
  | "BAD_MAGIC"
  /** The other end speaks another version of the protocol. */
  | "VERSION_MISMATCH"
  /** A frame, message or header is larger than the limits allow, or the frames open at once are too many. */
  | "LIMIT_EXCEEDED"
  /** A frame kind nobody defined, or one that is not allowed at this point. */
  | "UNEXPECTED_FRAME"
  /** A chunk for an unknown message, out of order, or longer than what is left of its segment. */
  | "BAD_CHUNK"
  /** A header that is not valid msgpack, nests too deep, or is not a known message. */
  | "MALFORMED_HEADER"
  /** The bytes ended in the middle of a frame or message. */
  | "TRUNCATED"
  /** One end of the handshake has a join token and the other has none. */
  | "NO_TOKEN"
  /** The proof of the join token is wrong: the peer has another one. */
  | "WRONG_TOKEN"
  /** The handshake, or a part of it, was said before: somebody has recorded it. */
  | "REPLAYED"
  /** The other end shows none, or another certificate than the one that was expected of it. */
  | "WRONG_CERTIFICATE"
  /** The two ends see different certificates: somebody in between ends the encryption and relays the rest. */
  | "CHANNEL_MISMATCH"
  /** One end speaks TLS and the other plain text. */
  | "TLS_MISMATCH"
  /** More credit was given back than was ever spent. */
  | "BAD_CREDIT"
  /** A value that has no form on the wire (a function, a class instance, a typed array that is not a tensor). */
  | "UNENCODABLE";

/** Something came, or was to be sent, that the protocol does not allow. */
export class ProtocolError extends Error {
  /** The same on every node, where the class is not. */
  override readonly name = "ProtocolError";
  /** Compare this, not the class or the message. */
  readonly code: ProtocolErrorCode;

  /** `message` names what was expected and what came. */
  constructor(code: ProtocolErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
