/**
 * From windows of text to the integers a model takes: inputs and, one byte further on, targets.
 *
 * The layout of Troupe's own models is time-major, [context, rows]: token t of row b is at t * rows + b. That is the
 * order in which the model's rows run through all of its matrix products, so nothing is transposed later. Models from
 * elsewhere take sequence after sequence.
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
  requireFit(text, starts, context, ids, targets);
  for (let b = 0; b < rows; b++) {
    const start = starts[b]!;
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

/** As `fillBatch` with sequence after sequence: ids[b * context + t] = text[starts[b] + t]. */
export function fillSequences(
  text: Tokens,
  starts: readonly number[],
  context: number,
  ids: BigInt64Array,
  targets: BigInt64Array,
): void {
  requireFit(text, starts, context, ids, targets);
  let at = 0;
  for (const start of starts) {
    for (let t = start; t < start + context; t++, at++) {
      ids[at] = integer(text[t]!);
      targets[at] = integer(text[t + 1]!);
    }
  }
}

function requireFit(
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
  const outside = starts.find((start) => start < 0 || start + context >= text.length);
  if (outside !== undefined) {
    throw new RangeError(
      `the window [${outside}, ${outside + context}] leaves the text of ${text.length} tokens`,
    );
  }
}

/** Big integers made so far, by their value: converting makes a new object each time. */
const INTEGERS: bigint[] = [];

function integer(token: number): bigint {
  // Without holes, which would make a slow array of it.
  while (INTEGERS.length <= token) INTEGERS.push(BigInt(INTEGERS.length));
  return INTEGERS[token]!;
}
