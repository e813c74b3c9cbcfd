import { expect, test } from "bun:test";
import { type Assembler as A, Assembler, type InMessage } from "../../protocols/assemble.ts";
import { Interleaver, type OutFrame } from "../../protocols/chunk.ts";
import type { Encoded } from "../../protocols/codec.ts";
import { creditCost, ReceiveWindow, SendWindow } from "../../protocols/credit.ts";
import type { ProtocolError } from "../../protocols/errors.ts";
import { FrameKind } from "../../protocols/frame.ts";
import { DEFAULT_LIMITS } from "../../protocols/limits.ts";
import { seededRandom } from "../../runtime/random.ts";

const open = (bytes: number) => {
  const window = new SendWindow();
  window.open(bytes);
  return window;
};
const interleaver = (chunkBytes: number, window = open(2 ** 40)) =>
  new Interleaver(chunkBytes, window, () => 0);
const text = (s: string) => new TextEncoder().encode(s);
const message = (name: string, ...sizes: number[]): Encoded => ({
  header: text(name),
  segments: sizes.map((size) => new Uint8Array(size).fill(name.charCodeAt(0))),
});

function drain(interleaver: Interleaver): OutFrame[] {
  const frames: OutFrame[] = [];
  for (let frame = interleaver.next(); frame; frame = interleaver.next()) frames.push(frame);
  return frames;
}

/** One letter per frame: the stream's own in capitals for a head or whole message, small for a chunk, . control. */
function order(frames: OutFrame[]): string {
  const names = new Map<number, string>();
  return frames
    .map((f) => {
      if (f.message === 0) return ".";
      if (f.kind === FrameKind.chunk) return names.get(f.message)!.toLowerCase();
      names.set(f.message, String.fromCharCode(f.body[f.kind === FrameKind.head ? f.body.length - 1 : 0]!));
      return names.get(f.message)!;
    })
    .join("");
}

const fresh = (bytes: number) => new Uint8Array(bytes);
const newAssembler = (allocate = (bytes: number) => new Uint8Array(bytes)) =>
  new Assembler(DEFAULT_LIMITS, allocate, new ReceiveWindow(2 ** 40));

function feed(assembler: A, frame: OutFrame): InMessage | undefined {
  const header = {
    kind: frame.kind,
    message: frame.message,
    chunk: frame.chunk,
    length: frame.body.byteLength,
  };
  if (frame.kind === FrameKind.message) return { header: frame.body, segments: [], stream: 0, cost: 0 };
  if (frame.kind === FrameKind.head) return assembler.begin(header, frame.body);
  assembler.expect(header);
  assembler.place(header).set(frame.body);
  return assembler.filled(header);
}

test("streams take turns, one frame each; a stream is first in, first out", () => {
  const out = interleaver(10);
  out.send("1", message("A", 40), false);
  out.send("1", message("C"), false);
  out.send("2", message("B", 20), false);
  expect(order(drain(out))).toBe("ABababaaC");
});

test("control never waits behind a tensor that has begun", () => {
  const out = interleaver(10);
  out.send("1", message("A", 30), false);
  const frames = [out.next()!, out.next()!];
  out.sendControl(FrameKind.ping, new Uint8Array(0));
  frames.push(...drain(out));
  expect(order(frames)).toBe("Aa.aa");
});

test("a small message of another stream waits for one chunk at most", () => {
  const out = interleaver(10);
  out.send("1", message("A", 1000), false);
  const frames = [out.next()!, out.next()!];
  out.send("2", message("B"), false);
  frames.push(out.next()!, out.next()!);
  expect(order(frames)).toMatch(/^Aaa?B/);
});

test("messages that pay wait for credit, others and begun ones do not", () => {
  const window = open(300);
  const out = interleaver(10, window);
  out.send(1, message("A", 100), false);
  out.send(1, message("C", 10), false);
  out.send("2", message("B", 10), false);
  const frames = drain(out);
  expect(order(frames).replaceAll("a", "")).toBe("ABb");
  expect(order(frames).match(/a/g)).toHaveLength(10);
  expect(order(drain(out))).toBe("");
  out.refund(1, window.outstanding);
  expect(order(drain(out))).toBe("Cc");
});

