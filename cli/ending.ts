/**
 * How a run is told to end before its last step: by Ctrl-C, or another signal. While steps are made that is a wish, and the run
 * ends behind the one under way, with a checkpoint, so that nothing of it is lost. Where there is no step that anybody could
 * wait for, or nothing yet that could be lost, it ends at once; so it does when it is told twice.
 */

import { systemClock } from "../runtime/index.ts";
import { EXIT_CODES, exit, onOutputClosed, onSignal, type Signal } from "../runtime/platform/process.ts";
import { CommandError } from "./command.ts";
import type { RunEvent } from "./events.ts";

/** A signal that is sent to a group of processes comes to one of them more than once: what comes so soon is the same. */
const SAME_MS = 500;

export class Ending {
  /** Rejects when the run is to end at once. */
  readonly atOnce: Promise<never>;
  private readonly controller = new AbortController();
  private readonly refuse: (reason: CommandError) => void;
  private signal: Signal | undefined;
  private signalledAt = 0;
  private stepping = false;

  /**
   * @param asked hears of the first signal, where the run goes on to the end of its step. @param broken hears of the second one,
   *   with which this process ends.
   */
  constructor(asked: (signal: Signal) => void, broken: (signal: Signal) => void) {
    const { promise, reject } = Promise.withResolvers<never>();
    this.atOnce = promise;
    this.atOnce.catch(() => {});
    this.refuse = reject;
    onSignal((signal) => {
      const now = systemClock.now();
      if (this.signal) {
        // That nobody is there any more to see it is no second wish.
        if (signal === "SIGHUP" || now - this.signalledAt < SAME_MS) return;
        // Asked twice, it ends without good manners; the devices that it has started are killed.
        broken(signal);
        void exit(EXIT_CODES[signal]);
        return;
      }
      this.signal = signal;
      this.signalledAt = now;
      if (!this.stepping) return this.refuse(this.byRequest()!);
      this.controller.abort();
      asked(signal);
    });
    onOutputClosed(() => reject(new CommandError("INTERRUPTED", "nobody reads standard output any more", 1)));
  }

  /** Aborted when the run is to end behind its step. */
  get behindStep(): AbortSignal {
    return this.controller.signal;
  }

  /** Follows the run: whether there are steps to wait for the end of. */
  take({ event }: RunEvent): void {
    if (event === "paused") {
      this.stepping = false;
      if (this.signal) this.refuse(this.byRequest()!);
    } else if (event === "step" || event === "resumed" || event === "recovered") this.stepping = true;
  }

  /** The end that a signal has asked for; undefined where none has. @param how the run came to it, for people. */
  byRequest(how = ""): CommandError | undefined {
    const { signal } = this;
    return signal && new CommandError("INTERRUPTED", `ended by ${signal}${how}`, EXIT_CODES[signal]);
  }
}
