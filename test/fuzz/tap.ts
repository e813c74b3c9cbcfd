/** A transport that remembers what went over its pipes, and hands out the pipe itself. */

import type { Pipe, PipeHandlers, Transport } from "../../runtime/transports/transport.ts";

export class Tap {
  readonly transport: Transport;
  /** The last pipe that was opened through it. */
  pipe: Pipe | undefined;
  /** Bytes written and received since it was opened, in order. */
  sent: Uint8Array[] = [];
  received: Uint8Array[] = [];
  recording: boolean;

  constructor(inner: Transport, recording = false) {
    this.recording = recording;
    this.transport = {
      ...inner,
      connect: async (address, handlers) => {
        this.pipe = await inner.connect(address, (pipe) => {
          if (!this.recording) return handlers(pipe);
          this.sent = [];
          this.received = [];
          return this.listenIn(pipe, handlers);
        });
        return this.pipe;
      },
    };
  }

  private listenIn(pipe: Pipe, handlers: (pipe: Pipe) => PipeHandlers): PipeHandlers {
    const write = pipe.write.bind(pipe);
    pipe.write = (bytes) => {
      const copy = bytes.slice();
      const accepted = write(bytes);
      this.sent.push(copy.subarray(0, accepted));
      return accepted;
    };
    const own = handlers(pipe);
    return {
      onData: (bytes, owned) => {
        this.received.push(bytes.slice());
        own.onData(bytes, owned);
      },
      onDrain: () => own.onDrain(),
      onClose: (error) => own.onClose(error),
    };
  }
}
