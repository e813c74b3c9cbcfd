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

function reader(place: (frame: FrameHeader) => Uint8Array | null = () => null, adopts = false) {
  const seen: Seen[] = [];
  const adopted: Uint8Array[] = [];
  const sink = {
    accept: () => {},
    place,
    adopt: (_: FrameHeader, piece: Uint8Array) => {
      adopted.push(piece);
      return adopts;
    },
    complete: ({ ...header }: FrameHeader, bytes: Uint8Array, at: number) =>
      void seen.push({ header, body: [...bytes.subarray(at, at + header.length)] }),
  };
  return { seen, adopted, reader: new FrameReader(sink) };
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

test("no memory is asked for before the first byte of a body has come", () => {
  const asked: number[] = [];
  const { reader: r } = reader((frame) => {
    asked.push(frame.length);
    return new Uint8Array(frame.length);
  });
  const bytes = encodeFrame(FrameKind.chunk, new Uint8Array(100));
  r.feed(bytes.slice(0, 16));
  expect(asked).toEqual([]);
  r.feed(bytes.slice(16, 17));
  expect(asked).toEqual([100]);
});

test("a piece that is a whole body and given away can be kept; any other is not offered", () => {
  const bytes = encodeFrame(FrameKind.chunk, Uint8Array.of(1, 2, 3));
  const { reader: r, adopted, seen } = reader(() => new Uint8Array(3), true);
  const body = bytes.slice(16);
  r.feed(bytes.slice(0, 16), true);
  r.feed(body, true);
  expect(adopted).toEqual([body]);
  expect(adopted[0]).toBe(body);
  expect(seen).toHaveLength(1);
  r.feed(bytes.slice(0, 16), true);
  r.feed(body.slice(), false);
  r.feed(bytes.slice(0, 16), true);
  r.feed(body.slice(0, 2), true);
  r.feed(body.slice(2), true);
  r.feed(bytes, true);
  expect(adopted).toHaveLength(1);
  expect(seen.map((f) => f.body)).toEqual([
    [1, 2, 3],
    [1, 2, 3],
    [1, 2, 3],
    [1, 2, 3],
  ]);
});
