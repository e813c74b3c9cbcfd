/**
 * Whether two values are the same to whoever they are told to: plain data, as it is in messages. What is one and the same is
 * not looked into, and what differs at once is not read to its end: with every loss a thousand specs of stages are compared.
 */

/** @param a numbers, text, booleans, null, and arrays and objects of these. What is undefined may as well be left out. */
export function isAlike(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (!isAlike(a[i], b[i])) return false;
    return true;
  }
  const [own, other] = [a as Record<string, unknown>, b as Record<string, unknown>];
  for (const key in own) if (!isAlike(own[key], other[key])) return false;
  for (const key in other) if (own[key] === undefined && other[key] !== undefined) return false;
  return true;
}
