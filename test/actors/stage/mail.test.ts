/** A stage's mail: what is given may be written over when it says so, and never before the other has it. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import type { Slip } from "../../../actors/inbox.ts";
import { Mail } from "../../../actors/stage/mail.ts";
import type { Stage } from "../../../actors/stage.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Actor, MemoryNetwork, memory, NodeRuntime, type Ref } from "../../../runtime/index.ts";

/** Takes what it is given when it is told to, and keeps it. */
class Slow extends Actor {
  static override readonly reentrant = ["deliver", "take"];
  readonly #waiting: (() => void)[] = [];
  readonly #kept: number[][] = [];

  async deliver(_: Slip, tensor: Tensor): Promise<void> {
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#kept.push([...tensor.f32()]);
  }

  take(): number {
    this.#waiting.shift()?.();
    return this.#waiting.length;
  }

  async kept(): Promise<number[][]> {
    return this.#kept;
  }
}

let here: NodeRuntime;
let there: NodeRuntime;
let near: Ref<Slow>;
let far: Ref<Slow>;
let mail: Mail;
beforeEach(async () => {
  const network = new MemoryNetwork();
  const create = (name: string) => new NodeRuntime({ name, transports: [memory(network)], log: () => {} });
  [here, there] = [create("here"), create("there")];
  near = await here.spawn(Slow, []);
  await there.spawn(Slow, [], { name: "slow" });
  const peer = await here.connect(await there.listen("memory://there"));
  far = (await here.lookup<Slow>(peer.id, "slow"))!;
  mail = new Mail({ generation: 1, worker: 0, node: here.id, codec: null });
  mail.connect({ 1: near as Ref<any> as Ref<Stage>, 2: far as Ref<any> as Ref<Stage> });
});
afterEach(async () => {
  await here.close();
  await there.close();
});

const slip = (microBatch: number) => mail.slip("train", 0, microBatch, "x");

test("a copy goes to a stage on the same node, at once", async () => {
  const tensor = Tensor.f32([2], [1, 2]);
  const sent = mail.send([1], slip(0), tensor);
  tensor.f32().fill(0);
  while ((await near.ask.take()) > 0);
  await near.ask.take();
  await sent;
  expect(await near.ask.kept()).toEqual([[1, 2]]);
});

test("a tensor that is given as a copy is free at once, until so many are on their way", async () => {
  const tensor = Tensor.f32([1], [0]);
  const sent: Promise<void>[] = [];
  let given = 0;
  const giving = (async () => {
    for (let i = 0; i < 6; i++) {
      tensor.f32()[0] = i;
      sent.push((await mail.giveCopy([2], slip(i), tensor)).sent);
      given++;
    }
  })();
  // Four are on their way; the fifth waits for the first of them.
  while (given < 4) await Bun.sleep(0);
  for (let i = 0; i < 5; i++) await far.ask.kept();
  expect(given).toBe(4);
  while (given < 6) await far.ask.take();
  await giving;
  const all = Promise.all(sent);
  let done = false;
  void all.then(() => {
    done = true;
  });
  while (!done) await far.ask.take();
  expect(await far.ask.kept()).toEqual([[0], [1], [2], [3], [4], [5]]);
});

test("members of a stage take what others give under a key, by their ranks", async () => {
  const tensor = Tensor.f32([1], [7]);
  const { take } = mail.exchange([0, 2]);
  const taking = take(1, "sum");
  await mail.inbox.put({ generation: 1, phase: "collective", step: 0, microBatch: 2, value: "sum" }, tensor);
  expect([...(await taking).f32()]).toEqual([7]);
});
