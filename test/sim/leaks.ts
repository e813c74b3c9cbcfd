/**
 * What a node holds on to: the size of every map, set, list and ring that can be reached from it, by path. A node
 * that has nothing to do must hold no more than one that never had.
 */

/** Part of the surroundings, not of the node. */
const FOREIGN = new Set(["clock", "codec", "random", "options", "transports", "log", "allocate", "pipe"]);
/** What a node remembers on purpose: one entry per node that ever was, or per class. */
const MEMORY = /tombstone|generation|table|known|classes|remembered|last/i;
/** Of a fixed size, or as large as it once had to be. */
const BOUNDED = /replays\.seen|deadLetters\.byCode|mailbox\.slots|envelopes\.(names|numbers)/;
/** Credit is given back in bulk: until a quarter of the window has gathered, both ends remember who spent it. */
const CREDIT = /window\.(tabs|due)|interleaver\.streams|pace\.marks/;
const MAX_DEPTH = 9;

export type Holdings = ReadonlyMap<string, number>;

/** The sizes of all containers reachable from `root`, by path; empty ones are left out. */
export function holdings(root: object): Holdings {
  const sizes = new Map<string, number>();
  const seen = new Set<object>();
  const visit = (value: unknown, path: string, depth: number): void => {
    if (typeof value !== "object" || value === null || depth > MAX_DEPTH || seen.has(value)) return;
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return;
    seen.add(value);
    const size = (n: number) => n > 0 && sizes.set(path, n);
    if (value instanceof Map) {
      size(value.size);
      for (const [key, item] of value) visit(item, `${path}[${String(key)}]`, depth + 1);
    } else if (value instanceof Set) {
      size(value.size);
      for (const item of value) visit(item, `${path}[]`, depth + 1);
    } else if (Array.isArray(value)) {
      size(value.length);
      for (const item of value) visit(item, `${path}[]`, depth + 1);
    } else {
      const { items, length } = value as { items?: unknown; length?: unknown };
      if (Array.isArray(items) && typeof length === "number") size(length);
      else {
        for (const key of Object.keys(value)) {
          if (!FOREIGN.has(key)) visit((value as Record<string, unknown>)[key], `${path}.${key}`, depth + 1);
        }
      }
    }
  };
  visit(root, "node", 0);
  return sizes;
}

/** What is held now and was not before, as `path: before → after`. */
export function grown(before: Holdings, after: Holdings): string[] {
  return [...after].flatMap(([path, size]) => {
    const was = before.get(path) ?? 0;
    const fine = size <= was || [MEMORY, BOUNDED, CREDIT].some((pattern) => pattern.test(path));
    return fine ? [] : [`${path}: ${was} → ${size}`];
  });
}
