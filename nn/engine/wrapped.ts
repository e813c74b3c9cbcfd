/** An engine whose runs somebody stands before: all else is the engine's own. */

import type { Binding, Engine, Executable } from "./engine.ts";

/** What stands before them, once for each binding. */
export type Runs = (run: Binding["run"]) => Binding["run"];

/** @param runs made from each binding's own. @param compile in place of the engine's own. */
export function wrapped(
  engine: Engine,
  runs: Runs,
  compile: Engine["compile"] = (graph, options) => engine.compile(graph, options),
): Engine {
  const wrappedExecutable = (executable: Executable): Executable => ({
    inputs: executable.inputs,
    outputs: executable.outputs,
    bind: (feeds, fetches) => {
      const binding = executable.bind(feeds, fetches);
      return { run: runs(() => binding.run()), release: () => binding.release() };
    },
    profile: () => executable.profile(),
    release: () => executable.release(),
  });
  return {
    name: engine.name,
    allocate: (dtype, shape, place) => engine.allocate(dtype, shape, place),
    compile: async (graph, options) => wrappedExecutable(await compile(graph, options)),
    usage: () => engine.usage(),
    close: () => engine.close(),
  };
}
