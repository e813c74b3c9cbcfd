/**
 * What every transport promises (runtime/transports/transport.ts), as tests. A transport's own test calls this
 * with a way to make one and addresses to use.
 */

import { afterEach, describe, expect, test } from "bun:test";
import { sha256 } from "../../runtime/platform/hash.ts";
import type { Listener, Pipe, PipeHandlers, Transport } from "../../runtime/transports/transport.ts";

export interface TransportCase {
  readonly name: string;
  make(): Transport;
  /** An address that asks for any free place. */
  readonly anyAddress: string;
  /** A well-formed address where nobody listens. */
  readonly deadAddress: string;
  readonly malformed?: string;
}

/** One end of a pipe with what happened to it. */
class End implements PipeHandlers {
  pipe!: Pipe;
  readonly pieces: Uint8Array[] = [];
  received = 0;
  drains = 0;
  closes: (Error | undefined)[] = [];
  private waiters: (() => void)[] = [];

  onData(bytes: Uint8Array): void {
    this.pieces.push(bytes.slice());
    this.received += bytes.byteLength;
    this.changed();
  }
  onDrain(): void {
    this.drains++;
    this.changed();
  }
  onClose(error?: Error): void {
    this.closes.push(error);
    this.changed();
  }

  /** Resolves when the condition holds; looked at whenever something happens. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.waiters.push(resolve));
  }

  /** Writes all of it, waiting for drains. */
  async send(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength; ) {
      const drains = this.drains;
      const accepted = this.pipe.write(bytes.subarray(at));
      at += accepted;
      if (at < bytes.byteLength) await this.until(() => this.drains > drains);
    }
  }

  bytes(): Uint8Array {
    const all = new Uint8Array(this.received);
    let at = 0;
    for (const piece of this.pieces) {
      all.set(piece, at);
      at += piece.byteLength;
    }
    return all;
  }

  private changed(): void {
    for (const waiter of this.waiters.splice(0)) waiter();
  }
}

export function transportContract({ name, make, anyAddress, deadAddress, malformed }: TransportCase): void {
  describe(`the ${name} transport`, () => {
    const open: (Listener | Pipe)[] = [];
    afterEach(async () => {
      for (const each of open.splice(0)) await each.close();
    });

    async function pair(): Promise<{ near: End; far: End; listener: Listener }> {
      const transport = make();
      const far = new End();
      const accepted = Promise.withResolvers<void>();
      const listener = await transport.listen(anyAddress, (pipe) => {
        far.pipe = pipe;
        accepted.resolve();
        return far;
      });
      const near = new End();
      near.pipe = await transport.connect(listener.address, () => near);
      await accepted.promise;
      open.push(listener, near.pipe, far.pipe);
      return { near, far, listener };
    }

    const pattern = (length: number) => {
      const bytes = new Uint8Array(length);
      const words = new Uint32Array(bytes.buffer, 0, length >> 2);
      for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 2654435761);
      return bytes;
    };

    test("bytes arrive in order, both ways", async () => {
      const { near, far } = await pair();
      await near.send(Uint8Array.of(1, 2));
      await near.send(Uint8Array.of(3));
      await far.send(Uint8Array.of(9));
      await far.until(() => far.received === 3);
      await near.until(() => near.received === 1);
      expect([...far.bytes()]).toEqual([1, 2, 3]);
      expect([...near.bytes()]).toEqual([9]);
    });

    test("8 MiB arrive intact both ways at once, through short writes and drains", async () => {
      const { near, far } = await pair();
      const bytes = pattern(8 * 2 ** 20);
      await Promise.all([near.send(bytes), far.send(bytes)]);
      await far.until(() => far.received >= bytes.byteLength);
      await near.until(() => near.received >= bytes.byteLength);
      expect(sha256([far.bytes()])).toBe(sha256([bytes]));
      expect(sha256([near.bytes()])).toBe(sha256([bytes]));
    });

    test("a full pipe refuses instead of buffering without end, and says when it is free", async () => {
      const { near, far } = await pair();
      const piece = pattern(2 ** 20);
      let accepted = 0;
      let short = false;
      // All in one turn, so that nothing can be delivered in between.
      for (let i = 0; i < 64 && !short; i++) {
        const n = near.pipe.write(piece);
        accepted += n;
        short = n < piece.byteLength;
      }
      expect(short).toBe(true);
      await near.until(() => near.drains === 1);
      await far.until(() => far.received === accepted);
    });

    test("accepted memory may be reused at once", async () => {
      const { near, far } = await pair();
      const bytes = pattern(64 * 1024);
      const hash = sha256([bytes]);
      const accepted = near.pipe.write(bytes);
      expect(accepted).toBe(bytes.byteLength);
      bytes.fill(0);
      await far.until(() => far.received === accepted);
      expect(sha256([far.bytes()])).toBe(hash);
    });

    test("what was written before a close arrives; both ends hear of it once; it accepts nothing after", async () => {
      const { near, far } = await pair();
      near.pipe.write(Uint8Array.of(1, 2, 3));
      near.pipe.close();
      near.pipe.close();
      expect(near.pipe.write(Uint8Array.of(4))).toBe(0);
      await far.until(() => far.closes.length > 0);
      await near.until(() => near.closes.length > 0);
      expect([...far.bytes()]).toEqual([1, 2, 3]);
      far.pipe.close();
      expect(far.pipe.write(Uint8Array.of(4))).toBe(0);
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect([near.closes.length, far.closes.length]).toEqual([1, 1]);
    });

    test("an address that is taken is refused, naming it", async () => {
      const transport = make();
      const listener = await transport.listen(anyAddress, () => new End());
      open.push(listener);
      const second = transport.listen(listener.address, () => new End());
      await expect(second).rejects.toMatchObject({ code: "LISTEN_FAILED" });
      await expect(second).rejects.toThrow(listener.address);
      await expect(second).rejects.toThrow("in use");
    });

    test("an address is free again once its listener is closed", async () => {
      const transport = make();
      const first = await transport.listen(anyAddress, () => new End());
      await first.close();
      const again = await transport.listen(first.address, () => new End());
      open.push(again);
      expect(again.address).toBe(first.address);
    });

    test("nobody at the other end is an error that names the address", async () => {
      const refused = make().connect(deadAddress, () => new End());
      await expect(refused).rejects.toMatchObject({ code: "CONNECT_FAILED" });
      await expect(refused).rejects.toThrow(deadAddress);
    });

    if (malformed !== undefined) {
      test("a malformed address is refused, saying what is expected", async () => {
        const expected = {
          code: "LISTEN_FAILED",
          message: expect.stringContaining("expected tcp://host:port"),
        };
        await expect(make().listen(malformed, () => new End())).rejects.toMatchObject(expected);
      });
    }
  });
}
