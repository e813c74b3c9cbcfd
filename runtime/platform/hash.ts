/** SHA-256, streamed: what a checkpoint's files and a model's weights are told apart by. */

import { createHash } from "node:crypto";

/** A digest that grows with what it is given. */
export class Sha256 {
  private readonly hash = createHash("sha256");

  /** Adds a chunk (borrowed), text as UTF-8. */
  update(chunk: Uint8Array | string): this {
    this.hash.update(chunk);
    return this;
  }

  /** In lower-case hexadecimal; nothing can be added after it. */
  hex(): string {
    return this.hash.digest("hex");
  }
}

/** Lower-case hexadecimal SHA-256 of the chunks in their order, as if they were one. Chunks are borrowed. */
export function sha256(chunks: Iterable<Uint8Array | string>): string {
  const hash = new Sha256();
  for (const chunk of chunks) hash.update(chunk);
  return hash.hex();
}
