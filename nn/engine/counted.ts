/** An engine of which somebody uses a part: counts the tensors that are allocated by it, beside all others. */

import type { Engine } from "./engine.ts";

/** The same engine; `usage` is of tensors that were allocated here. Whoever owns the engine closes it. */
export function counted(engine: Engine): Engine {
  let [tensors, tensorBytes] = [0, 0];
  return {
    name: engine.name,
    allocate: (dtype, shape, place) => {
      const owned = engine.allocate(dtype, shape, place);
      const { byteLength } = owned.tensor.bytes;
      const { release } = owned;
      let isReleased = false;
      tensors++;
      tensorBytes += byteLength;
      // The engine knows its tensors by their identity.
      return Object.assign(owned, {
        release: () => {
          release();
          if (isReleased) return;
          isReleased = true;
          tensors--;
          tensorBytes -= byteLength;
        },
      });
    },
    compile: (graph, options) => engine.compile(graph, options),
    usage: () => ({ ...engine.usage(), tensors, tensorBytes }),
    close: () => engine.close(),
  };
}
