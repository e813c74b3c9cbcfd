/** Training that has left the range of numbers. */

/** A loss or a gradient is NaN or infinite; `message` says which and at which step, in one line for people. */
export class DivergedError extends Error {
  readonly code = "DIVERGED";
  override readonly name = "DivergedError";
}

/**
 * What to say of `what`, a loss or the gradient of a parameter.
 * @param step counts from 1, as people do.
 */
export function diverged(what: string, step: number, value: number): DivergedError {
  return new DivergedError(`the ${what} of step ${step} is ${value}: lower the learning rate`);
}

/** The first number that is NaN or infinite. */
export function firstNonFinite(values: ArrayLike<number>): { index: number; value: number } | undefined {
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    if (!Number.isFinite(value)) return { index, value };
  }
  return undefined;
}
