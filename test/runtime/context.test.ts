/** What an actor can do holds for its present life: what is left of an earlier one cannot touch the next. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Actor, type SupervisedChild } from "../../runtime/actor.ts";
import { child } from "../../runtime/child_spec.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { Supervisor } from "../../runtime/supervisor.ts";
import { failure, World } from "./world.ts";

const world = new World();
let node: NodeRuntime;
beforeEach(() => {
  node = world.node("a");
});
afterEach(() => world.close());

describe("what still runs of a life that is over", () => {
  /** Every life of it waits in `linger`, and then does what it is told with the context. */
  class Revenant extends Actor {
    static override readonly reentrant = ["linger"];
    static lives = 0;
    readonly number = ++Revenant.lives;
    async linger(act: (actor: Revenant) => unknown) {
      await this.context.clock.sleep(10);
      await act(this);
    }
    crash() {
      throw new Error("broken");
    }
    which() {
      return this.number;
    }
    override onDown() {
      told.push("down");
    }
    override onExit() {
      told.push("exit");
    }
  }
  class Child extends Actor {}
  let told: string[];

  const acts: [string, (actor: Revenant, other: Ref<any>) => unknown][] = [
    ["does not stop", ({ context }) => context.stop()],
    ["starts no children of", ({ context }) => context.spawn(Child, [])],
    ["supervises nothing for", ({ context }) => context.supervise(Child, [], { onExit: () => {} })],
    ["places no monitors of", ({ context }, other) => context.monitor(other)],
    ["places no links of", ({ context }, other) => context.link(other)],
  ];
  for (const [what, act] of acts) {
    test(`${what} the next one`, async () => {
      told = [];
      Revenant.lives = 0;
      const other = await node.spawn(Child, []);
      const children = [child(Revenant, [])];
      const supervisor = await node.spawn(Supervisor, [{ strategy: "one_for_one", children }]);
      const ref = (await supervisor.ask.child("Revenant")) as Ref<Revenant>;
      ref.tell.linger((actor) => act(actor, other));
      await ref.ask.which();
      ref.tell.crash();
      expect(await ref.ask.which()).toBe(2);
      const { actors } = node.status();
      await world.clock.advance(10);
      expect(node.status().actors).toBe(actors);
      await node.kill(other);
      await world.clock.settle();
      expect(await ref.ask.which()).toBe(2);
      expect(told).toEqual([]);
    });
  }
});

describe("a supervised child", () => {
  class Leaf extends Actor {
    hello() {}
  }
  class Keeper extends Actor {
    #leaf!: SupervisedChild;
    override async onStart() {
      this.#leaf = this.context.supervise(Leaf, [], { name: "leaf", onExit: () => {} });
      await this.#leaf.start();
    }
    again() {
      return this.#leaf.start();
    }
    async bury() {
      this.#leaf.retire();
      return [this.#leaf.alive, this.#leaf.retired];
    }
  }

  test("is not started while it runs", async () => {
    const keeper = await node.spawn(Keeper, []);
    const error = await failure(keeper.ask.again());
    expect(error).toMatchObject({ code: "SPAWN_FAILED", message: "leaf (Leaf#2) runs already" });
  });

  test("is ended when it is retired", async () => {
    const keeper = await node.spawn(Keeper, []);
    const leaf = (await node.lookup<Leaf>(node.id, "leaf"))!;
    const told: string[] = [];
    node.monitor(leaf, ({ reason }) => told.push(reason.code));
    await keeper.ask.bury();
    await world.clock.settle();
    expect(told).toEqual(["killed"]);
    expect([await node.names(), node.status().actors]).toEqual([[], 1]);
    expect((await failure(leaf.ask.hello())).code).toBe("ACTOR_DOWN");
  });
});
