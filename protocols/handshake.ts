/**
 * The handshake: who is there, in which version of the protocol, does it know the join token, and is it the other
 * end of this very connection? Four frames, symmetric in what they prove:
 *
 *     initiator                                  responder
 *     hello    identity, nonce, channel →
 *                                       ←        welcome  identity, nonce, channel
 *     proof    MAC(token, transcript)   →
 *                                       ←        ready    MAC(token, transcript)
 *
 * The transcript is the prover's role and the bytes of hello and welcome, so it holds both nonces, identities and
 * views of the channel: a proof is of no use in another handshake, on another connection or to the other side. The
 * initiator proves first; a stranger learns nothing to guess the token from.
 *
 * The channel is what encrypts below, named by the certificates of both ends (RFC 5929, tls-server-end-point, for
 * both ends). Who ends the encryption on the way and relays the handshake shows each end another certificate than
 * the other end has; it is found out, and cannot hide it without the token. Plain text is a channel without
 * certificates, so neither end can be talked down to it. On plain text the handshake says who may join, and that
 * is all: what is said afterwards can be read and altered.
 *
 * A state machine without sockets, timers and promises: it is given bodies of handshake frames and gives bodies to
 * send.
 */

import { decodePlain, encodePlain as encode } from "./codec.ts";
import { ProtocolError } from "./errors.ts";
import { PROTOCOL_VERSION, versionMismatch } from "./frame.ts";
import { HANDSHAKE_BYTES } from "./limits.ts";
import { equalBytes, mac } from "./mac.ts";
import type { Replays } from "./replays.ts";

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
  /**
   * What it can do, as plain data. `coordinator: true` is more than a claim where the token names the coordinator's
   * certificate: a peer that says so and shows another is refused.
   */
  readonly capabilities: Readonly<Record<string, unknown>>;
}

/** An encrypted connection as one end sees it: SHA-256 of the certificates, in lower-case hexadecimal. */
export interface Channel {
  /** Of the certificate this end shows. */
  readonly local: string;
  /** Of the certificate the other end shows. */
  readonly remote: string;
}

/** What one end brings to a handshake. */
export interface HandshakeOptions {
  /** The initiator speaks and proves first. */
  readonly role: "initiator" | "responder";
  /** What this end says of itself. */
  readonly self: Identity;
  /** The join token; without one, only nodes without one are accepted. */
  readonly token?: string | undefined;
  /** Random, from a secure source, never used before; 32 bytes. */
  readonly nonce: Uint8Array;
  /** What the connection is encrypted by; asked for when the first frame is made or has come. */
  readonly channel?: () => Channel | undefined;
  /** Fingerprint of the certificate that whoever says it is the coordinator has to show. */
  readonly coordinator?: string | undefined;
  /** A responder's memory of handshakes; one for all of its links. */
  readonly replays?: Replays | undefined;
}

/** What to do after a frame: send a body, and on the last step, the peer that is now known. */
export interface HandshakeStep {
  /** A body for the next handshake frame. */
  readonly send?: Uint8Array;
  /** Who the other end is; proved, where there is a token. */
  readonly peer?: Identity;
  /** No more frames are expected: the link is ready. */
  readonly done: boolean;
}

type Role = HandshakeOptions["role"];

const NONCE_BYTES = 32;
/** A program that reads only its own kind of proof does not take this one for another. */
const PURPOSE = "troupe handshake";
const NO_PROOF = new Uint8Array(0);
const NO_BODY = new Uint8Array(0);
const UTF8 = new TextEncoder();
/** Characters of an id or a name. */
const MOST_NAME = 256;
/** Of what is said of a node; the rest of a handshake frame is for its addresses. */
const MOST_IDENTITY_BYTES = (3 / 4) * HANDSHAKE_BYTES;
/** Control characters, and those that break or turn around a line. */
const CONTROL = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u;

/** One end of one handshake. After it has thrown it is of no use. */
export class Handshake {
  private readonly options: HandshakeOptions;
  private state: "hello" | "welcome" | "proof" | "ready" | "done";
  private peer: Identity | undefined;
  private helloBody: Uint8Array = NO_BODY;
  private welcomeBody: Uint8Array = NO_BODY;

