/**
 * Cables between the nodes of a test: a transport whose connections can be frozen, so that nothing arrives and
 * neither end hears that the other has closed, as when a machine stands still or a network breaks silently.
 */

import type { Pipe, PipeHandlers, Transport } from "../../runtime/transports/transport.ts";

export class Cables {
  private readonly pipes = new Set<FreezablePipe>();
  private refusing = false;

  /** From now on these connections carry nothing; new ones work. */
  freeze(): void {
    for (const pipe of this.pipes) pipe.frozen = true;
    this.pipes.clear();
  }

  /** New connections are refused, or made again. */
  refuse(refusing: boolean): void {
    this.refusing = refusing;
  }

  /** How many connections have been made. */
  made = 0;

  over(transport: Transport): Transport {
    const wrap = (handlers: (pipe: Pipe) => PipeHandlers) => (inner: Pipe) => {
      const pipe = new FreezablePipe(inner);
      this.pipes.add(pipe);
      pipe.handlers = handlers(pipe);
      return pipe.fromInner;
    };
    return {
      scheme: transport.scheme,
      listen: (address, accept) => transport.listen(address, wrap(accept)),
      connect: async (address, handlers) => {
        this.made++;
        if (this.refusing) throw new Error("the cable is unplugged");
        return transport.connect(address, wrap(handlers));
      },
    };
  }
}

class FreezablePipe implements Pipe {
  handlers!: PipeHandlers;
  frozen = false;
  private readonly inner: Pipe;
  private closed = false;

  constructor(inner: Pipe) {
    this.inner = inner;
  }

  readonly fromInner: PipeHandlers = {
    onData: (bytes, owned) => void (this.frozen || this.handlers.onData(bytes, owned)),
    onDrain: () => this.handlers.onDrain(),
    onClose: (error) => void (this.frozen || this.handlers.onClose(error)),
  };

  get chunkBytes(): number {
    return this.inner.chunkBytes;
  }

  get peer(): string {
    return this.inner.peer;
  }

  write(bytes: Uint8Array, owned?: boolean): number {
    return this.frozen ? bytes.byteLength : this.inner.write(bytes, owned);
  }

  close(error?: Error): void {
    if (!this.frozen) this.inner.close(error);
    else if (!this.closed) queueMicrotask(() => this.handlers.onClose(error));
    this.closed = true;
  }
}
