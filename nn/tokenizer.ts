/**
 * Text as a model's tokens and back, by the tokenizer.json that stands beside its weights: the one door to Hugging
 * Face's tokenizers for JavaScript. Which characters make which token is all theirs; what is added here is text in
 * pieces, both ways: long texts are encoded with bounded memory, and a stream of tokens is decoded as it comes.
 */

import { Tokenizer as Library } from "@huggingface/tokenizers";

/** A tokenizer.json that is damaged or of a kind the library does not have. */
export class TokenizerError extends Error {
  readonly code = "TOKENIZER";
  override readonly name = "TokenizerError";
}

/** Characters encoded at once: a tokenizer that does not cut text into words takes memory by the piece. */
const PIECE = 8192;

export class Tokenizer {
  /** Ids are below this. */
  readonly vocabulary: number;
  /** The token that ends a text, as tokenizer_config.json names it; null where it names none. */
  readonly endOfText: number | null;
  private readonly library: Library;

  private constructor(library: Library, endOfText: number | null) {
    this.library = library;
    this.endOfText = endOfText;
    let highest = -1;
    for (const id of library.get_vocab().values()) highest = Math.max(highest, id);
    this.vocabulary = highest + 1;
  }

  /**
   * @param tokenizer the contents of tokenizer.json.
   * @param config those of tokenizer_config.json, or null where there is none.
   * @param source names the files in errors.
   * @throws TokenizerError when they are damaged, or of a kind that is not known.
   */
  static load(tokenizer: Uint8Array, config: Uint8Array | null, source = "tokenizer"): Tokenizer {
    const settings = config ? parse(config, `${source}, tokenizer_config.json`) : {};
    const definition = parse(tokenizer, `${source}, tokenizer.json`);
    try {
      const library = new Library(definition, settings);
      const end = settings.eos_token;
      const name = typeof end === "object" && end !== null && "content" in end ? end.content : end;
      const id = typeof name === "string" ? library.token_to_id(name) : undefined;
      return new Tokenizer(library, id ?? null);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const remedy = `save it again with transformers' AutoTokenizer and save_pretrained`;
      throw new TokenizerError(`${source}, tokenizer.json: cannot be used (${why}): ${remedy}`);
    }
  }

  /** Ids of a text; with `special` also those that the model wants around it, such as the one that begins a text. */
  encode(text: string, { special = false } = {}): number[] {
    return this.library.encode(text, { add_special_tokens: special }).ids;
  }

  /**
   * The text of ids. Bytes that are no UTF-8, as when a character's tokens are cut apart, become U+FFFD.
   * @param options.special whether special tokens are written out; else they are left out.
   */
  decode(ids: readonly number[], { special = true } = {}): string {
    if (ids.length === 0) return "";
    const options = { skip_special_tokens: !special, clean_up_tokenization_spaces: false };
    return this.library.decode([...ids], options);
  }

  /** Decodes tokens one by one. */
  stream(options: { readonly special?: boolean } = {}): TokenStream {
    return new TokenStream((ids) => this.decode(ids, options));
  }

  /**
   * Ids of a text, piece by piece, as they would be of the whole: it is cut at ends of lines, where tokenizers begin
   * anew, and a piece is encoded with the line's end before it, so that it is not taken for the beginning of a text.
   * A tokenizer that joins a line's end to the word after it gets other tokens there, of the same text.
   * @param text UTF-8.
   */
  *encodePieces(text: Uint8Array): Generator<readonly number[]> {
    const lineEnd = this.encode("\n");
    let first = true;
    for (const piece of pieces(text)) {
      const ids = first ? this.encode(piece) : this.encode(`\n${piece}`);
      const led = !first && lineEnd.every((id, i) => ids[i] === id);
      yield first || led ? ids.slice(first ? 0 : lineEnd.length) : this.encode(piece);
      first = false;
    }
  }

  /** Ids of a whole text, given as UTF-8; see `encodePieces`. */
  encodeText(text: Uint8Array): Uint32Array<ArrayBuffer> {
    let ids = new Uint32Array(Math.max(16, text.byteLength >> 2));
    let count = 0;
    for (const piece of this.encodePieces(text)) {
      if (count + piece.length > ids.length) {
        const larger = new Uint32Array(Math.max(2 * ids.length, count + piece.length));
        larger.set(ids);
        ids = larger;
      }
      ids.set(piece, count);
      count += piece.length;
    }
    return ids.slice(0, count);
  }
}

/**
 * Text from tokens as they come. A character may take several tokens, and a space may depend on the token before; so
 * text is given once it is whole, and what was given never changes.
 */
export class TokenStream {
  private readonly decode: (ids: readonly number[]) => string;
  private ids: number[] = [];
  /** How many of `ids` have been given already: the context that the next are decoded in. */
  private given = 0;

  constructor(decode: (ids: readonly number[]) => string) {
    this.decode = decode;
  }

  /** The text that this token completes; often empty. */
  push(id: number): string {
    this.ids.push(id);
    const text = this.fresh();
    // It may be the beginning of a character. If not, it is given with the token after it.
    if (text === "" || text.endsWith("\ufffd")) return "";
    this.ids = this.ids.slice(this.given);
    this.given = this.ids.length;
    return text;
  }

  /** The text of what is left, complete or not; the stream can be used again. */
  end(): string {
    const text = this.fresh();
    this.ids = [];
    this.given = 0;
    return text;
  }

  private fresh(): string {
    return this.decode(this.ids).slice(this.decode(this.ids.slice(0, this.given)).length);
  }
}

/** The text in pieces of about `PIECE` characters, cut after the end of a line that no white space touches. */
function* pieces(text: Uint8Array): Generator<string> {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let rest = "";
  for (let at = 0; at < text.byteLength; at += PIECE) {
    const part = text.subarray(at, at + PIECE);
    rest += decoder.decode(part, { stream: at + PIECE < text.byteLength });
    const cut = lastCut(rest);
    if (cut === 0) continue;
    yield rest.slice(0, cut);
    rest = rest.slice(cut);
  }
  if (rest !== "") yield rest;
}

function lastCut(text: string): number {
  const blank = (at: number) => /\s/.test(text.charAt(at));
  for (let at = text.lastIndexOf("\n"); at > 0; at = text.lastIndexOf("\n", at - 1)) {
    if (at + 1 < text.length && !blank(at - 1) && !blank(at + 1)) return at + 1;
  }
  return 0;
}

function parse(bytes: Uint8Array, source: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // Told in the same words as JSON of another kind.
  }
  throw new TokenizerError(`${source}: not a JSON object: fetch it again`);
}