  /** It does nothing yet: the initiator calls `hello`, the responder waits for the first frame. */
  constructor(options: HandshakeOptions) {
    this.options = options;
    this.state = options.role === "initiator" ? "welcome" : "hello";
  }

  /** The initiator's first frame. */
  hello(): Uint8Array {
    this.helloBody = this.introduction("hello");
    return this.helloBody;
  }

  /**
   * Takes the body (borrowed) of the next handshake frame.
   * @throws ProtocolError VERSION_MISMATCH, NO_TOKEN, WRONG_TOKEN, REPLAYED, WRONG_CERTIFICATE, CHANNEL_MISMATCH,
   * MALFORMED_HEADER or UNEXPECTED_FRAME.
   */
  receive(body: Uint8Array): HandshakeStep {
    const [type, ...fields] = parse(body);
    if (type !== this.state) {
      throw new ProtocolError(
        "UNEXPECTED_FRAME",
        `expected the handshake's ${this.state}, got ${String(type)}`,
      );
    }
    if (type === "hello") {
      this.helloBody = body.slice();
      if (this.options.replays?.has(this.helloBody)) {
        throw new ProtocolError("REPLAYED", "the handshake is a copy of an earlier one");
      }
      const peer = this.meet(fields);
      this.welcomeBody = this.introduction("welcome");
      this.state = "proof";
      return { send: this.welcomeBody, peer, done: false };
    }
    if (type === "welcome") {
      this.welcomeBody = body.slice();
      const peer = this.meet(fields);
      this.state = "ready";
      return { send: encode(["proof", this.prove("initiator")]), peer, done: false };
    }
    const peer = this.peer!;
    this.check(type === "proof" ? "initiator" : "responder", fields[0]);
    this.state = "done";
    if (type === "ready") return { peer, done: true };
    if (this.options.token !== undefined) this.options.replays?.add(this.helloBody);
    return { send: encode(["ready", this.prove("responder")]), peer, done: true };
  }

  /** What this end says of itself, and the nonce it has never used before. */
  private introduction(type: "hello" | "welcome"): Uint8Array {
    const { self, nonce, channel } = this.options;
    const { id, name, incarnation, addresses, capabilities } = self;
    const seen = channel?.();
    const identity = [id, name, incarnation, addresses, capabilities];
    return encode([type, PROTOCOL_VERSION, identity, nonce, seen ? [seen.local, seen.remote] : null]);
  }

  /** Learns who the peer says it is. */
  private meet([version, who, nonce, channel]: readonly unknown[]): Identity {
    if (version !== PROTOCOL_VERSION) throw versionMismatch(Number(version));
    if (!(nonce instanceof Uint8Array) || nonce.byteLength !== NONCE_BYTES) {
      throw new ProtocolError("MALFORMED_HEADER", `a handshake's nonce has ${NONCE_BYTES} bytes`);
    }
    const peer = unpack(who);
    this.peer = peer;
    this.checkChannel(peer, channel);
    return peer;
  }

  /** Both ends see the same certificates. @throws ProtocolError CHANNEL_MISMATCH, WRONG_CERTIFICATE. */
  private checkChannel(peer: Identity, theirs: unknown): void {
    const { self, coordinator } = this.options;
    const mine = this.options.channel?.();
    const [local, remote] = Array.isArray(theirs) ? theirs : [];
    if (local !== mine?.remote || remote !== mine?.local) {
      throw new ProtocolError(
        "CHANNEL_MISMATCH",
        `${peer.name} sees other certificates on this connection than ${self.name}: something between them ends the encryption`,
      );
    }
    const claims = peer.capabilities.coordinator === true;
    if (claims && coordinator !== undefined && mine?.remote !== coordinator) {
      throw new ProtocolError(
        "WRONG_CERTIFICATE",
        `${peer.name} says it is the coordinator, but its certificate is not the one in ${self.name}'s join token`,
      );
    }
  }

