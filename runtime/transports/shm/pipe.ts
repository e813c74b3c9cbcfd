/**
 * A pipe over two rings of one mapping and the doorbell beside it. Bytes are copied twice, into the ring by the
 * writer and out of it by whoever reads them in `onData`, both while they are in the processor's cache.
 *
 * The bell is rung only for an end that has said it waits, and nobody looks at the ring over and over before it
 * waits: on machines whose cores are shared that took the time from the other end, and made both slower. When the socket closes, what the other end had
 * published is still delivered, then the pipe is closed: with a process that was killed nothing else ends.
 */

import type { Clock } from "../../clock.ts";
import { asError } from "../../errors.ts";
import type { Mapping } from "../../platform/mapped.ts";
import type { Pipe, PipeHandlers } from "../transport.ts";
import type { Doorbell } from "./doorbell.ts";
import { RingReader, RingWriter, ringBytes, ringOver } from "./ring.ts";

/**
 * Bytes of one ring. While the writer wakes up and fills one half the reader has the other to read, and each half
 * costs a switch between processes: 1 MiB was 1.2 times as fast as 256 KiB. From 2 MiB on the ring no longer fits
 * the second-level cache of the processor it was measured on, and copying through it is slower again.
 */
export const RING_CAPACITY = 1024 * 1024;
/** Bytes published at a time: the other end can begin before a large write is done. */
const PIECE_BYTES = 128 * 1024;
/** Bytes delivered before other events have their turn: about a millisecond. */
const TURN_BYTES = 4 * 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;

/** Bytes of the mapping of a connection. */
export const MAPPING_BYTES = 2 * ringBytes(RING_CAPACITY);

interface Shared {
  readonly mapping: Mapping;
  readonly writer: RingWriter;
  readonly reader: RingReader;
}

export class ShmPipe implements Pipe {
  handlers!: PipeHandlers;
  readonly chunkBytes = CHUNK_BYTES;
  readonly peer: string;
  private readonly bell: Doorbell;
  private readonly clock: Clock;
  /** Undefined once the pipe is closed: the mapping goes with the last reference to it. */
  private shared: Shared | undefined;
  private short = false;
  private reading = false;

  /** @param side which of the two rings is written: the connector's is the first. */
  constructor(side: "connector" | "listener", mapping: Mapping, bell: Doorbell, clock: Clock, peer: string) {
    this.peer = peer;
    this.bell = bell;
    this.clock = clock;
    const half = MAPPING_BYTES / 2;
    const first = ringOver(mapping.bytes.subarray(0, half));
    const second = ringOver(mapping.bytes.subarray(half));
    const [out, into] = side === "connector" ? [first, second] : [second, first];
    this.shared = {
      mapping,
      writer: new RingWriter(out.words, out.data),
      reader: new RingReader(into.words, into.data),
    };
  }

  write(bytes: Uint8Array): number {
    if (!this.shared) return 0;
    const { writer } = this.shared;
    let at = 0;
    try {
      while (at < bytes.byteLength) {
        const accepted = writer.write(bytes.subarray(at, at + PIECE_BYTES));
        if (accepted === 0) break;
        at += accepted;
        if (writer.wakes()) this.bell.ring();
      }
      if (at < bytes.byteLength && !this.short) {
        this.short = true;
        if (!writer.sleeps()) this.clock.defer(this.room);
      }
    } catch (error) {
      this.close(asError(error));
    }
    return at;
  }

  close(error?: Error): void {
    if (!this.shared) return;
    this.leave();
    this.bell.close();
    queueMicrotask(() => this.handlers.onClose(error));
  }

  /** The bell has rung, or the pipe has just been opened: there may be bytes, or room, or neither. */
  rung(): void {
    this.room();
    if (!this.reading) this.read();
  }

  /** The socket is gone. The rest is what one ring holds, whatever its words say. */
  ended(error?: Error): void {
    if (!this.shared) return;
    try {
      for (let left = RING_CAPACITY; left > 0 && this.shared; ) {
        const delivered = this.deliver(this.shared.reader);
        if (delivered === 0) break;
        left -= delivered;
      }
    } catch (corrupted) {
      error ??= asError(corrupted);
    }
    if (!this.shared) return; // closed by whoever was told the last bytes
    this.leave();
    this.bell.close();
    this.handlers.onClose(error);
  }

  private readonly room = (): void => {
    if (!this.shared || !this.short) return;
    try {
      if (this.shared.writer.sleeps()) return;
    } catch (error) {
      this.close(asError(error));
      return;
    }
    this.short = false;
    this.handlers.onDrain();
  };

  private readonly read = (): void => {
    this.reading = false;
    try {
      for (let left = TURN_BYTES; this.shared; ) {
        const { reader } = this.shared;
        const delivered = this.deliver(reader);
        left -= delivered;
        if (left <= 0) {
          this.reading = true;
          this.clock.defer(this.read);
          return;
        }
        if (delivered === 0 && reader.sleeps()) return;
      }
    } catch (error) {
      this.close(asError(error));
    }
  };

  private deliver(reader: RingReader): number {
    const piece = reader.peek(PIECE_BYTES);
    const { byteLength } = piece;
    if (byteLength === 0) return 0;
    this.handlers.onData(piece);
    reader.release(byteLength);
    if (reader.wakes()) this.bell.ring();
    return byteLength;
  }

  private leave(): void {
    const { mapping } = this.shared!;
    this.shared = undefined;
    // Not at once: whoever closes may be in the middle of bytes that lie in it.
    this.clock.defer(() => mapping.release());
  }
}
