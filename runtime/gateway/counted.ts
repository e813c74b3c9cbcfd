/** What passes through a node's pipes, counted by scheme. */

import type { Pipe, PipeHandlers, Transport } from "../transports/transport.ts";

/** Of one scheme, since the start. */
export interface Traffic {
  readonly scheme: string;
  /** Bytes that pipes have accepted, and that they have delivered; without what encryption adds. */
  sentBytes: number;
  receivedBytes: number;
  /** Pipes there have been, and those that are open. */
  pipes: number;
  openPipes: number;
}

/** The same transport, counting in `traffic`. */
export function counted(transport: Transport, traffic: Traffic): Transport {
  const counting = (make: (pipe: Pipe) => PipeHandlers) => (pipe: Pipe) => {
    traffic.pipes++;
    traffic.openPipes++;
    const write = pipe.write.bind(pipe);
    pipe.write = (bytes, owned) => {
      const accepted = write(bytes, owned);
      traffic.sentBytes += accepted;
      return accepted;
    };
    const handlers = make(pipe);
    return {
      onData(bytes: Uint8Array, owned?: boolean) {
        traffic.receivedBytes += bytes.byteLength;
        handlers.onData(bytes, owned);
      },
      onDrain: () => handlers.onDrain(),
      onClose(error?: Error) {
        traffic.openPipes--;
        handlers.onClose(error);
      },
    };
  };
  return {
    scheme: transport.scheme,
    listen: (address, accept) => transport.listen(address, counting(accept)),
    connect: (address, handlers) => transport.connect(address, counting(handlers)),
    ...(transport.attach ? { attach: (carrier) => transport.attach!(carrier) } : {}),
  };
}
