/**
 * An engine that can be made slower: from then on results of its kernels are held back, so that each takes a number of times
 * as long as it has taken. They run one after the other, as they would on a processor that is slower.
 */

import type { Engine } from "../../nn/engine/engine.ts";
import { wrapped } from "../../nn/engine/wrapped.ts";
import type { Clock } from "../../runtime/index.ts";

export interface Slowed extends Engine {
  /**
   * As many times as long as the engine takes; 1 at first. With infinitely many no kernel ends any more, until it is another
   * number.
   */
  factor: number;
}

export function slowed(engine: Engine, clock: Clock): Slowed {
  let last: Promise<unknown> = Promise.resolve();
  /** Runs that are held back, or wait for those that are. */
  let waiting = 0;
  let factor = 1;
  let released = Promise.withResolvers<void>();
  const slow = wrapped(engine, (run) => () => {
    // Gradients are added up in the order of runs: as long as one is held back, none goes by it.
    if (factor === 1 && waiting === 0) return run();
    waiting++;
    const turn = last.then(async () => {
      while (factor === Number.POSITIVE_INFINITY) await released.promise;
      const times = factor;
      const ms = await run();
      if (times > 1) await clock.sleep(ms * (times - 1));
      return ms * times;
    });
    const over = () => {
      waiting--;
    };
    last = turn.then(over, over);
    return turn;
  });
  return {
    ...slow,
    get factor() {
      return factor;
    },
    set factor(times) {
      factor = times;
      if (times === Number.POSITIVE_INFINITY) return;
      released.resolve();
      released = Promise.withResolvers();
    },
  };
}
