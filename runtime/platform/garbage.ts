/**
 * Garbage that a program knows of and its engine does not. A JavaScript engine collects when its own heap has grown;
 * the buffers that messages came in lie outside of it, so hundreds of megabytes of them may wait.
 */

/** Collects now, in some milliseconds; does nothing on a platform that does not offer it. */
export function collectGarbage(): void {
  if (typeof Bun !== "undefined") Bun.gc(true);
  // Node.js and Deno, where started with --expose-gc.
  else (globalThis as { gc?: () => void }).gc?.();
}
