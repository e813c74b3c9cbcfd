/** What runs in the browser's tab, for engine.test.ts: engines by name, small graphs and a small training. */

import { availableEngines, createEngine } from "../../nn/engine/create.ts";
import type { Engine, EngineTensor, Place } from "../../nn/engine/engine.ts";
import { ADD, SGD } from "../contract/engine.graphs.ts";
import { trainTiny } from "../nn/engine/tiny.ts";

type Name = Engine["name"];

/** Adds two matrices, the second time their sum and zeros, then takes two steps of SGD in place, on tensors of that place. */
async function small(engine: Engine, place: Place) {
  const make = async (shape: number[], values: number[]): Promise<EngineTensor> => {
    const owned = engine.allocate("f32", shape, place);
    owned.tensor.f32().set(values);
    await owned.write();
    return owned;
  };
  const add = await engine.compile(ADD);
  const [a, b] = [await make([2, 2], [1, 2, 3, 4]), await make([2, 2], [10, 20, 30, 40])];
  const y = engine.allocate("f32", [2, 2], place);
  const sum = add.bind({ a, b }, { y });
  await sum.run();
  // The sum, plus nothing.
  await a.copy(y);
  await b.clear();
  await sum.run();
  const sgd = await engine.compile(SGD);
  const [p, g, lr] = [await make([2], [1, 2]), await make([2], [10, 20]), await make([], [0.5])];
  const update = sgd.bind({ p, g, lr }, { y: p });
  await update.run();
  await update.run();
  const results = [[...(await y.read()).f32()], [...(await p.read()).f32()]];
  for (const owned of [sum, update, a, b, y, p, g, lr, add, sgd]) owned.release();
  return results;
}

async function refusal(engine: Engine): Promise<string> {
  const bogus = { ...ADD, nodes: ADD.nodes.map((node) => ({ ...node, op: "Bogus" })) };
  return engine.compile(bogus).then(
    () => "none",
    (error: Error) => `${error.name}: ${error.message}`,
  );
}

const steps = {
  available: () => availableEngines(),
  isolated: () => crossOriginIsolated,
  /** Everything above on one engine, and the losses of a training. */
  async try(name: Name, threads: number, count: number) {
    const engine = await createEngine({ engine: name, threads });
    try {
      const places = { host: await small(engine, "host"), device: await small(engine, "device") };
      const wrong = await refusal(engine);
      const losses = await trainTiny(engine, count);
      return { ...places, wrong, losses, usage: engine.usage() };
    } finally {
      await engine.close();
    }
  },
};

export type Steps = typeof steps;
Object.assign(globalThis, { steps });
