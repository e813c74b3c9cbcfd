/**
 * Stages that are given what they hold while others are at work already: they have nothing to do in that step but to add up
 * and to commit (`newcomers.ts`). Whatever is asked of them waits for that.
 */

export class Late {
  /** By worker. */
  private readonly given = new Map<number, Promise<void>>();
  private bytes = 0;

  /** A worker is being given what it holds. @param work resolves with the bytes. @returns bytes that it has been given so far. */
  add(worker: number, work: Promise<number>): 0 {
    const given = work.then((bytes) => {
      this.bytes += bytes;
      this.given.delete(worker);
    });
    given.catch(() => {}); // Whoever asks something of it is told.
    this.given.set(worker, given);
    return 0;
  }

  /** Undefined where there is nothing to wait for. @throws what it could not be given with. */
  before(worker: number): Promise<void> | undefined {
    return this.given.get(worker);
  }

  /** Resolves when all have what they hold, with the bytes that they were given since this was asked before. */
  async all(): Promise<number> {
    await Promise.all(this.given.values());
    const { bytes } = this;
    this.bytes = 0;
    return bytes;
  }
}
