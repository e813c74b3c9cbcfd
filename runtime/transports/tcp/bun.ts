/**
 * TCP and TLS through Bun's sockets, which take what the kernel takes and say how much that was; nothing is buffered
 * on the way.
 *
 * With `rejectUnauthorized` off Bun reports what is wrong with a certificate and goes on, and it shows the
 * certificate of an end that could not prove its key as well: so the fault is judged before the fingerprint, and
 * nothing is sent before either.
 */

import type { Pipe, PipeHandlers } from "../transport.ts";
import { formatAddress } from "./address.ts";
import { SocketPipe, type SocketPipeOptions } from "./pipe.ts";
import type { Place, Sockets, Target } from "./sockets.ts";
import { channelOf, tlsFailure } from "./tls.ts";

type Socket = Bun.Socket<{ pipe?: BunPipe }>;

/** Of TLS's handshake, as Bun reports it. */
interface Outcome {
  readonly agreed: boolean;
  readonly error: Error | null;
}

class BunPipe extends SocketPipe {
  private readonly socket: Socket;

  constructor(socket: Socket, options: SocketPipeOptions) {
    super(options);
    this.socket = socket;
  }

  protected put(bytes: Uint8Array): number {
    return Math.max(0, this.socket.write(bytes));
  }

  protected end(): void {
    // Not `end()`: with TLS that waits for the other end's farewell, and a socket that waits cannot be terminated.
    this.socket.shutdown();
  }

  protected drop(): void {
    this.socket.terminate();
  }
}

export const bunSockets: Sockets = { listen, connect };

const HANDLERS = {
  data: (socket: Socket, bytes: Uint8Array) => socket.data.pipe?.received(bytes),
  drain: (socket: Socket) => socket.data.pipe?.drained(),
  close: (socket: Socket) => socket.data.pipe?.gone(),
  error: (socket: Socket, error: Error) => socket.data.pipe?.ended(error),
};

async function listen(place: Place, accept: (pipe: Pipe) => PipeHandlers) {
  const { hostname, port, certificate, clock } = place;
  const encrypted = certificate !== undefined;
  const listener = Bun.listen<{ pipe?: BunPipe }>({
    ...{ hostname, port, data: {}, ...tls(place) },
    socket: {
      ...HANDLERS,
      open(socket) {
        const peer = formatAddress(socket.remoteAddress, socket.remotePort);
        const pipe = new BunPipe(socket, { peer, encrypted, clock });
        socket.data = { pipe };
        pipe.handlers = accept(pipe);
        if (!certificate) pipe.opened();
      },
      handshake(socket, agreed, error) {
        const pipe = socket.data.pipe!;
        try {
          pipe.opened(channel(socket, pipe.peer, place, { agreed, error }, undefined));
        } catch (refused) {
          pipe.failed(refused as Error);
        }
      },
    },
  });
  return { port: listener.port, close: async () => listener.stop() };
}

async function connect(
  target: Target,
  handlers: (pipe: Pipe) => PipeHandlers,
  signal: AbortSignal,
): Promise<Pipe> {
  const { hostname, port, certificate, clock, peer, fingerprint } = target;
  const { promise, resolve, reject } = Promise.withResolvers<Pipe>();
  promise.catch(() => undefined); // Bun.connect may reject as well, and first
  const ready = (socket: Socket, outcome: Outcome) => {
    if (signal.aborted) return socket.terminate();
    try {
      const seen = certificate && channel(socket, peer, target, outcome, fingerprint);
      const pipe = new BunPipe(socket, { peer, encrypted: certificate !== undefined, clock });
      socket.data = { pipe };
      pipe.handlers = handlers(pipe);
      pipe.opened(seen);
      resolve(pipe);
    } catch (refused) {
      reject(refused);
      socket.terminate(); // tells of its end at once
    }
  };
  const gone = { code: "ECONNRESET", message: "closed" };
  const socket = await Bun.connect<{ pipe?: BunPipe }>({
    ...{ hostname, port, data: {}, ...tls(target) },
    socket: {
      ...HANDLERS,
      open: (opening) => {
        if (!certificate) ready(opening, { agreed: true, error: null });
      },
      // A client is told whether the certificate is vouched for, not whether TLS was agreed on.
      handshake: (opening, _authorized, error) => ready(opening, { agreed: true, error }),
      close: (closing) => {
        HANDLERS.close(closing);
        reject(tlsFailure(peer, gone)); // when it was not ready yet
      },
      connectError: (_socket, error) => reject(error),
    },
  });
  if (signal.aborted) socket.terminate();
  else signal.addEventListener("abort", () => socket.terminate(), { once: true });
  return promise;
}

function tls({ certificate }: Place): { tls?: Bun.TLSOptions } {
  if (!certificate) return {};
  const { certificate: cert, key } = certificate;
  return { tls: { cert, key, requestCert: true, rejectUnauthorized: false } };
}

function channel(
  socket: Socket,
  peer: string,
  { certificate }: Place,
  outcome: Outcome,
  expected: string | undefined,
) {
  return channelOf({
    ...{ peer, expected, ...outcome },
    local: certificate!.fingerprint,
    version: socket.getTLSVersion(),
    remote: socket.getPeerCertificate()?.fingerprint256,
  });
}