  /** The proof of one role, over all that was said. */
  private prove(role: Role): Uint8Array {
    const { token } = this.options;
    if (token === undefined) return NO_PROOF;
    const who = UTF8.encode(`${PURPOSE} ${PROTOCOL_VERSION} ${role}`);
    return mac(UTF8.encode(token), who, this.helloBody, this.welcomeBody);
  }

  /** The other end knows the token. @throws ProtocolError NO_TOKEN, WRONG_TOKEN. */
  private check(role: Role, proof: unknown): void {
    const { token, self } = this.options;
    const peer = this.peer!.name;
    const given = proof instanceof Uint8Array ? proof : NO_PROOF;
    if (token === undefined) {
      if (given.byteLength === 0) return;
      throw new ProtocolError(
        "NO_TOKEN",
        `${peer} asks for a join token, ${self.name} was started without one`,
      );
    }
    if (given.byteLength === 0) {
      throw new ProtocolError("NO_TOKEN", `${self.name} asks for a join token, ${peer} gave none`);
    }
    if (equalBytes(given, this.prove(role))) return;
    throw new ProtocolError("WRONG_TOKEN", `${peer} has another join token than ${self.name}`);
  }
}

/**
 * What may be said of a node: names are shown to people and end up in terminals and logs, before it is proved who says
 * them; incarnations are compared, and one that nothing exceeds would keep the node of that id away for good.
 * @throws ProtocolError MALFORMED_HEADER.
 */
function expectNames({ id, name, incarnation }: Pick<Identity, "id" | "name" | "incarnation">): void {
  if (typeof name !== "string" || name === "") {
    throw new ProtocolError("MALFORMED_HEADER", 'a node has a name, such as { name: "desk" }');
  }
  const wrong = [id, name].find((text) => text.length > MOST_NAME || CONTROL.test(text));
  if (wrong !== undefined || id === "") {
    throw new ProtocolError(
      "MALFORMED_HEADER",
      `a node's id and name have at most ${MOST_NAME} characters, none of them control characters; got ${printable(wrong ?? id)}`,
    );
  }
  if (!Number.isSafeInteger(incarnation) || incarnation < 0) {
    throw new ProtocolError("MALFORMED_HEADER", `an incarnation is a whole number, got ${incarnation}`);
  }
}

/**
 * Whether others will take what a node is about to say of itself, so that it hears of it at its start and not from
 * each of them. @throws ProtocolError MALFORMED_HEADER, UNENCODABLE, LIMIT_EXCEEDED.
 */
export function expectIdentity(identity: Omit<Identity, "addresses">): void {
  expectNames(identity);
  const { id, name, incarnation, capabilities } = identity;
  const { byteLength } = encode([id, name, incarnation, capabilities]);
  if (byteLength <= MOST_IDENTITY_BYTES) return;
  throw new ProtocolError(
    "LIMIT_EXCEEDED",
    `a node's name and capabilities: at most ${MOST_IDENTITY_BYTES} bytes, got ${byteLength}`,
  );
}

function unpack(data: unknown): Identity {
  const [id, name, incarnation, addresses, capabilities] = Array.isArray(data) ? data : [];
  if (
    typeof id !== "string" ||
    typeof name !== "string" ||
    typeof incarnation !== "number" ||
    !Array.isArray(addresses) ||
    !addresses.every((a) => typeof a === "string" && !CONTROL.test(a)) ||
    typeof capabilities !== "object" ||
    capabilities === null
  ) {
    throw new ProtocolError("MALFORMED_HEADER", "a handshake holds no valid identity");
  }
  expectNames({ id, name, incarnation });
  return { id, name, incarnation, addresses, capabilities };
}

/** Without a terminal's commands: whoever can be connected to, or connects, has words shown before it proves anything. */
function oneLine(text: string): string {
  return text.replace(new RegExp(CONTROL, "gu"), "\ufffd");
}

/** Quoted, and not too long. */
function printable(text: string, most = 32): string {
  return JSON.stringify(text.length > most ? `${oneLine(text.slice(0, most))}…` : oneLine(text));
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
  return { code: oneLine(String(code)), message: oneLine(String(message)) };
}
