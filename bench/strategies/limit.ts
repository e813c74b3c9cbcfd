/** Work that may take so long and no longer. What it does goes on: whoever stops waiting takes away what it runs on. */

export class LimitError extends Error {
  readonly code = "LIMIT";
  override readonly name = "LimitError";
}

/** @throws LimitError saying after how many seconds. */
export async function within<T>(ms: number, work: () => Promise<T>): Promise<T> {
  const limit = Promise.withResolvers<never>();
  const said = `stopped after ${(Math.max(0, ms) / 1000).toFixed(0)} s`;
  const timer = setTimeout(() => limit.reject(new LimitError(said)), Math.max(0, ms));
  try {
    return await Promise.race([work(), limit.promise]);
  } finally {
    clearTimeout(timer);
  }
}
