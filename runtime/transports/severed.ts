/**
 * A transport whose pipes can be cut off all at once, as if a radio had gone out of reach: from then on what is written is
 * lost, nothing arrives, and neither end is told, not even of a close. For finding out whether the silence is noticed.
 */

import { RuntimeError } from "../errors.ts";
import type { Pipe, PipeHandlers, Transport } from "./transport.ts";

/** Whoever keeps the object can cut the pipes off, and bring new ones back. */
export interface Cable {
  cut: boolean;
}

/** The same transport, on this cable. */
export function severed(transport: Transport, cable: Cable): Transport {
  const onCable = (make: (pipe: Pipe) => PipeHandlers) => (pipe: Pipe) => {
    const write = pipe.write.bind(pipe);
    // What is lost is accepted all the same: the writer cannot know.
    pipe.write = (bytes, owned) => (cable.cut ? bytes.byteLength : write(bytes, owned));
    const close = pipe.close.bind(pipe);
    let closed = false;
    pipe.close = (error) => {
      if (!cable.cut) return close(error);
      if (!closed) queueMicrotask(() => handlers.onClose(error));
      closed = true;
    };
    const handlers = make(pipe);
    return {
      onData(bytes: Uint8Array, owned?: boolean) {
        if (!cable.cut) handlers.onData(bytes, owned);
      },
      onDrain: () => handlers.onDrain(),
      onClose(error?: Error) {
        if (!cable.cut) handlers.onClose(error);
      },
    };
  };
  return {
    scheme: transport.scheme,
    listen: (address, accept) => transport.listen(address, onCable(accept)),
    connect: async (address, handlers) => {
      if (cable.cut)
        throw new RuntimeError("CONNECT_FAILED", `${address} cannot be reached: the cable is cut`);
      return transport.connect(address, onCable(handlers));
    },
    ...(transport.attach ? { attach: (carrier) => transport.attach!(carrier) } : {}),
  };
}
