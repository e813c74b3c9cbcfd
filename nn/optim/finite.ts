/** Training that has left the range of numbers. */

/** A loss or a gradient is NaN or infinite; `message` says which and at which step, in one line for people. */
export class DivergedError extends Error {
  readonly code = "DIVERGED";
  override readonly name = "DivergedError";
}

/**
 * What to say of `what`, a loss or the gradient of a parameter.
 * @param step counts from 1, as people do. In the first nothing has been learnt yet but for a validation after it.
 */
export function diverged(what: string, step: number, value: number): DivergedError {
  const untouched = step === 1 && what !== "validation loss";
  const remedy = untouched
    ? "nothing has been updated yet, look for infinite or missing numbers in the weights and the data"
    : "lower the learning rate";
  return new DivergedError(`the ${what} of step ${step} is ${value}: ${remedy}`);
}

/** The first number that is NaN or infinite. */
export function firstNonFinite(values: ArrayLike<number>): { index: number; value: number } | undefined {
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    if (!Number.isFinite(value)) return { index, value };
  }
  return undefined;
}