test("chunks stay close to what the peer has read, and control passes them", () => {
  const out = interleaver(2 ** 18);
  out.send("1", message("A", 2 ** 22), false);
  const frames = drain(out);
  expect(order(frames)).toBe("Aaaaa"); // 1 MiB
  out.sendControl(FrameKind.ping, new Uint8Array(0));
  out.send("2", message("B", 2 ** 22), false);
  expect(order(drain(out))).toBe(".B");
  out.pace.read(2 ** 19, 100);
  // As much as was read, and as much again, for the first round trip is the shortest yet.
  expect(drain(out).map((f) => f.kind)).toEqual([4, 4, 4, 4]);
  expect(() => out.pace.read(2 ** 30, 100)).toThrow("of 1572864 that were written");
});

test("on a pipe that wants whole segments, memory goes with a tell, if it is the segment's alone", () => {
  const out = interleaver(Number.POSITIVE_INFINITY);
  const owned = (...segments: Uint8Array[]) => ({ header: text("m"), segments });
  const flags = () => drain(out).flatMap((f) => (f.kind === FrameKind.chunk ? [f.owned] : []));
  const big = new Uint8Array(3 * 2 ** 20);
  out.send(1, owned(big), true);
  expect(flags()).toEqual([true]);
  out.send(1, owned(big), false);
  expect(flags()).toEqual([false]); // lent
  const shared = new Uint8Array(30);
  out.send(1, owned(shared.subarray(0, 10), shared.subarray(10)), true);
  expect(flags()).toEqual([false, false]);
  const twice = new Uint8Array(30);
  out.send(1, owned(twice), true);
  out.send(2, owned(twice, new Uint8Array(4)), true);
  expect(flags()).toEqual([false, true, true]); // the last that needs it
});

test("who takes memory back half way takes back its own claim, once", () => {
  const [first, second] = [new Uint8Array(10), new Uint8Array(10)];
  const asked = interleaver(10);
  const lent = asked.send(1, { header: text("A"), segments: [first, second] }, false);
  asked.next();
  asked.next(); // the first segment is out
  const lentAgain = interleaver(10);
  lentAgain.send(1, { header: text("B"), segments: [first] }, false);
  asked.cancel(lent);
  drain(asked);
  const out = interleaver(Number.POSITIVE_INFINITY);
  out.send(1, { header: text("C"), segments: [first, second] }, true);
  expect(drain(out).flatMap((f) => (f.kind === FrameKind.chunk ? [f.owned] : []))).toEqual([false, true]);
  lentAgain.clear();
});

test("memory that its sender gave to somebody else is noticed, not sent", () => {
  const out = interleaver(10);
  const bytes = new Uint8Array(20);
  out.send("1", { header: text("A"), segments: [bytes] }, false);
  structuredClone(bytes, { transfer: [bytes.buffer] });
  expect(() => out.next()).toThrow("given to somebody else");
});

test("chunks do not cross segments, and empty segments need none", () => {
  const out = interleaver(10);
  out.send("1", message("A", 0, 15, 0, 4), false);
  const frames = drain(out);
  expect(frames.slice(1).map((f) => f.body.byteLength)).toEqual([10, 5, 4]);
  expect(frames.slice(1).map((f) => f.chunk)).toEqual([0, 1, 2]);
});

test("whatever the interleaving, messages arrive whole, in order within a stream, charged what they cost", () => {
  const random = seededRandom(3);
  const out = interleaver(7);
  const credit = new ReceiveWindow(2 ** 40);
  const assembler = new Assembler(DEFAULT_LIMITS, (bytes) => new Uint8Array(bytes), credit);
  const sent = new Map<string, string[]>();
  const received = new Map<string, string[]>();
  let [cost, charged] = [0, 0];
  for (let i = 0; i < 200; i++) {
    const stream = String(1 + random.integer(5));
    const name = `${String.fromCharCode(97 + random.integer(26))} ${stream} ${i}`;
    const sizes = Array.from({ length: random.integer(4) }, () => random.integer(30));
    out.send(Number(stream), message(name, ...sizes), false);
    if (sizes.length > 0)
      cost += creditCost(
        sizes.reduce((a, b) => a + b, name.length),
        2 ** 40,
      );
    sent.set(stream, [...(sent.get(stream) ?? []), `${name} ${sizes}`]);
    for (let n = random.integer(12); n > 0; n--) step();
  }
  while (step());
  function step(): boolean {
    const frame = out.next();
    if (!frame) return false;
    const whole = feed(assembler, frame);
    if (whole) {
      charged += whole.cost;
      const name = new TextDecoder().decode(whole.header);
      const stream = name.split(" ")[1]!;
      for (const s of whole.segments) expect(s.every((b) => b === name.charCodeAt(0))).toBe(true);
      const sizes = whole.segments.map((s) => s.byteLength);
      received.set(stream, [...(received.get(stream) ?? []), `${name} ${sizes}`]);
    }
    return true;
  }
  expect(received).toEqual(sent);
  expect(charged).toBe(cost);
  expect(assembler.openMessages).toBe(0);
});

