/**
 * An engine at a part of its speed: after each run it rests until the run has taken as long as it would have taken a
 * slower processor. For devices that nobody can throttle from outside. Results are those of the engine; times of kernels
 * are what the slower processor's would be.
 */

import type { Binding, Engine, Executable } from "../../nn/engine/engine.ts";
import type { Clock } from "../../runtime/index.ts";

export interface Throttled extends Engine {
  /** Milliseconds that the slower processor would have computed so far. */
  readonly busyMs: number;
}

/** @param share of the engine's speed, above 0 and at most 1. @throws RangeError. */
export function throttled(engine: Engine, share: number, clock: Clock): Throttled {
  if (!(share > 0 && share <= 1)) throw new RangeError(`a share is above 0 and at most 1, got ${share}`);
  let busyMs = 0;
  /** When the processor is free again: reckoned, so that timers which are late do not add up. */
  let freeAt = 0;
  let last: Promise<unknown> = Promise.resolve();

  const run = async (binding: Binding, asked: number): Promise<number> => {
    const ms = (await binding.run()) / share;
    busyMs += ms;
    freeAt = Math.max(freeAt, asked) + ms;
    const rest = freeAt - clock.now();
    if (rest > 0) await clock.sleep(rest);
    return ms;
  };
  const slowBinding = (binding: Binding): Binding => ({
    run() {
      const asked = clock.now();
      const turn = last.then(() => run(binding, asked));
      last = turn.catch(() => {});
      return turn;
    },
    release: () => binding.release(),
  });
  const slowExecutable = (executable: Executable): Executable => ({
    inputs: executable.inputs,
    outputs: executable.outputs,
    bind: (feeds, fetches) => slowBinding(executable.bind(feeds, fetches)),
    profile: () => executable.profile(),
    release: () => executable.release(),
  });
  return {
    name: engine.name,
    get busyMs() {
      return busyMs;
    },
    allocate: (dtype, shape, place) => engine.allocate(dtype, shape, place),
    compile: async (graph, options) => slowExecutable(await engine.compile(graph, options)),
    usage: () => engine.usage(),
    close: () => engine.close(),
  };
}
