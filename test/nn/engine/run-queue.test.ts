/** Runs that wait for a worker in shared memory: in order with calls, none lost when the worker goes to sleep. */

import { expect, test } from "bun:test";
import { createEngine } from "../../../nn/engine/create.ts";
import { RunReceiver, RunSender } from "../../../nn/engine/run-queue.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";

function pair() {
  let wakes = 0;
  const sender = new RunSender(() => {
    wakes++;
  });
  return { sender, receiver: new RunReceiver(sender.memory), wakes: () => wakes };
}

test("runs come out in order, those behind a call only when it is done", () => {
  const { sender, receiver } = pair();
  sender.add(11, 0);
  sender.add(12, 0);
  sender.add(13, 1);
  expect([receiver.take(0), receiver.take(0), receiver.take(0)]).toEqual([11, 12, undefined]);
  expect([receiver.take(1), receiver.take(1)]).toEqual([13, undefined]);
});

test("whoever sleeps is woken once, and nobody who is awake", () => {
  const { sender, receiver, wakes } = pair();
  sender.add(1, 0);
  sender.add(2, 0);
  expect(wakes()).toBe(1);
  expect(receiver.sleep(0)).toBe(false);
  expect([receiver.take(0), receiver.take(0)]).toEqual([1, 2]);
  expect(receiver.sleep(0)).toBe(true);
  sender.add(3, 0);
  expect(wakes()).toBe(2);
  // A run that must wait for a call is no reason to stay awake.
  receiver.take(0);
  sender.add(4, 1);
  expect(receiver.sleep(0)).toBe(true);
});

test("a full queue says so, and has room again, round and round", () => {
  const { sender, receiver } = pair();
  let added = 0;
  while (sender.add(added, 0)) added++;
  for (let round = 0; round < 3; round++) {
    for (let taken = 0; taken < added; taken++) {
      expect(receiver.take(0)).toBe(round * added + taken);
      expect(sender.add((round + 1) * added + taken, 0)).toBe(true);
    }
    expect(sender.add(0, 0)).toBe(false);
  }
  expect(receiver.closed).toBe(false);
  sender.close();
  expect(receiver.closed).toBe(true);
});

test("an engine keeps runs and calls in order, however many wait", async () => {
  const engine = await createEngine();
  try {
    const builder = new GraphBuilder("twice");
    const x = builder.input("x", "f32", [1]);
    builder.output(builder.op("Add", [x, x], {}, "y"));
    const executable = await engine.compile(builder.build());
    const [a, b] = [engine.allocate("f32", [1]), engine.allocate("f32", [1])];
    const [forth, back] = [executable.bind({ x: a }, { y: b }), executable.bind({ x: b }, { y: a })];
    a.tensor.f32()[0] = 1;
    const runs: Promise<number>[] = [];
    // More than the queue holds, with calls between them.
    for (let i = 0; i < 30; i++) runs.push(forth.run(), back.run());
    const calls = Array.from({ length: 20 }, () => {
      const other = executable.bind({ x: a }, { y: b });
      const run = other.run();
      other.release();
      return run;
    });
    for (let i = 0; i < 1500; i++) calls.push(forth.run());
    await Promise.all([...runs, ...calls]);
    expect([a.tensor.f32()[0], b.tensor.f32()[0]]).toEqual([2 ** 60, 2 ** 61]);
  } finally {
    await engine.close();
  }
});
