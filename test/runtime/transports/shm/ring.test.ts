/**
 * The ring of bytes, apart from any mapping. Its two ends are interleaved step by step: a step is one access to the
 * words they share, and which end makes the next one is drawn at random. An end cannot be stopped in the middle of
 * a function, so it is run again from its beginning for every step, with what its earlier steps gave noted down.
 */

import { describe, expect, test } from "bun:test";
import { type Random, seededRandom } from "../../../../runtime/random.ts";
import {
  HEAD,
  RING_WORDS_BYTES,
  RingCorrupted,
  RingReader,
  RingWriter,
  ringOver,
  TAIL,
  type Words,
} from "../../../../runtime/transports/shm/ring.ts";

function ring(capacity: number) {
  const { words, data } = ringOver(new Uint8Array(RING_WORDS_BYTES + capacity));
  return { words, writer: new RingWriter(words, data), reader: new RingReader(words, data) };
}

const counting = (length: number, from = 0) => Uint8Array.from({ length }, (_, i) => from + i);

/** Reads all there is. */
function drain(reader: RingReader, most = 1024): number[] {
  const all: number[] = [];
  for (;;) {
    const piece = reader.peek(most);
    if (piece.byteLength === 0) return all;
    all.push(...piece);
    reader.release(piece.byteLength);
  }
}

describe("a ring", () => {
  test("takes what fits, and the rest after it was read, over its end and back", () => {
    const { writer, reader } = ring(8);
    expect(writer.write(counting(6))).toBe(6);
    expect([...reader.peek(4)]).toEqual([0, 1, 2, 3]);
    reader.release(4);
    expect(writer.write(counting(9, 6))).toBe(6);
    expect(writer.write(counting(1))).toBe(0);
    expect([...reader.peek(100)]).toEqual([4, 5, 6, 7]); // up to the end of the memory
    expect(drain(reader)).toEqual([4, 5, 6, 7, 8, 9, 10, 11]);
    expect(writer.free()).toBe(8);
  });

  test("goes on when its counts pass 2^32", () => {
    const { words, writer, reader } = ring(16);
    Object.assign(writer, { tail: -5 });
    Object.assign(reader, { head: -5 });
    words.store(TAIL, -5);
    words.store(HEAD, -5);
    for (let i = 0; i < 10; i++) {
      expect(writer.write(counting(11, i))).toBe(11);
      expect(drain(reader)).toEqual([...counting(11, i)]);
    }
  });

  test("one sleep costs one bell", () => {
    const { writer, reader } = ring(8);
    expect(reader.sleeps()).toBe(true);
    writer.write(counting(1));
    expect([writer.wakes(), writer.wakes()]).toEqual([true, false]);
    expect(reader.sleeps()).toBe(false); // there is a byte
    expect(writer.wakes()).toBe(false);
  });

  test("a writer is woken when half of it is free", () => {
    const { writer, reader } = ring(8);
    writer.write(counting(8));
    expect(writer.sleeps()).toBe(true);
    reader.release(3);
    expect(reader.wakes()).toBe(false);
    reader.release(1);
    expect([reader.wakes(), reader.wakes()]).toEqual([true, false]);
    expect(writer.sleeps()).toBe(false);
  });

  test.each([9, -9, 2 ** 31, -(2 ** 31), 0x12345678])(
    "counts that cannot be true are refused: %p",
    (count) => {
      const { words, writer, reader } = ring(8);
      words.store(TAIL, count);
      for (const read of [() => reader.peek(8), () => reader.available(), () => reader.sleeps()]) {
        expect(read).toThrow(RingCorrupted);
      }
      words.store(HEAD, count);
      for (const write of [() => writer.write(counting(1)), () => writer.free(), () => writer.sleeps()]) {
        expect(write).toThrow("in a ring of 8");
      }
    },
  );
});

// --- all ways in which two ends can get in one another's way -----------------------------------------------------

