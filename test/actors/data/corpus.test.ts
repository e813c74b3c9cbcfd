import { describe, expect, test } from "bun:test";
import { CorpusError, readDefaultText, readText, splitText } from "../../../actors/data/corpus.ts";
import { FileError, type Files, files } from "../../../runtime/platform/files.ts";

/** Files whose only content is `bytes`. */
const holding = (bytes: Uint8Array): Files => ({ ...files, read: async () => bytes });
const encoded = (text: string) => new TextEncoder().encode(text);
const refusal = async (bytes: Uint8Array) => {
  const error = await readText(holding(bytes), "my.txt").catch((reason) => reason);
  expect(error).toBeInstanceOf(CorpusError);
  expect(error.message).not.toContain("\n");
  return error as CorpusError;
};

describe("readText", () => {
  test("takes any UTF-8 text, also where a character lies across the pieces it is checked in", async () => {
    const text = encoded(`${"x".repeat(65_535)}é, 漢字, 🎭`);
    expect((await readText(holding(text), "my.txt")).bytes).toBe(text);
  });

  test("refuses what is empty, binary or in another encoding, and says so", async () => {
    expect((await refusal(new Uint8Array(0))).message).toContain("my.txt is empty");
    expect((await refusal(encoded("ab\0c"))).message).toContain("byte 2 is zero");
    const latin1 = await refusal(Uint8Array.of(0x61, 0xe9, 0x62));
    expect(latin1.reason).toBe("binary");
    expect(latin1.message).toContain("my.txt is not UTF-8 text");
    expect((await refusal(encoded("é").subarray(0, 1))).reason).toBe("binary");
  });

  test("names the file that is missing", async () => {
    const error = await readText(files, "/no/such/file.txt").catch((reason) => reason);
    expect(error).toBeInstanceOf(FileError);
    expect(error.message).toBe("cannot read /no/such/file.txt: it does not exist");
  });
});

describe("readDefaultText", () => {
  test("is some megabytes of declarations, whatever the order the file system lists them in", async () => {
    const corpus = await readDefaultText(files);
    expect(corpus.bytes.length).toBeGreaterThan(4_000_000);
    const backwards: Files = {
      ...files,
      list: async (folder) => (await files.list(folder)).sort().reverse(),
    };
    expect(Buffer.compare((await readDefaultText(backwards)).bytes, corpus.bytes)).toBe(0);
    const text = new TextDecoder().decode(corpus.bytes);
    for (const needle of ["interface ReadonlyArray<T>", 'declare module "bun"', 'declare module "node:fs"']) {
      expect(text).toContain(needle);
    }
  });
});

describe("splitText", () => {
  const corpus = (length: number) => ({
    name: "t",
    bytes: Uint8Array.from({ length }, (_, i) => Math.floor((i * 256) / length)),
  });

  test("holds out the share, from places spread over the text, and loses no byte", () => {
    const { train, validation, blockBytes } = splitText(corpus(100_000), 128);
    expect(train.length + validation.length).toBe(100_000);
    expect(validation.length / 100_000).toBeCloseTo(0.05, 3);
    expect(validation.length).toBe(16 * blockBytes);
    expect(new Set(validation).size).toBe(16);
    const counted = new Map<number, number>();
    for (const byte of [...train, ...validation]) counted.set(byte, (counted.get(byte) ?? 0) + 1);
    for (const byte of corpus(100_000).bytes) counted.set(byte, counted.get(byte)! - 1);
    expect([...counted.values()].every((n) => n === 0)).toBe(true);
  });

  test("each held-out block is a whole window at least, from fewer places when the text is short", () => {
    for (const length of [258, 259, 2_000, 5_160, 7_777, 60_001]) {
      const { train, validation, blockBytes } = splitText(corpus(length), 128);
      expect(blockBytes).toBeGreaterThanOrEqual(129);
      expect(validation.length % blockBytes).toBe(0);
      expect(train.length).toBeGreaterThanOrEqual(129);
    }
  });

  test("the share is the caller's choice", () => {
    expect(splitText(corpus(100_000), 128, 0.2).validation.length).toBe(20_000);
  });

  test("says how much text the context needs", () => {
    expect(() => splitText(corpus(257), 128)).toThrow(
      "t is too short: it has 257 bytes, a context of 128 needs at least 258",
    );
  });
});
