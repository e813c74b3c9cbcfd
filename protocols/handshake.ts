/**
 * The handshake: who is there, in which version of the protocol, and does it know the join token? Four frames,
 * symmetric in what they prove:
 *
 *     initiator                                  responder
 *     hello    identity, nonce          →
 *                                       ←        welcome  identity, nonce
 *     proof    HMAC(token, transcript)  →
 *                                       ←        ready    HMAC(token, transcript)
 *
 * The transcript holds both nonces, identities and the prover's role, so a proof is of no use in another
 * handshake or to the other side. The initiator proves first: a stranger learns nothing to guess the token from.
 * The proof is HMAC-SHA-256 (RFC 2104) through Web Crypto. It says who may join; it does not encrypt.
 *
 * A state machine without sockets and timers: it is given bodies of handshake frames and gives bodies to send.
 */

import { decodePlain, encodePlain as encode } from "./codec.ts";
import { ProtocolError } from "./errors.ts";
import { PROTOCOL_VERSION, versionMismatch } from "./frame.ts";

/** Who a node says it is. */
export interface Identity {
  /** The same for as long as the device keeps it. */
  readonly id: string;
  /** For people. */
  readonly name: string;
  /** Grows each time the node starts: an actor of an earlier incarnation is gone for good. */
  readonly incarnation: number;
  /** Where it can be connected to; empty if nowhere. */
  readonly addresses: readonly string[];
  /** What it can do, as plain data. */
  readonly capabilities: Readonly<Record<string, unknown>>;
}

export interface HandshakeOptions {
  readonly role: "initiator" | "responder";
  readonly self: Identity;
  /** The join token; without one, only nodes without one are accepted. */
  readonly token?: string | undefined;
  /** Random, from a secure source, never used before; 32 bytes. */
  readonly nonce: Uint8Array;
}

/** What to do after a frame: send a body, and on the last step, the peer that is now known. */
export interface HandshakeStep {
  readonly send?: Uint8Array;
  readonly peer?: Identity;
  /** No more frames are expected: the link is ready. */
  readonly done: boolean;
}

const NONCE_BYTES = 32;
const NO_PROOF = new Uint8Array(0);

export class Handshake {
  private readonly options: HandshakeOptions;
  private state: "hello" | "welcome" | "proof" | "ready" | "done";
  private peer: Identity | undefined;
  private transcript: readonly unknown[] = [];

  constructor(options: HandshakeOptions) {
    this.options = options;
    this.state = options.role === "initiator" ? "welcome" : "hello";
  }

  /** The initiator's first frame. */
  hello(): Uint8Array {
    return encode(["hello", PROTOCOL_VERSION, pack(this.options.self), this.options.nonce]);
  }

  /**
   * Takes the body of the next handshake frame.
   * @throws ProtocolError VERSION_MISMATCH, WRONG_TOKEN, MALFORMED_HEADER or UNEXPECTED_FRAME.
   */
  async receive(body: Uint8Array): Promise<HandshakeStep> {
    const [type, ...fields] = parse(body);
    if (type !== this.state) {
      throw new ProtocolError(
        "UNEXPECTED_FRAME",
        `expected the handshake's ${this.state}, got ${String(type)}`,
      );
    }
    const { self, nonce, role } = this.options;
    if (type === "hello" || type === "welcome") {
      if (fields[0] !== PROTOCOL_VERSION) throw versionMismatch(Number(fields[0]));
      const peer = unpack(fields[1]);
      const theirNonce = fields[2];
      if (!(theirNonce instanceof Uint8Array) || theirNonce.byteLength !== NONCE_BYTES) {
        throw new ProtocolError("MALFORMED_HEADER", `a handshake's nonce has ${NONCE_BYTES} bytes`);
      }
      this.peer = peer;
      const mine = [pack(self), nonce];
      const theirs = [pack(peer), theirNonce.slice()];
      this.transcript = role === "initiator" ? [...mine, ...theirs] : [...theirs, ...mine];
      if (type === "hello") {
        this.state = "proof";
        return { send: encode(["welcome", PROTOCOL_VERSION, pack(self), nonce]), peer, done: false };
      }
      this.state = "ready";
      return { send: encode(["proof", await this.prove("initiator")]), peer, done: false };
    }
    const peer = this.peer!;
    const proof = fields[0] instanceof Uint8Array ? fields[0].slice() : NO_PROOF;
    await this.check(role === "initiator" ? "responder" : "initiator", proof);
    this.state = "done";
    if (type === "ready") return { peer, done: true };
    return { send: encode(["ready", await this.prove("responder")]), peer, done: true };
  }

  private async prove(role: string): Promise<Uint8Array> {
    const { token } = this.options;
    if (token === undefined) return NO_PROOF;
    return new Uint8Array(await crypto.subtle.sign("HMAC", await hmacKey(token), this.message(role)));
  }

  private async check(role: string, proof: Uint8Array): Promise<void> {
    const { token, self } = this.options;
    const peer = this.peer?.name ?? "the peer";
    if (token === undefined) {
      if (proof.byteLength === 0) return;
      throw new ProtocolError(
        "WRONG_TOKEN",
        `${peer} asks for a join token, ${self.name} was started without one`,
      );
    }
    if (proof.byteLength === 0) {
      throw new ProtocolError("WRONG_TOKEN", `${self.name} asks for a join token, ${peer} gave none`);
    }
    const right = await crypto.subtle.verify(
      "HMAC",
      await hmacKey(token),
      proof as BufferSource,
      this.message(role),
    );
    if (!right) throw new ProtocolError("WRONG_TOKEN", `${peer} has another join token than ${self.name}`);
  }

  private message(role: string): BufferSource {
    return encode(["troupe", PROTOCOL_VERSION, role, ...this.transcript]) as BufferSource;
  }
}

function hmacKey(token: string): Promise<CryptoKey> {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  return crypto.subtle.importKey("raw", new TextEncoder().encode(token), algorithm, false, [
    "sign",
    "verify",
  ]);
}

function pack(identity: Identity): unknown[] {
  return [identity.id, identity.name, identity.incarnation, identity.addresses, identity.capabilities];
}

function unpack(data: unknown): Identity {
  const [id, name, incarnation, addresses, capabilities] = Array.isArray(data) ? data : [];
  if (
    typeof id !== "string" ||
    typeof name !== "string" ||
    typeof incarnation !== "number" ||
    !Array.isArray(addresses) ||
    !addresses.every((a) => typeof a === "string") ||
    typeof capabilities !== "object" ||
    capabilities === null
  ) {
    throw new ProtocolError("MALFORMED_HEADER", "a handshake holds no valid identity");
  }
  return { id, name, incarnation, addresses, capabilities };
}

function parse(body: Uint8Array): unknown[] {
  const value = decodePlain(body, 16);
  if (!Array.isArray(value)) throw new ProtocolError("MALFORMED_HEADER", "a handshake is not an array");
  return value;
}

/** The body of a `close` frame. */
export function encodeClose(code: string, message: string): Uint8Array {
  return encode([code, message]);
}

export function decodeClose(body: Uint8Array): { code: string; message: string } {
  const [code, message] = parse(body);
  return { code: String(code), message: String(message) };
}