/** What an end sees of the world besides the ring. */
interface World {
  readonly words: Words;
  /** A step of its own: whatever `effect` does is done once. */
  act(effect: () => void): void;
  /** Waits until its bell is rung. */
  sleep(): void;
}
type End = (world: World) => void;

class Stop extends Error {}

/** Runs an end by single steps. */
class Stepper {
  done = false;
  bell = false;
  private readonly past: unknown[] = [];
  private readonly end: End;
  private readonly shared: Words;
  private readonly short: boolean;
  private asleep = false;

  constructor(end: End, shared: Words, short: boolean) {
    this.end = end;
    this.shared = shared;
    this.short = short;
  }

  get canGo(): boolean {
    return !this.done && (!this.asleep || this.bell);
  }

  step(): void {
    let at = 0;
    let live = 1;
    const take = <T>(work: () => T): T => {
      if (at < this.past.length) return this.past[at++] as T;
      if (live-- === 0) throw new Stop();
      const result = work();
      this.past.push(result);
      at++;
      // What follows up to the next access (the copying of bytes) belongs to this step or to the next.
      if (this.short) throw new Stop();
      return result;
    };
    const { shared } = this;
    const world: World = {
      words: {
        load: (index) => take(() => shared.load(index)),
        store: (index, value) => take(() => shared.store(index, value)),
        exchange: (index, value) => take(() => shared.exchange(index, value)),
      },
      act: (effect) => take(effect),
      sleep: () => {
        if (at === this.past.length && !this.bell) {
          this.asleep = true;
          throw new Stop();
        }
        take(() => {
          this.bell = false;
          this.asleep = false;
        });
      },
    };
    try {
      this.end(world);
      this.done = true;
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
    }
  }
}

/** Sends bytes through a ring under one interleaving; the received bytes, or what went wrong. */
function interleave(random: Random): { sent: number[]; received: number[]; stuck: boolean } {
  const memory = new Uint8Array(RING_WORDS_BYTES + 8);
  const { words, data } = ringOver(memory);
  const sent = counting(12 + random.integer(16));
  const writes = Array.from({ length: sent.byteLength }, () => 1 + random.integer(10));
  const most = 1 + random.integer(8);
  const received: number[] = [];

  const writing: End = (world) => {
    const writer = new RingWriter(world.words, data);
    for (let at = 0, i = 0; at < sent.byteLength; i++) {
      const piece = sent.subarray(at, at + writes[i % writes.length]!);
      const accepted = writer.write(piece);
      at += accepted;
      if (accepted > 0 && writer.wakes())
        world.act(() => {
          reader.bell = true;
        });
      if (accepted < piece.byteLength) while (writer.sleeps()) world.sleep();
    }
  };
  const reading: End = (world) => {
    const reader = new RingReader(world.words, data);
    for (let got = 0; got < sent.byteLength; ) {
      const piece = reader.peek(most);
      if (piece.byteLength === 0) {
        if (reader.sleeps()) world.sleep();
        continue;
      }
      world.act(() => void received.push(...piece));
      got += piece.byteLength;
      reader.release(piece.byteLength);
      if (reader.wakes())
        world.act(() => {
          writer.bell = true;
        });
    }
  };
  const writer = new Stepper(writing, words, random.next() < 0.5);
  const reader = new Stepper(reading, words, random.next() < 0.5);
  // Some schedules favour one end, so that the other is far behind.
  const favour = random.next();
  while (!writer.done || !reader.done) {
    const able = [writer, reader].filter((end) => end.canGo);
    if (able.length === 0) return { sent: [...sent], received, stuck: true };
    const next = able.length === 2 ? able[random.next() < favour ? 0 : 1]! : able[0]!;
    next.step();
  }
  return { sent: [...sent], received, stuck: false };
}

test("under 500 interleavings every byte arrives once and in order, and no wake-up is lost", () => {
  for (let seed = 1; seed <= 500; seed++) {
    const { sent, received, stuck } = interleave(seededRandom(seed));
    expect({ seed, stuck, received }).toEqual({ seed, stuck: false, received: sent });
  }
});
