/** An engine that is made slower: each kernel takes so many times as long, and none overtakes another. */

import { expect, test } from "bun:test";
import { slowed } from "../../../actors/chaos/slowed.ts";
import type { Binding, Engine } from "../../../nn/engine/engine.ts";
import type { Graph } from "../../../nn/onnx/graph.ts";
import { VirtualClock } from "../../../runtime/clock.ts";

const KERNEL_MS = 10;

/** Kernels that take a while, one after the other, and what has begun and ended. */
async function machine() {
  const clock = new VirtualClock();
  const heard: string[] = [];
  let last: Promise<unknown> = Promise.resolve();
  const bindingOf = (name: string) => ({
    run: () => {
      const run = last.then(async () => {
        heard.push(name);
        await clock.sleep(KERNEL_MS);
        return KERNEL_MS;
      });
      last = run;
      return run;
    },
    release: () => {},
  });
  const engine = {
    compile: async ({ name }: Graph) => ({ bind: () => bindingOf(name) }),
  } as unknown as Engine;
  const slow = slowed(engine, clock);
  const kernel = async (name: string): Promise<Binding> =>
    (await slow.compile({ name } as unknown as Graph)).bind({}, {});
  return { clock, heard, slow, kernels: await Promise.all(["a", "b", "c", "d"].map(kernel)) };
}

const times: readonly [from: number, to: number][] = [
  [4, 1],
  [4, 2],
  [1, 4],
  [Number.POSITIVE_INFINITY, 1],
  [Number.POSITIVE_INFINITY, 3],
];

test.each(times)(
  "kernels run in the order they were asked for, from %p times as long to %p",
  async (from, to) => {
    const { clock, heard, slow, kernels } = await machine();
    slow.factor = from;
    const runs = kernels.slice(0, 2).map((kernel) => kernel.run());
    await Bun.sleep(0);
    slow.factor = to;
    runs.push(...kernels.slice(2).map((kernel) => kernel.run()));
    const all = Promise.all(runs);
    for (let ms = 0; ms < 40 * KERNEL_MS; ms++) {
      clock.advance(1);
      await Bun.sleep(0);
    }
    await all;
    expect(heard).toEqual(["a", "b", "c", "d"]);
  },
);

test("what is asked for behind those that were held back takes as long as ever", async () => {
  const { clock, slow, kernels } = await machine();
  const took = async (kernel: Binding) => {
    const began = clock.now();
    let ended: number | undefined;
    const ms = kernel.run().then((told) => {
      ended = clock.now();
      return told;
    });
    while (ended === undefined) {
      clock.advance(1);
      await Bun.sleep(0);
    }
    return [ended - began, await ms];
  };
  slow.factor = 4;
  expect(await took(kernels[0]!)).toEqual([4 * KERNEL_MS, 4 * KERNEL_MS]);
  slow.factor = 1;
  expect(await took(kernels[1]!)).toEqual([KERNEL_MS, KERNEL_MS]);
});
