/**
 * A transport whose pipes can be cut off all at once, as if a radio had gone out of reach: from then on what is written is
 * lost, nothing arrives, and neither end is told, not even of a close. For finding out whether the silence is noticed.
 *
 * A pipe of which something was lost stays as dead as it is when the cable is mended: no transport brings half of what was
 * written, and a device that is in reach again comes by another way. New pipes can be made then.
 */

import { RuntimeError } from "../errors.ts";
import type { Pipe, PipeHandlers, Transport } from "./transport.ts";

/** Whoever keeps the object can cut the pipes off, and bring new ones back. */
export interface Cable {
  cut: boolean;
}

/** The same transport, on this cable. */
export function severed(transport: Transport, cable: Cable): Transport {
  /** Closes pipes that were closed while nobody could hear it. */
  const unclosed = new Set<() => void>();
  const closeThem = () => {
    if (cable.cut) return;
    for (const close of unclosed) close();
    unclosed.clear();
  };
  const onCable = (make: (pipe: Pipe) => PipeHandlers) => (pipe: Pipe) => {
    closeThem();
    let dead = false;
    const isDead = () => {
      dead ||= cable.cut;
      return dead;
    };
    const write = pipe.write.bind(pipe);
    // What is lost is accepted all the same: the writer cannot know.
    pipe.write = (bytes, owned) => (isDead() ? bytes.byteLength : write(bytes, owned));
    const close = pipe.close.bind(pipe);
    let closed = false;
    /** The other end has closed it while nobody could hear that. */
    let gone = false;
    let told = false;
    const tell = (error?: Error) => {
      if (!told) handlers.onClose(error);
      told = true;
    };
    pipe.close = (error) => {
      if (closed) return;
      closed = true;
      if (!cable.cut && !gone) return close(error);
      if (!gone) unclosed.add(close);
      queueMicrotask(() => tell(error));
    };
    const handlers = make(pipe);
    return {
      onData(bytes: Uint8Array, owned?: boolean) {
        if (!isDead()) handlers.onData(bytes, owned);
      },
      onDrain: () => handlers.onDrain(),
      onClose(error?: Error) {
        if (cable.cut) gone = true;
        else tell(error);
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
