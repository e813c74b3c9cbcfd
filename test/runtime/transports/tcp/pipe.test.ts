/** When a socket is open, full, ended and dropped, on a socket that does what the test says. */

import { beforeEach, describe, expect, test } from "bun:test";
import { VirtualClock } from "../../../../runtime/clock.ts";
import { SocketPipe } from "../../../../runtime/transports/tcp/pipe.ts";

class Pipe extends SocketPipe {
  room = 4;
  readonly done: string[] = [];

  protected put(bytes: Uint8Array): number {
    const taken = Math.min(this.room, bytes.byteLength);
    this.room -= taken;
    return taken;
  }
  protected end(): void {
    this.done.push("end");
  }
  protected drop(): void {
    this.done.push("drop");
  }
}

let clock: VirtualClock;
let pipe: Pipe;
let told: string[];

function make(encrypted: boolean): Pipe {
  const made = new Pipe({ peer: "tcp://there:1", encrypted, clock });
  made.handlers = {
    onData: (bytes) => told.push(`data ${bytes.byteLength}`),
    onDrain: () => told.push("drain"),
    onClose: (error) => told.push(`close ${(error as { code?: string } | undefined)?.code ?? "cleanly"}`),
  };
  return made;
}

beforeEach(() => {
  clock = new VirtualClock();
  told = [];
  pipe = make(true);
});

test("accepts nothing before it is open, and says when it is", () => {
  expect(pipe.write(new Uint8Array(3))).toBe(0);
  expect(pipe.channel).toBeUndefined();
  pipe.opened({ local: "a", remote: "b" });
  expect(told).toEqual(["drain"]);
  expect(pipe.channel).toEqual({ local: "a", remote: "b" });
  expect(pipe.write(new Uint8Array(6))).toBe(4);
});

describe("closing", () => {
  test("ends the socket, and drops it when the other end does not close in ten seconds", async () => {
    pipe.opened();
    pipe.close();
    expect(pipe.done).toEqual(["end"]);
    await clock.advance(9_999);
    expect(pipe.done).toEqual(["end"]);
    await clock.advance(1);
    expect(pipe.done).toEqual(["end", "drop"]);
    pipe.gone();
    expect(told).toEqual(["close cleanly"]);
  });

  test("drops nothing that is gone by itself", async () => {
    pipe.opened();
    pipe.close();
    pipe.gone();
    await clock.advance(20_000);
    expect(pipe.done).toEqual(["end"]);
  });

  test("before it is open drops the socket at once", () => {
    pipe.close();
    expect(pipe.done).toEqual(["drop"]);
  });
});

test("the first fault is the one that is told, also when dropping the socket ends it at once", () => {
  pipe.failed(Object.assign(new Error("forged"), { code: "WRONG_CERTIFICATE" }));
  pipe.gone();
  expect(told).toEqual(["close WRONG_CERTIFICATE"]);
});

describe("the beginning of TLS", () => {
  const hello = Uint8Array.of(0x16, 3, 1, 0, 200);

  test("is not for a pipe of plain text, which says so and ends", () => {
    const plain = make(false);
    plain.room = 1000;
    plain.opened();
    plain.received(hello);
    expect(told).toEqual(["close TLS_MISMATCH"]);
    expect(plain.done).toEqual(["end"]);
    expect(plain.room).toBeLessThan(1000);
  });

  test("is looked for in the first bytes only", () => {
    const plain = make(false);
    plain.opened();
    plain.received(Uint8Array.of(0x54, 0x52));
    plain.received(hello);
    expect(told).toEqual(["data 2", "data 5"]);
  });
});