test("a cancelled message is dropped if unsent, and lets go of its memory if half sent", () => {
  const out = interleaver(10);
  const half = message("A", 30);
  const first = out.send("1", half, false);
  const second = out.send("1", message("B", 5), false);
  const frames = [out.next()!, out.next()!];
  expect(out.cancel(second)).toBe(true);
  expect(out.cancel(first)).toBe(false);
  half.segments[0]!.fill(0);
  frames.push(...drain(out));
  expect(order(frames)).toBe("Aaaa");
  expect(frames.slice(2).every((f) => f.body.every((b) => b === 65))).toBe(true);
});

test("chunks that do not fit what was announced are refused", () => {
  const code = (work: () => unknown) => {
    try {
      work();
    } catch (error) {
      return (error as ProtocolError).code;
    }
    return undefined;
  };
  const begin = () => {
    const out = interleaver(10);
    out.send("1", message("A", 20), false);
    const assembler = newAssembler();
    feed(assembler, out.next()!);
    return { assembler, chunk: out.next()! };
  };
  const bad: Partial<OutFrame>[] = [
    { message: 5 },
    { chunk: 1 },
    { body: new Uint8Array(21) },
    { body: new Uint8Array(0) },
  ];
  for (const change of bad) {
    const { assembler, chunk } = begin();
    expect(code(() => feed(assembler, { ...chunk, ...change }))).toBe("BAD_CHUNK");
  }
});

test("heads beyond the limits are refused before anything is allocated", () => {
  let allocated = 0;
  const limits = { ...DEFAULT_LIMITS, segments: 3, messageBytes: 1000, openMessages: 2, headerBytes: 50 };
  const assembler = new Assembler(
    limits,
    (bytes) => {
      allocated += bytes;
      return new Uint8Array(bytes);
    },
    new ReceiveWindow(2 ** 40),
  );
  const head = (encoded: Encoded) => {
    const out = interleaver(10);
    out.send("", encoded, false);
    return out.next()!;
  };
  expect(() => feed(assembler, head(message("A", 1, 1, 1, 1)))).toThrow(
    "segments of a message: at most 3, got 4",
  );
  expect(() => feed(assembler, head(message("A", 500, 501)))).toThrow("at most 1000, got 1001");
  expect(() => feed(assembler, head(message("A".repeat(51), 5)))).toThrow("at most 50, got 51");
  expect(allocated).toBe(0);
  feed(assembler, { ...head(message("A", 5)), message: 1 });
  feed(assembler, { ...head(message("A", 5)), message: 2 });
  expect(() => feed(assembler, { ...head(message("A", 5)), message: 3 })).toThrow("at most 2, got 3");
  expect(() => feed(assembler, { ...head(message("A", 5)), message: 2 })).toThrow("began twice");
  expect(allocated).toBe(0); // nor before the first byte has come
  const few = new Assembler(
    { ...limits, openMessages: 9, queueBytes: 500 },
    fresh,
    new ReceiveWindow(2 ** 40),
  );
  feed(few, { ...head(message("A", 900)), message: 1 });
  const second = { ...head(message("A", 601)), message: 2 };
  expect(() => feed(few, second)).toThrow("half received at once: at most 1500, got 1501");
});

test("a piece that is a whole segment becomes it, without a copy", () => {
  let allocated = 0;
  const assembler = newAssembler((bytes) => {
    allocated += bytes;
    return new Uint8Array(bytes);
  });
  const out = interleaver(20);
  out.send("1", message("A", 20, 30), false);
  feed(assembler, out.next()!);
  const chunk = out.next()!;
  const header = { kind: chunk.kind, message: chunk.message, chunk: chunk.chunk, length: 20 };
  const piece = chunk.body.slice();
  expect(assembler.adopt(header, piece)).toBe(true);
  expect(assembler.filled(header)).toBeUndefined();
  const second = out.next()!;
  expect(assembler.adopt({ ...header, chunk: second.chunk }, second.body)).toBe(false); // 20 of 30
  feed(assembler, second);
  const whole = feed(assembler, out.next()!)!;
  expect(whole.segments[0]).toBe(piece);
  expect(allocated).toBe(30);
});
