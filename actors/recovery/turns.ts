/** Who of several that have the same gives it to whom: each serves some, so that nobody's line is what all wait for. */

/** A place from 0 to `count` - 1 for whoever asks, always the same for one. */
export function turnOf(id: string, count: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193) >>> 0;
  // The lowest bits of FNV differ least.
  return ((hash ^ (hash >>> 15)) >>> 0) % count;
}
