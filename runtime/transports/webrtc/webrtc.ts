/**
 * WebRTC data channels: between browsers, and between nodes behind address translation. Encrypted (DTLS), ordered
 * and reliable (SCTP). Between ordinary nodes TCP is ten times faster; this is for where TCP cannot go.
 *
 * The two nodes find each other through signals over links that are there already: to the other node itself, or to
 * one that both are connected to. Addresses are `webrtc://<node id>`; a node listens on `webrtc://`. Without ICE
 * servers only addresses of the machines themselves are tried, which is enough on one machine and in one network.
 */

import { asError, RuntimeError } from "../../errors.ts";
import type { Carrier } from "../carrier.ts";
import { nodeAddress, nodeOf } from "../node_address.ts";
import type { Listener, Pipe, PipeHandlers, Transport } from "../transport.ts";
import { Attempt } from "./attempt.ts";
import { type PeerConnectionClass, peerConnectionClass } from "./library.ts";
import { openSignal, type RtcSignal, sealSignal, WEBRTC } from "./signals.ts";

/** How peers behind address translation are found. */
export interface WebRtcOptions {
  /** STUN and TURN servers, as the W3C's RTCPeerConnection takes them. Default: none. */
  readonly iceServers?: readonly RTCIceServer[];
}

/** RFC 7064 and RFC 7065: STUN and TURN URIs. */
const ICE_SERVER = /^(stuns?|turns?):[^\s/]+$/;
/** Connections that are being opened for others; whoever comes beyond them is refused. */
const MOST_OPENING = 64;

/** The transport; its node gives it the carrier of its signals. */
export function webrtc(options: WebRtcOptions = {}): Transport {
  let carrier: Carrier | undefined;
  let accepting: { accept(pipe: Pipe): PipeHandlers; PeerConnection: PeerConnectionClass } | undefined;
  const attempts = new Map<string, Attempt>();
  let opening = 0;

  const send = (via: string, to: string, signal: RtcSignal) =>
    carrier!.send(via, to, WEBRTC, sealSignal(carrier!, to, signal));
  const keyOf = (node: string, attempt: string) => `${node} ${attempt}`;

  function connectionWith(PeerConnection: PeerConnectionClass): RTCPeerConnection {
    for (const { urls } of options.iceServers ?? []) {
      // Looked at before the library does: one that has refused its servers ends the process under Deno.
      const wrong = [urls].flat().find((url) => !ICE_SERVER.test(url));
      if (wrong !== undefined) {
        throw new RuntimeError(
          "CONNECT_FAILED",
          `WebRTC does not start with these ICE servers: "${wrong}" is none, expected stun:host or turn:host`,
        );
      }
    }
    try {
      return new PeerConnection({ iceServers: [...(options.iceServers ?? [])] });
    } catch (error) {
      const why = asError(error).message;
      throw new RuntimeError("CONNECT_FAILED", `WebRTC does not start with these ICE servers: ${why}`, {
        cause: error,
      });
    }
  }

  function attempt(
    PeerConnection: PeerConnectionClass,
    via: string,
    other: string,
    id: string,
    handlers: (pipe: Pipe) => PipeHandlers,
  ): Attempt {
    const connection = connectionWith(PeerConnection);
    const key = keyOf(other, id);
    const made = new Attempt({
      ...{ connection, clock: carrier!.clock, id, other, via, handlers },
      send: (signal) => send(via, other, signal),
      release: () => attempts.delete(key),
    });
    attempts.set(key, made);
    return made;
  }

  /** Synchronous up to the attempt's being known: candidates follow an offer closely. */
  function answer(via: string, from: string, { attempt: id, text }: RtcSignal): void {
    const refuse = (why: string) => send(via, from, { kind: "refuse", attempt: id, text: why });
    if (!accepting) refuse("it takes no WebRTC connections");
    else if (opening >= MOST_OPENING) refuse(`it is opening ${opening} connections already`);
    else {
      const made = attempt(accepting.PeerConnection, via, from, id, accepting.accept);
      const settled = () => {
        opening--;
      };
      opening++;
      made.opened.promise.then(settled, settled);
      made.answer(text);
    }
  }

  return {
    scheme: "webrtc",
    attach(given) {
      carrier = given;
      carrier.receive(WEBRTC, {
        onSignal(from, via, data) {
          const signal = openSignal(carrier!, from, data);
          if (!signal) return;
          const known = attempts.get(keyOf(from, signal.attempt));
          if (known) known.receive(signal);
          else if (signal.kind === "offer") answer(via, from, signal);
        },
        onLost(via, to) {
          for (const made of [...attempts.values()]) {
            if (made.via === via && (to === undefined || made.other === to)) made.lost();
          }
        },
      });
    },
    async listen(address, accept): Promise<Listener> {
      const own = nodeAddress("webrtc", nodeOf(address, "webrtc", "LISTEN_FAILED", carrier));
      const PeerConnection = await peerConnectionClass("LISTEN_FAILED");
      connectionWith(PeerConnection).close(); // fails here, rather than when somebody calls
      if (accepting) throw new RuntimeError("LISTEN_FAILED", `${own} is in use: the node listens already`);
      accepting = { accept, PeerConnection };
      return {
        address: own,
        async close() {
          accepting = undefined;
        },
      };
    },
    async connect(address, handlers): Promise<Pipe> {
      const other = nodeOf(address, "webrtc", "CONNECT_FAILED", carrier);
      const via = await carrier!.route(other).catch((error) => {
        throw new RuntimeError("CONNECT_FAILED", `cannot connect to ${address}: ${error.message}`);
      });
      const PeerConnection = await peerConnectionClass("CONNECT_FAILED");
      const id = [...carrier!.random.bytes(8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      const made = attempt(PeerConnection, via, other, id, handlers);
      made.call();
      return made.opened.promise;
    },
  };
}
