/** What an adapter of a platform's sockets is: it makes pipes of them, plain or with TLS. */

import type { Clock } from "../../clock.ts";
import type { Certificate } from "../../security/certificate.ts";
import type { Pipe, PipeHandlers } from "../transport.ts";

export interface Place {
  readonly hostname: string;
  readonly port: number;
  /** This end's; with one, the connection is TLS. */
  readonly certificate: Certificate | undefined;
  readonly clock: Clock;
}

export interface Target extends Place {
  /** The address, for people. */
  readonly peer: string;
  /** The only certificate that is accepted there. */
  readonly fingerprint: string | undefined;
}

export interface Sockets {
  /** @throws the platform's error, with its `code`. */
  listen(
    place: Place,
    accept: (pipe: Pipe) => PipeHandlers,
  ): Promise<{ readonly port: number; close(): Promise<void> }>;
  /**
   * Resolves when bytes may flow, after TLS. @throws the platform's error, or a ProtocolError.
   * @param signal nobody waits any more: closes the socket.
   */
  connect(target: Target, handlers: (pipe: Pipe) => PipeHandlers, signal: AbortSignal): Promise<Pipe>;
}
