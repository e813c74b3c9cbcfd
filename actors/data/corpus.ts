/**
 * The text a run learns from: read, checked and split, as bytes (a byte is a token).
 *
 * The split holds out a share of the text for validation. It is not the end of the text, because the files of a
 * corpus differ and the last one would speak for all: the text is cut into `HELD_OUT_PARTS` equal parts and the
 * end of each is held out, all of the same length and none shorter than one window. What remains is joined to the
 * training text, what was held out to the validation text. A run needs nothing else: the bytes decide the split.
 */

import type { Files } from "../../runtime/platform/files.ts";

export interface Corpus {
  /** Where it came from, for people. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Of bytes, or of a tokeniser's tokens; then "bytes" below are tokens. */
export interface Split<T extends Uint8Array | Uint32Array = Uint8Array> {
  readonly train: T;
  /** Blocks of `blockBytes` bytes each, from places far apart in the text. */
  readonly validation: T;
  readonly blockBytes: number;
}

export type CorpusReason = "empty" | "binary" | "too-short" | "too-long";

/** Text that cannot be learned from; `message` is one line that says what is wrong and what would be right. */
export class CorpusError extends Error {
  readonly code = "CORPUS";
  override readonly name = "CorpusError";
  readonly reason: CorpusReason;

  constructor(reason: CorpusReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** The share of the text that is held out. */
export const HELD_OUT = 0.05;

/** From how many places of the text, when it is long enough that each gets a window. */
export const HELD_OUT_PARTS = 16;

/** Window starts are drawn by 32-bit arithmetic. */
const MAX_TOKENS = 2 ** 32 - 1;

/**
 * Reads any UTF-8 text file.
 * @throws FileError when it cannot be read, CorpusError when it is empty or not UTF-8 text.
 */
export async function readText(files: Files, path: string): Promise<Corpus> {
  const bytes = await files.read(path);
  requireText(bytes, path);
  return { name: path, bytes };
}

/** Packages whose declaration files are the default text. All of them are installed anyway, at pinned versions. */
const DEFAULT_PACKAGES = ["standard library", "bun-types", "@types/node"] as const;

/**
 * Left out: variants for old compilers and the library for web workers. They repeat other files nearly word for
 * word, so that text held out in one would be learned from the other.
 */
const REPEATED = /^lib\.webworker\.|^ts\d/;

/**
 * The default text: the TypeScript declaration files of the standard library, Bun and Node.js, some six megabytes.
 * The order is by package as listed, then by path in code unit order: the same on every platform and disk.
 * @throws FileError when a package is not installed.
 */
export async function readDefaultText(files: Files): Promise<Corpus> {
  const parts: Uint8Array[] = [];
  for (const name of DEFAULT_PACKAGES) {
    const folder =
      name === "standard library"
        ? `${files.packageFolder(`@typescript/typescript-${files.platform}`, "typescript")}/lib`
        : files.packageFolder(name);
    for (const path of await declarations(files, folder)) parts.push(await files.read(path));
  }
  const bytes = joined(parts);
  requireText(bytes, "the default text");
  return { name: "TypeScript declarations", bytes };
}

/** Paths of the declaration files in a folder and the folders in it; what has a suffix is no folder. */
async function declarations(files: Files, folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of (await files.list(folder)).sort()) {
    if (REPEATED.test(name) || name === "node_modules") continue;
    const path = `${folder}/${name}`;
    if (name.endsWith(".d.ts")) found.push(path);
    else if (!name.includes(".") && (await files.isFolder(path)))
      found.push(...(await declarations(files, path)));
  }
  return found;
}

/**
 * Splits a text for windows of `context` + 1 bytes (inputs and their successors).
 * @throws CorpusError when there is not at least one window on either side.
 */
export function splitText(corpus: Corpus, context: number, heldOut: number = HELD_OUT): Split {
  return splitTokens(corpus.bytes, { name: corpus.name, unit: "bytes" }, context, heldOut);
}

/** As `splitText`, of tokens; `what` is for the errors. */
export function splitTokens<T extends Uint8Array | Uint32Array>(
  tokens: T,
  { name, unit }: { readonly name: string; readonly unit: string },
  context: number,
  heldOut: number = HELD_OUT,
): Split<T> {
  const window = context + 1;
  const total = tokens.length;
  const least = Math.max(2 * window, Math.ceil(window / (1 - heldOut)));
  if (total < least) {
    throw new CorpusError(
      "too-short",
      `${name} is too short: it has ${total} ${unit}, a context of ${context} needs at least ${least}`,
    );
  }
  if (total > MAX_TOKENS) {
    throw new CorpusError(
      "too-long",
      `${name} is too long: it has ${total} ${unit}, at most ${MAX_TOKENS} can be used`,
    );
  }
  const wanted = Math.floor(total * heldOut);
  const parts = Math.max(1, Math.min(HELD_OUT_PARTS, Math.floor(wanted / window)));
  const blockBytes = Math.max(window, Math.floor(wanted / parts));
  const train: T[] = [];
  const validation: T[] = [];
  for (let part = 0; part < parts; part++) {
    const start = Math.floor((part * total) / parts);
    const end = Math.floor(((part + 1) * total) / parts);
    train.push(tokens.subarray(start, end - blockBytes) as T);
    validation.push(tokens.subarray(end - blockBytes, end) as T);
  }
  return { train: joined(train), validation: joined(validation), blockBytes };
}

function requireText(bytes: Uint8Array, name: string): void {
  if (bytes.length === 0) {
    throw new CorpusError("empty", `${name} is empty: a text file with some kilobytes at least is needed`);
  }
  const nul = bytes.indexOf(0);
  if (nul >= 0) {
    throw new CorpusError("binary", `${name} is not text: byte ${nul} is zero; a UTF-8 text file is needed`);
  }
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const piece = 1 << 16;
  for (let at = 0; at < bytes.length; at += piece) {
    const end = Math.min(at + piece, bytes.length);
    try {
      decoder.decode(bytes.subarray(at, end), { stream: end < bytes.length });
    } catch {
      throw new CorpusError(
        "binary",
        `${name} is not UTF-8 text: a malformed character before byte ${end}; save or convert it as UTF-8`,
      );
    }
  }
}

function joined<T extends Uint8Array | Uint32Array>(parts: readonly T[]): T {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const whole = (parts[0] instanceof Uint32Array ? new Uint32Array(length) : new Uint8Array(length)) as T;
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
