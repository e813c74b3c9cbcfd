/** SHA-256, streamed: what a checkpoint's files and a model's weights are told apart by. */

import { createHash } from "node:crypto";

/** Lower-case hexadecimal SHA-256 of the chunks in their order, as if they were one. Chunks are borrowed. */
export function sha256(chunks: Iterable<Uint8Array | string>): string {
  const hash = createHash("sha256");
  for (const chunk of chunks) hash.update(chunk);
  return hash.digest("hex");
}
