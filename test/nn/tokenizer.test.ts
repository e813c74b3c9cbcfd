/** Against the tokenizers library of Python, on a byte-level vocabulary and one with byte fallback. */

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer, TokenizerError } from "../../nn/tokenizer.ts";

const FIXTURES = join(import.meta.dir, "..", "fixtures");
const HUGGING_FACE = join(FIXTURES, "huggingface");

interface Expected {
  readonly vocabulary: number;
  readonly texts: readonly {
    readonly text: string;
    readonly ids: readonly number[];
    readonly special: readonly number[];
    readonly decoded: string;
  }[];
}

const expected = JSON.parse(readFileSync(join(HUGGING_FACE, "tokenizers.json"), "utf8")) as Record<
  string,
  Expected
>;
const file = (name: string, path: string) => new Uint8Array(readFileSync(join(HUGGING_FACE, name, path)));
const load = (name: string) =>
  Tokenizer.load(file(name, "tokenizer.json"), file(name, "tokenizer_config.json"), name);
const text = readFileSync(join(FIXTURES, "text.txt"), "utf8").slice(0, 30_000);
const utf8 = (value: string) => new TextEncoder().encode(value);

describe.each(Object.keys(expected))("the tokenizer of %s", (name) => {
  const { texts, vocabulary } = expected[name]!;
  const tokenizer = load(name);

  test("has the ids and texts of the Python library", () => {
    for (const { text, ids, special, decoded } of texts) {
      expect(tokenizer.encode(text)).toEqual([...ids]);
      expect(tokenizer.encode(text, { special: true })).toEqual([...special]);
      expect(tokenizer.decode(ids)).toBe(decoded);
    }
    expect(tokenizer.vocabulary).toBe(vocabulary);
  });

  test("decodes a stream to the same text, never a part of a character", () => {
    for (const { ids, decoded } of texts) {
      const stream = tokenizer.stream();
      const parts = ids.map((id) => stream.push(id));
      expect(parts.some((part) => part.includes("\ufffd"))).toBe(false);
      expect(parts.join("") + stream.end()).toBe(decoded);
    }
  });

  test("gives what is left of a character that is cut off", () => {
    const ids = tokenizer.encode("a🙂").slice(0, -1);
    const stream = tokenizer.stream();
    expect(ids.map((id) => stream.push(id)).join("")).toBe("a");
    expect(stream.end()).toStartWith("\ufffd");
    expect(
      tokenizer
        .encode("b")
        .map((id) => stream.push(id))
        .join(""),
    ).toBe("b");
  });

  test("encodes a long text in pieces as it would in one", () => {
    const tricky = `${text}\n \nspaced\n\n\tindented 日本語\r\nend${"\nword one two".repeat(1500)}`;
    const ids = tokenizer.encodeText(utf8(tricky));
    expect([...tokenizer.encodePieces(utf8(tricky))].length).toBeGreaterThan(3);
    expect([...ids]).toEqual(tokenizer.encode(tricky));
    expect(tokenizer.encodeText(utf8(""))).toEqual(new Uint32Array());
  });

  test("leaves special tokens out when asked to", () => {
    const end = tokenizer.endOfText!;
    expect(tokenizer.decode([...tokenizer.encode("ab"), end], { special: false })).toBe("ab");
    expect(tokenizer.decode([...tokenizer.encode("ab"), end])).not.toBe("ab");
  });
});

describe("a damaged tokenizer", () => {
  const refused = (bytes: Uint8Array, config: Uint8Array | null = null) => {
    try {
      Tokenizer.load(bytes, config, "folder");
    } catch (error) {
      expect(error).toBeInstanceOf(TokenizerError);
      return (error as Error).message;
    }
    throw new Error("was accepted");
  };

  test("is refused in a line that says what to do", () => {
    const whole = file("gpt2", "tokenizer.json");
    expect(refused(whole.subarray(0, 100))).toBe("folder, tokenizer.json: not a JSON object: fetch it again");
    expect(refused(whole, utf8("["))).toBe(
      "folder, tokenizer_config.json: not a JSON object: fetch it again",
    );
    expect(refused(utf8('{"model":{"type":"Odd"}}'))).toMatch(
      /^folder, tokenizer\.json: cannot be used \(.*save_pretrained$/,
    );
  });
});
