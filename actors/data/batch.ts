/**
 * From windows of text to the integers a model takes: inputs and, one byte further on, targets.
 *
 * The layout is time-major, [context, rows]: token t of row b is at t * rows + b. That is the order in which the
 * model's rows run through all of its matrix products, so nothing is transposed later.
 */

/** A text as numbers: bytes, or tokens of a larger vocabulary. */
export type Tokens = Uint8Array | Uint32Array;

/**
 * Fills `ids` (i64 [context, rows]) and `targets` (i64 [context * rows], in the same order) with the windows of
 * `text` that begin at `starts`, one row each: ids[t * rows + b] = text[starts[b] + t] and the target is the token
 * after it. Writes into memory of the caller, every element, and allocates none.
 * @throws RangeError when the memory does not fit context and rows, or a window leaves the text.
 */
export function fillBatch(
  text: Tokens,
  starts: readonly number[],
  context: number,
  ids: BigInt64Array,
  targets: BigInt64Array,
): void {
  const rows = starts.length;
  if (ids.length !== context * rows || targets.length !== context * rows) {
    throw new RangeError(
      `a batch of ${rows} windows of ${context} takes ${context * rows} integers, ids have ${ids.length} and targets ${targets.length}`,
    );
  }
  for (let b = 0; b < rows; b++) {
    const start = starts[b]!;
    if (start < 0 || start + context >= text.length) {
      throw new RangeError(
        `the window [${start}, ${start + context}] leaves the text of ${text.length} tokens`,
      );
    }
    let at = b;
    let token = integer(text[start]!);
    for (let t = 1; t <= context; t++) {
      const next = integer(text[start + t]!);
      ids[at] = token;
      targets[at] = next;
      token = next;
      at += rows;
    }
  }
}

/** Big integers made so far, by their value: converting makes a new object each time. */
const INTEGERS: bigint[] = [];

function integer(token: number): bigint {
  // Without holes, which would make a slow array of it.
  while (INTEGERS.length <= token) INTEGERS.push(BigInt(INTEGERS.length));
  return INTEGERS[token]!;
}
