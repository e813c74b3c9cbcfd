/**
 * Runs that wait for a worker thread, in memory that both threads see: a thread that ends one kernel starts the next
 * without a turn of its event loop, which on small machines costs more than many a kernel.
 *
 * A ring of pairs, a binding's number and how many calls were made before the run, since calls (compile, bind, copy)
 * travel as messages and both keep one order. One thread adds, the other takes.
 */

/** Positions in the header. */
const [ADDED, TAKEN, AWAKE, CLOSED] = [0, 1, 2, 3];
const HEADER = 4;
const PAIR = 2;
/** Runs that fit. */
const CAPACITY = 1024;

const entryAt = (position: number) => HEADER + PAIR * ((position >>> 0) % CAPACITY);

/** The caller's end. */
export class RunSender {
  readonly memory = new SharedArrayBuffer(4 * (HEADER + PAIR * CAPACITY));
  private readonly words = new Int32Array(this.memory);
  private readonly wake: () => void;

  /** @param wake reaches the other thread where it sleeps; it then takes until there is nothing left. */
  constructor(wake: () => void) {
    this.wake = wake;
  }

  /** False if the queue is full. @param after how many calls have been made before this run. */
  add(binding: number, after: number): boolean {
    const { words } = this;
    const added = words[ADDED]!;
    if (((added - Atomics.load(words, TAKEN)) | 0) === CAPACITY) return false;
    const at = entryAt(added);
    words[at] = binding;
    words[at + 1] = after;
    Atomics.store(words, ADDED, (added + 1) | 0);
    // Either this sees that the other has gone to sleep, or the other sees the run before it does.
    if (Atomics.exchange(words, AWAKE, 1) === 0) this.wake();
    return true;
  }

  /** What waits is skipped from here on. */
  close(): void {
    Atomics.store(this.words, CLOSED, 1);
  }
}

/** The worker's end. */
export class RunReceiver {
  private readonly words: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory);
  }

  get closed(): boolean {
    return Atomics.load(this.words, CLOSED) === 1;
  }

  /**
   * The binding of the next run that was asked for when no more than `calls` calls had been made; undefined if there is
   * none, or if calls come before it.
   */
  take(calls: number): number | undefined {
    const { words } = this;
    const taken = words[TAKEN]!;
    if (Atomics.load(words, ADDED) === taken) return undefined;
    const at = entryAt(taken);
    if (words[at + 1]! - calls > 0) return undefined;
    const binding = words[at]!;
    Atomics.store(words, TAKEN, (taken + 1) | 0);
    return binding;
  }

  /** Says that this thread goes to sleep; false if there is a run that may begin: it must be taken first. */
  sleep(calls: number): boolean {
    const { words } = this;
    Atomics.store(words, AWAKE, 0);
    const taken = words[TAKEN]!;
    if (Atomics.load(words, ADDED) === taken || words[entryAt(taken) + 1]! - calls > 0) return true;
    Atomics.store(words, AWAKE, 1);
    return false;
  }
}
