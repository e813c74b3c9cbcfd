/** What a narrowed ref does not expose cannot be reached through it, on any node, and nobody can widen it. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import { narrow } from "../../runtime/narrow.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { failure, World } from "./world.ts";

class Account extends Actor {
  #balance = 0;
  async read() {
    return this.#balance;
  }
  async deposit(amount: number) {
    this.#balance += amount;
  }
  async empty() {
    this.#balance = 0;
  }
  async reader() {
    return narrow(this.context.self as Ref<Account>, ["read"]);
  }
  async full(): Promise<Ref<Account>> {
    return this.context.self;
  }
}

/** Whoever is given a ref elsewhere. */
class Holder extends Actor {
  /** What was taken last, as it is on the node where it was taken. */
  static latest: any;
  #held: any;
  async take(ref: unknown) {
    this.#held = ref;
    Holder.latest = ref;
  }
  async give() {
    return this.#held;
  }
  async use(method: string, ...args: unknown[]) {
    return this.#held.ask[method](...args);
  }
  async exposes(method: string) {
    return method in this.#held.ask || method in this.#held.tell;
  }
  async end(kill: boolean) {
    if (kill) await this.context.node.kill(this.#held);
    else await this.context.node.stop(this.#held);
  }
}

const world = new World();
afterEach(() => world.close());

describe("on its own node", () => {
  let node: NodeRuntime;
  let account: Ref<Account>;
  beforeEach(async () => {
    node = world.node("bank");
    account = await node.spawn(Account, []);
  });

  test("exposes what it was narrowed to and nothing else", async () => {
    const teller = narrow(account, ["read", "deposit"]);
    teller.tell.deposit(5);
    expect(await teller.ask.read()).toBe(5);
    expect("empty" in teller.ask || "empty" in teller.tell).toBe(false);
    expect(`${teller}`).toBe("Account#1 narrowed to deposit, read");
  });

  test("can be narrowed further and not widened", async () => {
    const teller = narrow(account, ["read", "deposit"]);
    expect(await narrow(teller, ["read"]).ask.read()).toBe(0);
    expect(() => narrow(teller as Ref<any>, ["empty"])).toThrow("has no empty");
    expect(() => narrow(account as Ref<any>, ["steal"])).toThrow("has no steal");
  });

  test("is the same ref each time, and not the full one", () => {
    expect(narrow(account, ["read", "deposit"])).toBe(narrow(account, ["deposit", "read", "read"]));
    expect(narrow(account, ["read"]).key).not.toBe(account.key);
  });

  test("costs nothing once the actor is gone, whenever its address was first asked for", async () => {
    const reader = narrow(account, ["read"]);
    const late = await node.spawn(Account, []);
    expect([account, reader].map((ref) => ref.key)).toHaveLength(2);
    for (const ref of [account, late]) await node.stop(ref);
    expect([late, narrow(late, ["read"]), narrow(account, ["empty"])].map((ref) => ref.key)).toHaveLength(3);
    expect((node as any).references.exported.size).toBe(0);
  });

  test("is not mistaken for one with methods whose names hold those of others", async () => {
    class Odd extends Actor {
      one() {}
      two() {}
      "one,two"() {}
    }
    const ref = await node.spawn(Odd, []);
    expect(Object.is(narrow(ref, ["one", "two"]), narrow(ref, ["one,two"]))).toBe(false);
  });

  test("is watched like the actor, and cannot end it", async () => {
    const reader = narrow(account, ["read"]);
    expect((await failure(node.stop(reader))).code).toBe("NARROWED");
    expect((await failure(node.kill(reader))).code).toBe("NARROWED");
    const down = new Promise<string>((resolve) => node.monitor(reader, (d) => resolve(d.reason.code)));
    await node.stop(account);
    expect(await down).toBe("normal");
    expect((await failure(reader.ask.read())).code).toBe("ACTOR_DOWN");
  });
});

describe("on other nodes", () => {
  let bank: NodeRuntime;
  let home: NodeRuntime;
  let account: Ref<Account>;
  let holder: Ref<Holder>;
  beforeEach(async () => {
    bank = world.node("bank", { actors: { Account } });
    home = world.node("home", { actors: { Account, Holder } });
    await bank.connect(await home.listen("memory://home"));
    account = await bank.spawn(Account, []);
    holder = await bank.spawnOn<Holder>(home.id, "Holder", []);
  });

  test("it stays narrow after any number of hops, and comes back as itself", async () => {
    const reader = narrow(account, ["read"]);
    await holder.ask.take(reader);
    expect(await holder.ask.use("read")).toBe(0);
    expect(await holder.ask.exposes("empty")).toBe(false);
    expect(await holder.ask.give()).toBe(reader);
    const third = world.node("third", { actors: { Holder } });
    await home.connect(await third.listen("memory://third"));
    const other = await home.spawnOn<Holder>(third.id, "Holder", []);
    await bank.connect("memory://third");
    await other.ask.take(Holder.latest);
    expect(Holder.latest.address).toMatchObject({ node: bank.id, methods: ["read"] });
    expect(await other.ask.use("read")).toBe(0);
    expect((await failure(other.ask.use("deposit", 1))).message).toContain("not a function");
  });

  test("ending and narrowing it there are refused", async () => {
    await holder.ask.take(narrow(account, ["read"]));
    expect((await failure(holder.ask.end(false))).code).toBe("NARROWED");
    expect((await failure(holder.ask.end(true))).code).toBe("NARROWED");
    const named = await bank.spawn(Account, [], { name: "savings" });
    const seen = (await home.lookup<Account>(bank.id, "savings"))!;
    expect(seen.key).toBe(named.key);
    expect(() => narrow(seen, ["read"])).toThrow("only where it lives");
  });

  test("its node refuses what a holder that tampers asks for", async () => {
    await holder.ask.take(narrow(account, ["read"]));
    // The holder's own node leads everything to the address it holds, as a node that means harm would.
    const { target } = Holder.latest;
    const refused = await failure(target.ask("empty", [], undefined));
    expect(refused.message).toContain("Account#1 narrowed to read does not expose empty");
    target.tell("deposit", [5]);
    expect(await target.ask("read", [], undefined)).toBe(0);
    expect(bank.deadLetters.counted("UNKNOWN_METHOD")).toBe(1);
  });

  test("with the actor all its addresses end", async () => {
    await holder.ask.take(narrow(account, ["read"]));
    await bank.stop(account);
    const { actor } = Holder.latest.address;
    expect((await failure(holder.ask.use("read"))).message).toBe(
      `#${actor} is gone: there is no such actor, or no longer`,
    );
  });

  test("numbers of actors tell nothing: one that was never given away answers to none", async () => {
    const [near, far] = [await account.ask.full(), narrow(account, ["read"])];
    expect(Math.abs(near.address.actor - far.address.actor)).toBeGreaterThan(2 ** 16);
    const secret = await bank.spawn(Account, []);
    await holder.ask.take(far);
    const { target } = Holder.latest;
    for (let guess = 0; guess < 100; guess++) {
      target.address = { ...target.address, actor: guess };
      expect((await failure(target.ask("read", [], undefined))).code).toBe("ACTOR_DOWN");
    }
    expect(await secret.ask.read()).toBe(0);
  });
});
