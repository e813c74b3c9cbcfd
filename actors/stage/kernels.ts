/**
 * Kernels that a stage has asked for and not heard of yet. While one runs the next may be asked for already, so that the
 * thread with the kernels goes from one to the other by itself. Otherwise it would be idle each time for as long as it takes
 * to hear that a kernel has ended, to send what has come out of it, and to ask for another.
 *
 * What follows from a kernel, a send or a slot that is free again, waits for that kernel and for no other.
 */

/** One runs and one waits. */
const MOST = 2;

export class Kernels {
  /** In the order they were asked for, which is that in which they end. */
  private readonly under: Promise<void>[] = [];
  /** All that were ever asked for. */
  private readonly asked: Promise<unknown>[] = [];
  /** The last of each micro-batch at each chunk. */
  private readonly latest = new Map<string, Promise<void>>();
  private readonly now: () => number;
  private readonly fail: (error: Error) => void;
  /** When the last one ended. */
  private freed = 0;

  /** @param fail told of a kernel that fails, so that nobody waits for what would have followed. */
  constructor(now: () => number, fail: (error: Error) => void) {
    this.now = now;
    this.fail = fail;
  }

  /** Resolves when another may be asked for. @throws what a kernel failed with. */
  async room(): Promise<void> {
    while (this.under.length >= MOST) await this.under[0];
  }

  /** Resolves when all that have been asked for have ended. @throws what a kernel failed with. */
  async ended(): Promise<void> {
    await this.under.at(-1);
  }

  /** Resolves when none runs any more, also of those behind one that has failed. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.asked);
  }

  /** Resolves when the last kernel of a micro-batch at a chunk has ended. @throws what it failed with. */
  after(chunk: number, microBatch: number): Promise<void> {
    return this.latest.get(`${chunk}/${microBatch}`) ?? Promise.resolve();
  }

  /** Of the time since `from`, that in which none has run. */
  idleSince(from: number): number {
    return this.under.length > 0 ? 0 : this.now() - Math.max(from, this.freed);
  }

  /** Adds one that was asked for just now. `then` hears when it ran; what is returned resolves behind that. */
  add(
    chunk: number,
    microBatch: number,
    kernel: Promise<number>,
    then: (start: number, end: number, kernelMs: number) => void,
  ): Promise<void> {
    const asked = this.now();
    this.asked.push(kernel);
    kernel.catch(() => {}); // It is heard of in its turn.
    const before = this.under.at(-1) ?? Promise.resolve();
    // Where there is nothing to compute, its turn is all there is to wait for.
    const ended = before.then(() => kernel);
    const done = ended.then((kernelMs) => {
      const end = this.now();
      then(Math.max(asked, this.freed), end, kernelMs);
      this.freed = end;
      this.under.shift();
    });
    done.catch(this.fail);
    this.under.push(done);
    this.latest.set(`${chunk}/${microBatch}`, done);
    return done;
  }
}
