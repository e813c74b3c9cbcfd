/** Files that may be compressed with gzip: told by their first bytes, not by their names. */

import type { Files } from "../../runtime/platform/files.ts";
import { DataError } from "./error.ts";

/**
 * The content of a file, unpacked where it is gzip.
 * @throws FileError when it cannot be read, DataError when what is packed is damaged or ends early.
 */
export async function readUnpacked(files: Files, path: string): Promise<Uint8Array> {
  const bytes = await files.read(path);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    const whole = new Blob([bytes as Uint8Array<ArrayBuffer>]);
    return await new Response(whole.stream().pipeThrough(new DecompressionStream("gzip"))).bytes();
  } catch {
    throw new DataError("corrupt", path, "the gzip file is damaged or ends early; fetch it again");
  }
}
