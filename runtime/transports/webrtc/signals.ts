/**
 * What two nodes say to each other, as signals, to open a WebRTC connection (JSEP, RFC 8829). Each attempt has an id
 * of its own; two nodes that call each other at the same moment make two attempts, and the links above keep one.
 *
 *     offer      attempt, SDP          →
 *                                      ←  answer     attempt, SDP        or: refuse
 *     candidate  attempt, candidate    ⇄  as they are found (trickle ICE, RFC 8838)
 *     refuse     attempt, why          ⇄
 *
 * The SDP holds the fingerprint of the certificate that DTLS will use, and whoever could change it on the way could
 * stand in between. So each signal carries an HMAC under the join token of who says it to whom and of all it says;
 * a signal without the right one is dropped. Without a token nobody is kept out, here as elsewhere.
 */

import type { Channel } from "../../../protocols/handshake.ts";
import { equalBytes, mac } from "../../../protocols/mac.ts";
import type { Carrier } from "../carrier.ts";

/** The subject of these signals. */
export const WEBRTC = "webrtc";

export interface RtcSignal {
  readonly kind: "offer" | "answer" | "candidate" | "refuse";
  /** 16 random hexadecimal digits, of whoever offers. */
  readonly attempt: string;
  /** SDP, the JSON of an RTCIceCandidateInit, or why. */
  readonly text: string;
}

const KINDS = ["offer", "answer", "candidate", "refuse"];
/** A session of one data channel has about 500 bytes. */
const MOST_CHARACTERS = 16 * 1024;
const UTF8 = new TextEncoder();

/** The form in which a signal travels. */
export function sealSignal(carrier: Carrier, to: string, { kind, attempt, text }: RtcSignal): unknown {
  return [kind, attempt, text, seal(carrier.token, carrier.self, to, kind, attempt, text)];
}

/** The signal, or undefined if it is malformed or not from somebody who knows the token. */
export function openSignal(carrier: Carrier, from: string, data: unknown): RtcSignal | undefined {
  const [kind, attempt, text, code] = Array.isArray(data) ? (data as unknown[]) : [];
  if (typeof kind !== "string" || !KINDS.includes(kind)) return undefined;
  if (typeof attempt !== "string" || !/^[0-9a-f]{16}$/.test(attempt)) return undefined;
  if (typeof text !== "string" || text.length > MOST_CHARACTERS || !(code instanceof Uint8Array))
    return undefined;
  const right = seal(carrier.token, from, carrier.self, kind, attempt, text);
  return equalBytes(code, right) ? { kind: kind as RtcSignal["kind"], attempt, text } : undefined;
}

function seal(token: string | undefined, ...parts: string[]): Uint8Array {
  if (token === undefined) return new Uint8Array(0);
  return mac(UTF8.encode(token), ...["troupe webrtc", ...parts].map((part) => UTF8.encode(part)));
}

/** The certificates both ends have named, as the handshake binds itself to them. */
export function channelOf(connection: RTCPeerConnection): Channel | undefined {
  const local = fingerprintOf(connection.localDescription);
  const remote = fingerprintOf(connection.remoteDescription);
  return local && remote ? { local, remote } : undefined;
}

function fingerprintOf(description: RTCSessionDescription | null): string | undefined {
  const [, digits] = /^a=fingerprint:sha-256 ([0-9A-Fa-f:]+)\s*$/m.exec(description?.sdp ?? "") ?? [];
  return digits?.replaceAll(":", "").toLowerCase();
}
