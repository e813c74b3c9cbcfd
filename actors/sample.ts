/**
 * The choice of the next token from a model's logits. Pure: the randomness comes in, so that a seed gives the same
 * text again. Running the model is not its business.
 */

export interface Sampling {
  /** Divides the logits: below 1 bolder, above 1 wilder, 0 always the likeliest. */
  readonly temperature: number;
  /** Only this many of the likeliest are candidates. */
  readonly topK: number;
}

/**
 * Index of the chosen token. `random` gives numbers in [0, 1) and is asked once, or not at all at temperature 0.
 * Of equal logits the lower index counts as likelier.
 * @throws RangeError when a logit is not a number: the model has diverged.
 */
export function chooseToken(logits: ArrayLike<number>, sampling: Sampling, random: () => number): number {
  const { temperature, topK } = sampling;
  const candidates = Array.from(logits, (_, token) => token);
  const broken = candidates.find((token) => Number.isNaN(logits[token]));
  if (broken !== undefined) throw new RangeError(`the logit of token ${broken} is not a number`);
  candidates.sort((a, b) => logits[b]! - logits[a]! || a - b);
  const best = candidates[0]!;
  if (temperature === 0) return best;

  candidates.length = Math.min(candidates.length, Math.max(1, topK));
  // Relative to the largest, so that no exponential overflows.
  const weights = candidates.map((token) => Math.exp((logits[token]! - logits[best]!) / temperature));
  let rest = random() * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [rank, weight] of weights.entries()) {
    rest -= weight;
    if (rest < 0) return candidates[rank]!;
  }
  // Rounding may leave a crumb; the last candidate takes it.
  return candidates.at(-1)!;
}
