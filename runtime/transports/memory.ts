/**
 * Pipes within one process, for tests and simulated worlds: what is written is copied, or passed on when the writer
 * gives it away, kept up to a capacity, and delivered in a microtask; the receiver may keep what it gets. Two nodes
 * can connect when they were given the same network.
 */

import { Ring } from "../../protocols/ring.ts";
import { RuntimeError } from "../errors.ts";
import type { Listener, Pipe, PipeHandlers, Transport } from "./transport.ts";

/** Bytes under way in one direction of a pipe before it is full. */
const CAPACITY_BYTES = 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;

/** Which addresses are listened on. */
export class MemoryNetwork {
  /** Who accepts, by address. */
  readonly listeners = new Map<string, (pipe: Pipe) => PipeHandlers>();
  /** For addresses that ask for any free place, as port 0 does elsewhere. */
  nextPlace = 1;
}

class MemoryPipe implements Pipe {
  handlers!: PipeHandlers;
  readonly chunkBytes = CHUNK_BYTES;
  readonly peer: string;
  other!: MemoryPipe;
  private readonly queue = new Ring<Uint8Array>();
  private queuedBytes = 0;
  private delivering = false;
  private short = false;
  private open = true;
  private closing: { error: Error | undefined } | undefined;

  constructor(peer: string) {
    this.peer = peer;
  }

  write(bytes: Uint8Array, owned = false): number {
    if (!this.open) return 0;
    const accepted = Math.min(bytes.byteLength, CAPACITY_BYTES - this.queuedBytes);
    if (accepted > 0) {
      // Of a short write the writer keeps the rest, and with it the memory.
      const given = owned && accepted === bytes.byteLength;
      this.queue.push(given ? bytes : bytes.slice(0, accepted));
      this.queuedBytes += accepted;
      this.schedule();
    }
    if (accepted < bytes.byteLength) this.short = true;
    return accepted;
  }

  close(error?: Error): void {
    if (!this.open) return;
    this.open = false;
    this.closing = { error: undefined };
    this.schedule();
    queueMicrotask(() => this.handlers.onClose(error));
  }

  private schedule(): void {
    if (this.delivering) return;
    this.delivering = true;
    queueMicrotask(() => this.deliver());
  }

  /** What was accepted before a close still arrives, then the close. */
  private deliver(): void {
    this.delivering = false;
    const bytes = this.queue.shift();
    if (bytes) {
      this.queuedBytes -= bytes.byteLength;
      if (this.other.open) this.other.handlers.onData(bytes, true);
      if (this.short && this.open) {
        this.short = false;
        queueMicrotask(() => this.open && this.handlers.onDrain());
      }
      if (this.queue.length > 0 || this.closing) this.schedule();
    } else if (this.closing && this.other.open) {
      this.other.open = false;
      this.other.handlers.onClose(this.closing.error);
    }
  }
}

/** Addresses are `memory://<any name>`; `memory://` alone asks for a free one. */
export function memory(network: MemoryNetwork): Transport {
  return {
    scheme: "memory",
    async listen(address, accept): Promise<Listener> {
      const taken = address === "memory://" ? `memory://${network.nextPlace++}` : address;
      if (network.listeners.has(taken)) {
        throw new RuntimeError("LISTEN_FAILED", `the address ${taken} is in use`);
      }
      network.listeners.set(taken, accept);
      return {
        address: taken,
        async close() {
          network.listeners.delete(taken);
        },
      };
    },
    async connect(address, handlers): Promise<Pipe> {
      const accept = network.listeners.get(address);
      if (!accept) throw new RuntimeError("CONNECT_FAILED", `nobody listens on ${address}`);
      const near = new MemoryPipe(address);
      const far = new MemoryPipe(`memory://connection-${network.nextPlace++}`);
      near.other = far;
      far.other = near;
      near.handlers = handlers(near);
      far.handlers = accept(far);
      return near;
    },
  };
}
