/** Events by time: a binary heap in typed arrays, which is what keeps a million of them a second possible. */

export class EventQueue {
  private times: Float64Array;
  private codes: Int32Array;
  private count = 0;

  constructor(capacity: number) {
    this.times = new Float64Array(Math.max(1, capacity));
    this.codes = new Int32Array(Math.max(1, capacity));
  }

  get size(): number {
    return this.count;
  }

  /** When the first event is; what it is, `firstCode`. Meaningless when there is none. */
  get firstMs(): number {
    return this.times[0]!;
  }

  get firstCode(): number {
    return this.codes[0]!;
  }

  /** Of events at one time the one of the lower code comes first. */
  push(ms: number, code: number): void {
    if (this.count === this.times.length) this.grow();
    const { times, codes } = this;
    let at = this.count++;
    while (at > 0) {
      const up = (at - 1) >> 1;
      const above = times[up]!;
      if (above < ms || (above === ms && codes[up]! < code)) break;
      times[at] = above;
      codes[at] = codes[up]!;
      at = up;
    }
    times[at] = ms;
    codes[at] = code;
  }

  /** Takes the first event out. */
  pop(): void {
    const { times, codes } = this;
    const count = --this.count;
    const ms = times[count]!;
    const code = codes[count]!;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= count) break;
      const right = down + 1;
      if (
        right < count &&
        (times[right]! < times[down]! || (times[right] === times[down] && codes[right]! < codes[down]!))
      ) {
        down = right;
      }
      const below = times[down]!;
      if (ms < below || (ms === below && code < codes[down]!)) break;
      times[at] = below;
      codes[at] = codes[down]!;
      at = down;
    }
    times[at] = ms;
    codes[at] = code;
  }

  private grow(): void {
    const times = new Float64Array(2 * this.times.length);
    times.set(this.times);
    this.times = times;
    const codes = new Int32Array(times.length);
    codes.set(this.codes);
    this.codes = codes;
  }
}
