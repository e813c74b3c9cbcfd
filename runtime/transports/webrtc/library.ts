/**
 * Where `RTCPeerConnection` comes from: the browser's own, elsewhere @roamhq/wrtc, which is libwebrtc behind the same
 * W3C interface. Measured under Bun 1.4 and Deno 2.9 beside node-datachannel (libdatachannel): opening takes 10 to 25
 * ms, every time, where the other sometimes takes a second; 10 to 20 % more bytes a second at three quarters of the
 * CPU time; the process ends by itself once all connections are closed. What it lacks is the event
 * `bufferedamountlow`, which is never fired.
 *
 * The one door to that library; it is loaded when the first connection is made.
 */

import { asError, RuntimeError } from "../../errors.ts";

export type PeerConnectionClass = new (configuration: RTCConfiguration) => RTCPeerConnection;

/** @throws RuntimeError with `code` when the platform has neither. */
export async function peerConnectionClass(
  code: "LISTEN_FAILED" | "CONNECT_FAILED",
): Promise<PeerConnectionClass> {
  const own = (globalThis as { RTCPeerConnection?: PeerConnectionClass }).RTCPeerConnection;
  if (own) return own;
  try {
    return (await import("@roamhq/wrtc")).default.RTCPeerConnection as unknown as PeerConnectionClass;
  } catch (error) {
    const why = asError(error).message;
    throw new RuntimeError(code, `WebRTC is not available on this platform: ${why}`, {
      cause: error,
    });
  }
}
