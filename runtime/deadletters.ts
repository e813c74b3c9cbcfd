/** Messages nobody will handle, with the reason. Nothing vanishes silently: it is counted and can be watched. */

export interface DeadLetter {
  /** The actor it was for, for people. */
  readonly to: string;
  readonly method: string;
  readonly reason: string;
}

export class DeadLetters {
  private readonly listeners = new Set<(letter: DeadLetter) => void>();
  /** How many there have been. */
  count = 0;

  post(letter: DeadLetter): void {
    this.count++;
    for (const listener of this.listeners) listener(letter);
  }

  /** The listener must not throw. Returns a function that ends the subscription. */
  watch(listener: (letter: DeadLetter) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}
