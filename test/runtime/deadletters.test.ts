/** What nobody handles is counted and shown, with a code and a reason, wherever it was lost. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { Tensor } from "../../protocols/tensor.ts";
import { Actor } from "../../runtime/actor.ts";
import { type DeadLetter, DeadLetters } from "../../runtime/deadletters.ts";
import { ActorFailure, RuntimeError } from "../../runtime/errors.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { cut, failure, World } from "./world.ts";

class Sink extends Actor {
  async take(_value?: unknown) {}
  async hold() {
    await new Promise(() => {});
  }
}

const world = new World();
let letters: string[];
const note = ({ to, method, code }: DeadLetter) => letters.push(`${method} to ${to}: ${code}`);
const watched = (node: NodeRuntime) => {
  node.deadLetters.watch(note);
  return node;
};
beforeEach(() => {
  letters = [];
});
afterEach(() => world.close());

async function pair(options = {}) {
  const here = watched(world.node("here", options));
  const there = watched(world.node("there", { id: "there", actors: { Sink }, ...options }));
  await here.connect(await there.listen("memory://there"));
  return { here, there, sink: await here.spawnOn<Sink>("there", "Sink", []) };
}

test("they are counted by code, and a subscription ends", () => {
  const dead = new DeadLetters(() => {});
  const seen: DeadLetter[] = [];
  const end = dead.watch((letter) => seen.push(letter));
  const error = new RuntimeError("MAILBOX_FULL", "no room");
  dead.post("a", "m", error);
  end();
  dead.post("a", "m", new ActorFailure("anything else"));
  expect(seen).toEqual([{ to: "a", method: "m", code: "MAILBOX_FULL", reason: "no room", error }]);
  expect([dead.count, dead.counted("MAILBOX_FULL"), dead.counted("UNDELIVERABLE")]).toEqual([2, 1, 1]);
});

test("to an actor that is gone, here and on another node, and what waited for it", async () => {
  const { here, there, sink } = await pair();
  const local = await here.spawn(Sink, []);
  local.tell.hold();
  local.tell.take();
  await world.clock.settle();
  await here.kill(local);
  local.tell.take();
  expect(letters).toEqual(["take to Sink#1: ACTOR_DOWN", "take to Sink#1: ACTOR_DOWN"]);
  await here.stop(sink);
  sink.tell.take();
  await world.clock.settle();
  expect(letters[2]).toMatch(/^take to #\d+: ACTOR_DOWN$/);
  expect(there.deadLetters.counted("ACTOR_DOWN")).toBe(1);
});

test("a method the actor does not have, asked for from elsewhere", async () => {
  const { there, sink } = await pair();
  (sink as Ref<any>).tell.vanish();
  await world.clock.settle();
  expect(letters).toEqual(["vanish to Sink#1: UNKNOWN_METHOD"]);
  expect(there.deadLetters.count).toBe(1);
});

test("a value without a form on the wire is the sender's error too", async () => {
  const { sink } = await pair();
  expect(() => sink.tell.take(() => {})).toThrow("no form on the wire");
  expect(letters).toHaveLength(1);
  expect(letters[0]).toEndWith(": UNENCODABLE");
});

test("to a node that is lost; what a lost link had not yet sent is there with the reason", async () => {
  const { here, there, sink } = await pair({ limits: { windowBytes: 1000 } });
  sink.tell.hold();
  for (let i = 0; i < 10; i++) sink.tell.take(Tensor.zeros("u8", [4000]));
  await world.clock.settle();
  const reasons: string[] = [];
  here.deadLetters.watch(({ reason }) => reasons.push(reason));
  cut(here, there);
  await world.clock.settle();
  void there.close(0);
  await world.clock.advance(10);
  await world.clock.settle();
  expect(here.deadLetters.counted("NODE_LOST")).toBeGreaterThan(5);
  // The others had arrived, and waited there.
  expect(here.deadLetters.count + there.deadLetters.counted("ACTOR_DOWN")).toBe(10);
  expect(reasons.every((reason) => reason.startsWith("node there (there) is lost"))).toBe(true);
  const before = here.deadLetters.count;
  sink.tell.take();
  await world.clock.settle();
  expect(here.deadLetters.count).toBe(before + 1);
  expect((await failure(sink.ask.take())).code).toBe("NODE_LOST");
});
