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
/** What mail that keeps what it has sent was told of. */
let told: Error[] = [];
const keeping = () =>
  new Mail({
    ...{ generation: 1, node: here.id, codec: null, keepsSent: true },
    interrupt: (error) => told.push(error),
  });
const connected = (mail: Mail, to: Ref<Slow>) => mail.connect({ 2: to as Ref<any> as Ref<Stage> });
beforeEach(async () => {
  told = [];
  const network = new MemoryNetwork();
  const create = (name: string) => new NodeRuntime({ name, transports: [memory(network)], log: () => {} });
  [here, there] = [create("here"), create("there")];
  near = await here.spawn(Slow, []);
  await there.spawn(Slow, [], { name: "slow" });
  const peer = await here.connect(await there.listen("memory://there"));
  far = (await here.lookup<Slow>(peer.id, "slow"))!;
  mail = new Mail({
    generation: 1,
    node: here.id,
    codec: null,
    keepsSent: false,
    interrupt: () => {},
  });
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
  const { take } = mail.exchange(0, [0, 2]);
  const taking = take(1, "sum");
  await mail.inbox.put({ generation: 1, phase: "collective", step: 0, microBatch: 1, value: "sum" }, tensor);
  expect([...(await taking).f32()]).toEqual([7]);
});

test("in a further generation nobody waits for what was sent for validation to be taken", async () => {
  const evaluate = { ...slip(0), phase: "evaluate" } as const;
  const given = mail.inbox.put(evaluate, Tensor.f32([1], [1]));
  mail.advance(2);
  await given;
  void mail.inbox.put({ ...evaluate, generation: 2 }, Tensor.f32([1], [2]));
  expect([...(await mail.inbox.take(evaluate)).f32()]).toEqual([2]);
});

/** What has come there, when so much has. */
async function come(to: Ref<Slow>, count: number): Promise<number[][]> {
  for (;;) {
    await to.ask.take();
    const kept = await to.ask.kept();
    if (kept.length >= count) return kept;
  }
}

test("what was sent in a step is sent again to whoever is in a worker's place, and nothing of the step before", async () => {
  const mail = keeping();
  connected(mail, far);
  const tensor = Tensor.f32([1], [1]);
  mail.post([2], slip(0), tensor);
  await come(far, 1);
  mail.begin(1);
  for (const value of [2, 3]) {
    tensor.f32()[0] = value;
    mail.post([2], mail.slip("train", 1, value, "x"), tensor);
    tensor.f32().fill(0);
  }
  expect(await come(far, 3)).toEqual([[1], [2], [3]]);

  // It has arrived there: once is enough.
  mail.advance(2);
  connected(mail, far);
  mail.advance(3);
  connected(mail, near);
  expect(await come(near, 2)).toEqual([[2], [3]]);
  expect(await far.ask.kept()).toHaveLength(3);
  expect(told).toEqual([]);
});

test("what cannot be sent waits for another in that place; of what went in an earlier generation nobody is told", async () => {
  const mail = keeping();
  mail.post([2], slip(0), Tensor.f32([1], [1]));
  connected(mail, far);
  await there.close();
  mail.post([2], slip(1), Tensor.f32([1], [2]));
  while (told.length < 2) await Bun.sleep(0);
  const before = told.length;
  mail.post([2], slip(2), Tensor.f32([1], [3]));
  mail.advance(2);
  mail.post([2], slip(3), Tensor.f32([1], [4]));
  connected(mail, near);
  expect(await come(near, 4)).toEqual([[1], [2], [3], [4]]);
  expect(told).toHaveLength(before);
});

test("what members of a stage give each other in a step is kept, and not what belongs to its commit; only what is lent is copied", async () => {
  const mail = keeping();
  connected(mail, far);
  const { give, lend } = mail.exchange(0, [0, 2]);
  mail.begin(0);
  const [lent, given] = [Tensor.f32([1], [1]), Tensor.f32([1], [2])];
  await lend(1, "a", lent);
  lent.f32().fill(0);
  await give(1, "b", given);
  expect(await come(far, 2)).toEqual([[1], [2]]);
  mail.advance(2);
  connected(mail, near);
  expect(await come(near, 2)).toEqual([[1], [2]]);

  mail.end();
  const late = give(1, "c", given);
  expect(await come(near, 3)).toEqual([[1], [2], [2]]);
  await late;
  mail.forgetBefore(1);
  mail.advance(3);
  connected(mail, far);
  await far.ask.take();
  expect(await far.ask.kept()).toHaveLength(2);
  expect(told).toEqual([]);
});
