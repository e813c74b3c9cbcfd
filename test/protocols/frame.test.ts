import { expect, test } from "bun:test";
import type { ProtocolError } from "../../protocols/errors.ts";
import {
  encodeFrame,
  type FrameHeader,
  FrameKind,
  FrameReader,
  PROTOCOL_VERSION,
} from "../../protocols/frame.ts";
import { seededRandom } from "../../runtime/random.ts";

interface Seen {
  readonly header: FrameHeader;
  readonly body: number[];
}

function reader(place: (frame: FrameHeader) => Uint8Array | null = () => null) {
  const seen: Seen[] = [];
  const sink = {
    accept: () => {},
    place,
    complete: (header: FrameHeader, body: Uint8Array) => void seen.push({ header, body: [...body] }),
  };
  return { seen, reader: new FrameReader(sink, 100) };
}

function thrown(work: () => void): ProtocolError {
  try {
    work();
  } catch (error) {
    return error as ProtocolError;
  }
  throw new Error("nothing was thrown");
}

test("frames are the same however the bytes are cut", () => {
  const random = seededRandom(1);
  const frames = Array.from({ length: 20 }, (_, i) =>
    encodeFrame(FrameKind.message, random.bytes(random.integer(60)), i, i * 2),
  );
  const all = new Uint8Array(frames.flatMap((f) => [...f]));
  const whole = reader();
  whole.reader.feed(all);
  expect(whole.seen).toHaveLength(20);
  for (const most of [1, 3, 16, 17, 50]) {
    const cut = reader();
    for (let at = 0; at < all.length; ) {
      const end = Math.min(all.length, at + 1 + random.integer(most));
      cut.reader.feed(all.slice(at, end));
      at = end;
    }
    expect(cut.seen).toEqual(whole.seen);
  }
});

test("a body with a place is written there and nowhere else", () => {
  const place = new Uint8Array(4);
  const { reader: r, seen } = reader((frame) => (frame.kind === FrameKind.chunk ? place : null));
  const bytes = encodeFrame(FrameKind.chunk, Uint8Array.of(1, 2, 3, 4), 9, 0);
  r.feed(bytes.slice(0, 18));
  expect([...place]).toEqual([1, 2, 0, 0]);
  r.feed(bytes.slice(18));
  expect([...place]).toEqual([1, 2, 3, 4]);
  expect(seen[0]!.header.message).toBe(9);
});

test("something that is not a frame is named", () => {
  const error = thrown(() => reader().reader.feed(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n")));
  expect(error.code).toBe("BAD_MAGIC");
});

test("another version is refused with a message that names both", () => {
  const bytes = encodeFrame(FrameKind.ping);
  bytes[2] = 77;
  const error = thrown(() => reader().reader.feed(bytes));
  expect(error.code).toBe("VERSION_MISMATCH");
  expect(error.message).toContain(`version ${PROTOCOL_VERSION} `);
  expect(error.message).toContain("version 77");
});

test("an unknown kind is refused", () => {
  const bytes = encodeFrame(FrameKind.ping);
  bytes[3] = 99;
  expect(thrown(() => reader().reader.feed(bytes)).code).toBe("UNEXPECTED_FRAME");
});

test("an end inside a frame is noticed, one between frames is not an error", () => {
  const bytes = encodeFrame(FrameKind.message, Uint8Array.of(1, 2, 3));
  const { reader: r } = reader();
  r.feed(bytes);
  r.end();
  r.feed(bytes.slice(0, 5));
  expect(thrown(() => r.end()).code).toBe("TRUNCATED");
});

test("while paused, frames wait, up to a limit", () => {
  const { reader: r, seen } = reader();
  r.pause();
  r.feed(encodeFrame(FrameKind.ping));
  expect(seen).toHaveLength(0);
  r.resume();
  expect(seen).toHaveLength(1);
  r.pause();
  expect(thrown(() => r.feed(new Uint8Array(101))).code).toBe("LIMIT_EXCEEDED");
});
