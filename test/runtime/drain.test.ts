import { afterEach, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import type { DeadLetter } from "../../runtime/deadletters.ts";
import type { Down } from "../../runtime/monitor.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { failure, World } from "./world.ts";

const world = new World();
afterEach(() => world.close());

class Worker extends Actor {
  readonly #done: string[];
  constructor(done: string[]) {
    super();
    this.#done = done;
  }
  override onStop() {
    this.#done.push("stopped");
  }
  async work(label: string) {
    await this.context.clock.sleep(10);
    this.#done.push(label);
    return label;
  }
  drainSelf() {
    this.context.stop({ drain: true });
    this.context.self.tell.work("too late");
  }
  crash() {
    throw new Error("broken");
  }
}

async function subject() {
  const node = world.node("a");
  const done: string[] = [];
  const letters: DeadLetter[] = [];
  const downs: Down[] = [];
  const ref = await node.spawn(Worker, [done]);
  node.deadLetters.watch((letter) => letters.push(letter));
  node.monitor(ref, (down) => downs.push(down));
  return { node, done, letters, downs, ref };
}

test("what has arrived is handled before the end, what comes later is refused with a reason", async () => {
  const { node, done, letters, downs, ref } = await subject();
  ref.tell.work("1");
  const second = ref.ask.work("2");
  const drained = node.stop(ref, { drain: true });
  ref.tell.work("3");
  const third = failure(ref.ask.work("4"));
  await world.clock.advance(19);
  expect(done).toEqual(["1"]);
  expect(downs).toEqual([]);
  await world.clock.advance(1);
  await drained;
  expect(done).toEqual(["1", "2", "stopped"]);
  expect(await second).toBe("2");
  expect((await third).code).toBe("ACTOR_DOWN");
  expect(letters).toHaveLength(1);
  expect(letters[0]).toMatchObject({
    method: "work",
    reason: expect.stringContaining("handled what came before"),
  });
  expect(downs.map((down) => down.reason.code)).toEqual(["normal"]);
});

test("an idle actor is drained at once", async () => {
  const { node, done, ref } = await subject();
  await node.stop(ref, { drain: true });
  expect(done).toEqual(["stopped"]);
});

test("an actor can drain itself; what it sends itself then comes too late", async () => {
  const { done, letters, ref } = await subject();
  ref.tell.drainSelf();
  ref.tell.work("1");
  await world.clock.advance(100);
  expect(done).toEqual(["1", "stopped"]);
  expect(letters.map((letter) => letter.method)).toEqual(["work"]);
});

test("a plain stop cuts a drain short, a kill both; what waits is refused", async () => {
  for (const kill of [false, true]) {
    const { node, done, letters, ref } = await subject();
    for (const label of ["1", "2", "3"]) ref.tell.work(label);
    const drained = node.stop(ref, { drain: true });
    await world.clock.advance(10);
    const ended = kill ? node.kill(ref) : node.stop(ref);
    await world.clock.advance(100);
    await Promise.all([drained, ended]);
    // A method in progress when its actor is killed runs on, as JavaScript cannot end it; nobody hears of it.
    expect(done).toEqual(kill ? ["1", "2"] : ["1", "2", "stopped"]);
    expect(letters).toHaveLength(1);
    await node.close();
  }
});

test("a drain that takes longer than the shutdown time ends by force", async () => {
  const { node, done, letters, downs, ref } = await subject();
  for (let i = 1; i <= 600; i++) ref.tell.work(String(i));
  const drained = node.stop(ref, { drain: true });
  await world.clock.advance(5000);
  await drained;
  expect(done.length).toBeGreaterThanOrEqual(499);
  expect(done).not.toContain("stopped");
  expect(letters.length + done.length).toBeGreaterThanOrEqual(599);
  expect(downs.map((down) => down.reason.code)).toEqual(["killed"]);
});

test("a crash while draining is a crash: its error is told, what waits is refused with it", async () => {
  const { node, downs, ref } = await subject();
  ref.tell.crash();
  const waiting = failure(ref.ask.work("1"));
  await node.stop(ref, { drain: true });
  expect(await waiting).toMatchObject({ code: "ACTOR_DOWN", cause: { message: "broken" } });
  expect(downs.map((down) => down.reason.code)).toEqual(["error"]);
});

test("on another node: what was sent before the drain is handled", async () => {
  const done: string[] = [];
  const [a, b]: NodeRuntime[] = [world.node("a"), world.node("b")];
  await a!.connect(await b!.listen("memory://b"));
  await b!.spawn(Worker, [done], { name: "worker" });
  const ref = (await a!.lookup(b!.id, "worker")) as Ref<Worker>;
  ref.tell.work("1");
  ref.tell.work("2");
  const drained = a!.stop(ref, { drain: true });
  await world.clock.advance(100);
  await drained;
  expect(done).toEqual(["1", "2", "stopped"]);
});

test("on another node: also what still waits for credit when the drain is asked for", async () => {
  let taken = 0;
  class Taker extends Actor {
    take(_text: string) {
      taken++;
    }
  }
  const [a, b]: NodeRuntime[] = [world.node("a"), world.node("b")];
  await a!.connect(await b!.listen("memory://b"));
  await b!.spawn(Taker, [], { name: "taker" });
  const ref = (await a!.lookup(b!.id, "taker")) as Ref<Taker>;
  const text = "x".repeat(64 * 1024);
  for (let i = 0; i < 400; i++) ref.tell.take(text);
  const drained = a!.stop(ref, { drain: true });
  await world.clock.advance(100);
  await drained;
  expect(taken).toBe(400);
});
