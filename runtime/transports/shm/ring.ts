/**
 * A ring of bytes between one writer and one reader that share memory and nothing else; pure arithmetic, so that
 * it is tested without a mapping (test/runtime/transports/shm/ring.test.ts interleaves the two step by step).
 *
 * The two ends agree through four words. `TAIL` counts the bytes ever written and belongs to the writer, `HEAD`
 * counts the bytes ever read and belongs to the reader; both run modulo 2^32, the capacity is a power of two, and
 * `TAIL - HEAD` is what lies in the ring. Each end keeps its own count in private memory and only publishes it; of
 * the other's count it believes nothing: a difference beyond the capacity is a `RingCorrupted`, so whatever a peer
 * writes into the words, every access stays inside the ring.
 *
 * **No wake-up is lost.** An end that finds nothing to do says so in its word (`READER_WAITS`, `WRITER_WAITS`) and
 * only then looks once more; the other publishes its count and only then looks at the word. JavaScript's atomics
 * are sequentially consistent, that is, all accesses of both ends happen in one order that both agree on. If the
 * sleeper's second look came before the count was published, then its word was set before that too, and the other
 * end's look, which comes after its publication, sees it and rings the bell (Dekker's argument). If it came after,
 * the sleeper sees the count and does not sleep. Whoever rings takes the word back (an exchange), so one sleep
 * costs one bell.
 */

/** Words of 32 bits; by default a ring's own, in tests ones that stop before every access. */
export interface Words {
  load(index: number): number;
  store(index: number, value: number): void;
  /** Stores and returns what was there, in one step. */
  exchange(index: number, value: number): number;
}

/** Each word has 128 bytes to itself: two cache lines, which processors fetch in pairs. */
const WORDS_APART = 32;
export const TAIL = 0;
export const HEAD = WORDS_APART;
export const READER_WAITS = 2 * WORDS_APART;
export const WRITER_WAITS = 3 * WORDS_APART;
/** Bytes of the words at the front of a ring. */
export const RING_WORDS_BYTES = 4 * WORDS_APART * 4;

/** The other end's count cannot be true. The ring is of no use afterwards. */
export class RingCorrupted extends Error {
  override readonly name = "RingCorrupted";
  readonly code = "RING_CORRUPTED";

  constructor(whose: string, difference: number, capacity: number) {
    super(`the ${whose} of a shared ring claims ${difference} bytes in a ring of ${capacity}`);
  }
}

export class AtomicWords implements Words {
  private readonly words: Int32Array;

  constructor(words: Int32Array) {
    this.words = words;
  }

  load(index: number): number {
    return Atomics.load(this.words, index);
  }

  store(index: number, value: number): void {
    Atomics.store(this.words, index, value);
  }

  exchange(index: number, value: number): number {
    return Atomics.exchange(this.words, index, value);
  }
}

/** Bytes of a ring with its words. @param capacity a power of two, at most 2^30 */
export function ringBytes(capacity: number): number {
  return RING_WORDS_BYTES + capacity;
}

/** The words and the data of a ring in memory of `ringBytes(capacity)` bytes at a multiple of four. */
export function ringOver(memory: Uint8Array): { words: Words; data: Uint8Array } {
  const words = new Int32Array(memory.buffer, memory.byteOffset, RING_WORDS_BYTES / 4);
  return { words: new AtomicWords(words), data: memory.subarray(RING_WORDS_BYTES) };
}

/** The writing end. */
export class RingWriter {
  private readonly words: Words;
  private readonly data: Uint8Array;
  private readonly mask: number;
  private tail = 0;

  /** @param data as many bytes as a power of two. */
  constructor(words: Words, data: Uint8Array) {
    this.words = words;
    this.data = data;
    this.mask = data.byteLength - 1;
  }

  /** Bytes that fit now. @throws RingCorrupted. */
  free(): number {
    const capacity = this.data.byteLength;
    const used = (this.tail - this.words.load(HEAD)) >>> 0;
    if (used > capacity) throw new RingCorrupted("reader", used, capacity);
    return capacity - used;
  }

  /** Copies what fits, from the front, and publishes it; returns how many bytes that was. @throws RingCorrupted. */
  write(bytes: Uint8Array): number {
    const length = Math.min(bytes.byteLength, this.free());
    if (length === 0) return 0;
    const at = this.tail & this.mask;
    const first = Math.min(length, this.data.byteLength - at);
    this.data.set(first === bytes.byteLength ? bytes : bytes.subarray(0, first), at);
    if (first < length) this.data.set(bytes.subarray(first, length), 0);
    this.tail = (this.tail + length) | 0;
    this.words.store(TAIL, this.tail);
    return length;
  }

  /** After a write: whether the reader waits and its bell has to be rung; true once per sleep. */
  wakes(): boolean {
    return this.words.load(READER_WAITS) !== 0 && this.words.exchange(READER_WAITS, 0) !== 0;
  }

  /** Announces that this end waits for room; false if there is room after all. @throws RingCorrupted. */
  sleeps(): boolean {
    this.words.store(WRITER_WAITS, 1);
    if (this.free() < roomWorthWaking(this.data.byteLength)) return true;
    this.words.store(WRITER_WAITS, 0);
    return false;
  }
}

/** The reading end. */
export class RingReader {
  private readonly words: Words;
  private readonly data: Uint8Array;
  private readonly mask: number;
  private head = 0;

  /** @param data as many bytes as a power of two. */
  constructor(words: Words, data: Uint8Array) {
    this.words = words;
    this.data = data;
    this.mask = data.byteLength - 1;
  }

  /** Bytes that can be read now. @throws RingCorrupted. */
  available(): number {
    const capacity = this.data.byteLength;
    const used = (this.words.load(TAIL) - this.head) >>> 0;
    if (used > capacity) throw new RingCorrupted("writer", used, capacity);
    return used;
  }

  /** The next bytes, where they lie in the ring: at most `most`, up to its end, empty when there are none. */
  peek(most: number): Uint8Array {
    const at = this.head & this.mask;
    return this.data.subarray(at, at + Math.min(this.available(), most, this.data.byteLength - at));
  }

  /** The first `length` of the bytes just seen are done with; their room is the writer's again. */
  release(length: number): void {
    this.head = (this.head + length) | 0;
    this.words.store(HEAD, this.head);
  }

  /** After a release: whether the writer waits, there is room worth its while, and its bell has to be rung. */
  wakes(): boolean {
    if (this.words.load(WRITER_WAITS) === 0) return false;
    const free = this.data.byteLength - this.available();
    return free >= roomWorthWaking(this.data.byteLength) && this.words.exchange(WRITER_WAITS, 0) !== 0;
  }

  /** Announces that this end waits for bytes; false if some have come after all. @throws RingCorrupted. */
  sleeps(): boolean {
    this.words.store(READER_WAITS, 1);
    if (this.available() === 0) return true;
    this.words.store(READER_WAITS, 0);
    return false;
  }
}

/** Half: while the writer wakes up and fills it, the reader has the other half to read. */
function roomWorthWaking(capacity: number): number {
  return capacity >> 1;
}
