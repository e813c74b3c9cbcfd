/**
 * Tensors that come from a generation that a stage has not been told of yet: others have, and go on before it does. They wait
 * until it has.
 */

interface Waiting {
  readonly generation: number;
  readonly go: () => void;
  readonly fail: (error: Error) => void;
}

export class Early {
  private own = 0;
  private waiting: Waiting[] = [];
  private failure: Error | undefined;

  /**
   * Resolves when that generation is there; undefined where it is.
   * @throws RangeError where it is over; what `fail` was given, where it will not come.
   */
  until(generation: number): Promise<void> | undefined {
    if (generation === this.own) return undefined;
    if (generation < this.own)
      throw new RangeError(`generation ${this.own} got a tensor of generation ${generation}`);
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((go, fail) => this.waiting.push({ generation, go, fail }));
  }

  /** The stage is in that generation. */
  reached(own: number): void {
    this.own = own;
    const come = this.waiting.filter(({ generation }) => generation <= own);
    this.waiting = this.waiting.filter(({ generation }) => generation > own);
    for (const { go } of come) go();
  }

  /** No other generation will come. */
  fail(error: Error): void {
    this.failure ??= error;
    for (const { fail } of this.waiting.splice(0)) fail(this.failure);
  }
}
