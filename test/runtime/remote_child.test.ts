/** Actors of other nodes under a supervisor of this one. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import { child, type SupervisorSpec } from "../../runtime/child_spec.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { RemoteChild } from "../../runtime/remote_child.ts";
import { Supervisor } from "../../runtime/supervisor.ts";
import { memory } from "../../runtime/transports/memory.ts";
import { Cables } from "./cables.ts";
import { failure, World } from "./world.ts";

/** Cameras that are on, in the order they were switched on. */
const on: number[] = [];
let made = 0;

class Camera extends Actor {
  private readonly number = ++made;
  override onStart() {
    on.push(this.number);
  }
  override onStop() {
    on.splice(on.indexOf(this.number), 1);
  }
  async look() {
    return this.number;
  }
  async burn() {
    throw new Error("the sensor is on fire");
  }
  async leave() {
    this.context.stop();
  }
}

const heartbeat = { intervalMs: 100, patienceMs: 1000 };
const world = new World();
const cables = new Cables();
let phone: NodeRuntime;
let desk: NodeRuntime;

beforeEach(async () => {
  on.length = 0;
  made = 0;
  const transports = [cables.over(memory(world.network))];
  phone = world.node("phone", { actors: { Camera }, transports, heartbeat });
  desk = world.node("desk", { transports, heartbeat });
  await desk.connect(await phone.listen("memory://phone"));
});
afterEach(() => world.close());

async function supervised(restart: "permanent" | "transient" = "permanent") {
  const spec: SupervisorSpec = {
    ...{ strategy: "one_for_one", intensity: 2, periodMs: 5000 },
    children: [child(RemoteChild, [phone.id, "Camera", []], { id: "camera", restart })],
  };
  const supervisor = await desk.spawn(Supervisor, [spec]);
  const proxy = (await supervisor.ask.child("camera")) as Ref<RemoteChild<Camera>>;
  const camera = async () => (await proxy.ask.ref()) as Ref<Camera>;
  return { supervisor, camera };
}

test("is started there, found by its ref, and stopped with its supervisor, which waits for it", async () => {
  const { supervisor, camera } = await supervised();
  expect(await (await camera()).ask.look()).toBe(1);
  expect((await camera()).address.node).toBe(phone.id);
  await desk.stop(supervisor);
  expect(on).toEqual([]);
});

test("is started again when it crashes", async () => {
  const { camera } = await supervised();
  const first = await camera();
  first.tell.burn();
  await world.clock.advance(100);
  expect(on).toEqual([2]);
  expect(await (await camera()).ask.look()).toBe(2);
  expect((await failure(first.ask.look())).code).toBe("ACTOR_DOWN");
});

test("may end when it likes if it is transient", async () => {
  const { camera } = await supervised("transient");
  (await camera()).tell.leave();
  await world.clock.advance(100);
  expect([on, made]).toEqual([[], 1]);
});

test("is started again over a new link when the old one broke; the old one does not go on alone", async () => {
  const { camera } = await supervised();
  cables.freeze();
  await world.clock.advance(3000);
  expect(on).toEqual([2]);
  expect(await (await camera()).ask.look()).toBe(2);
  expect(desk.peers()).toMatchObject([{ id: phone.id, generation: 2 }]);
});

test("whose node stays away is more than the supervisor can heal", async () => {
  const { supervisor } = await supervised();
  const down = Promise.withResolvers<string>();
  desk.monitor(supervisor, ({ reason }) => down.resolve(reason.message));
  cables.refuse(true);
  cables.freeze();
  await world.clock.advance(5000);
  cables.refuse(false);
  expect(await down.promise).toContain("camera");
  expect(on).toEqual([]);
});

test("a class that is not there is why the supervisor does not start", async () => {
  const children = [child(RemoteChild, [phone.id, "Telescope", []])];
  const error = await failure(desk.spawn(Supervisor, [{ strategy: "one_for_one", children }]));
  expect(error.code).toBe("SPAWN_FAILED");
  let cause: unknown = error;
  while ((cause as Error).cause) cause = (cause as Error).cause;
  expect(cause).toMatchObject({
    code: "UNKNOWN_CLASS",
    message: "phone hosts no Telescope; it hosts Camera",
  });
});
