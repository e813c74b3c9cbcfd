/** How running statistics forget: what is an exponential mean is known as one, what is not is refused by name. */

import { expect, test } from "bun:test";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { statisticDecays } from "../../../nn/training/decay.ts";
import { convnet } from "../convnet.ts";
import { motley } from "../motley.ts";

test("batch normalisations forget by their momentum, also where the variance is made unbiased", () => {
  for (const { graph, statistics } of [convnet(), motley()]) {
    const decays = statisticDecays(graph, statistics);
    expect([...decays.keys()]).toEqual(Object.keys(statistics));
    const momentum = Math.fround(Object.hasOwn(statistics, "mean") ? 0.8 : 0.9);
    for (const decay of decays.values()) expect(decay).toBeCloseTo(momentum, 6);
  }
});

/** `mean` is read by whatever `write` writes. */
function reading(write: (b: GraphBuilder) => string) {
  const b = new GraphBuilder("reading");
  b.input("x", "f32", [2, 3]);
  b.input("mean", "f32", [3]);
  const next = write(b);
  b.output(b.op("ReduceMean", ["x"], { keepdims: 0 }, "loss"));
  b.output(next);
  return () => statisticDecays(b.build(), { mean: next });
}

test("one that is replaced altogether forgets all", () => {
  expect([...reading((b) => b.op("Exp", ["x"], {}, "next"))()]).toEqual([["mean", 0]]);
});

test("one that something else depends on is refused, naming the node", () => {
  const squared = reading((b) => b.op("Mul", ["mean", "mean"], {}, "next"));
  expect(squared).toThrow(/Mul.* reads the running statistic "mean", which is then no exponential mean/);
  const centred = reading((b) => {
    b.op("Sub", ["x", "mean"], {}, "centred");
    b.op("Exp", ["centred"]);
    return b.op("Mul", ["mean", b.scalar(0.5)], {}, "next");
  });
  expect(centred).toThrow(/Exp.* reads the running statistic "mean"/);
  expect(reading((b) => b.op("Mul", ["mean", b.scalar(0.5)], {}, "next"))().get("mean")).toBe(0.5);
});
