/**
 * What the compiler refuses. The functions are never called; each `@ts-expect-error` fails the type check when the
 * line below it becomes legal, and every other line when it becomes illegal.
 */

import { expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import { child } from "../../runtime/child_spec.ts";
import { narrow } from "../../runtime/narrow.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";

class Counter extends Actor {
  count = 0;
  constructor(start: number) {
    super();
    this.count = start;
  }
  async add(n: number, label?: string): Promise<number> {
    this.count += n;
    return this.hidden(label?.length ?? 0);
  }
  now(): number {
    return this.count;
  }
  async reset(): Promise<void> {
    this.count = 0;
  }
  private hidden(n: number): number {
    return this.inherited(n);
  }
  protected inherited(n: number): number {
    return this.count + n;
  }
}

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Same<A, B>) => {};

const checked = {
  async asks(ref: Ref<Counter>) {
    const sum = await ref.ask.add(1, "one");
    same<typeof sum, number>(true);
    const now = ref.ask.now();
    same<typeof now, Promise<number>>(true);
    same<Awaited<ReturnType<typeof ref.ask.reset>>, void>(true);
    await ref.with({ timeoutMs: 5 }).ask.add(2);
    // @ts-expect-error an argument of another type
    await ref.ask.add("1");
    // @ts-expect-error an argument too few
    await ref.ask.add();
    // @ts-expect-error no such method
    await ref.ask.subtract(1);
    // @ts-expect-error options have names
    ref.with({ timeout: 5 });
  },

  tells(ref: Ref<Counter>) {
    const nothing = ref.tell.add(1);
    same<typeof nothing, void>(true);
    // @ts-expect-error an argument too many
    ref.tell.now(1);
  },

  whatIsNoMessage(ref: Ref<Counter>) {
    // @ts-expect-error a field
    ref.ask.count;
    // @ts-expect-error a private method
    ref.tell.hidden(1);
    // @ts-expect-error a protected method
    ref.tell.inherited(1);
    // @ts-expect-error the runtime's own
    ref.tell.onStart();
    // @ts-expect-error the runtime's own
    ref.tell.onExit();
    // @ts-expect-error the runtime's own
    ref.ask.context;
  },

  async narrowed(ref: Ref<Counter>) {
    const reader = narrow(ref, ["now"]);
    same<Awaited<ReturnType<typeof reader.ask.now>>, number>(true);
    // @ts-expect-error not exposed
    reader.tell.reset();
    // @ts-expect-error there is no such method to expose
    narrow(ref, ["subtract"]);
    // @ts-expect-error private methods are not there to be exposed
    narrow(ref, ["hidden"]);
    // @ts-expect-error a narrowed ref cannot be widened
    narrow(reader, ["reset"]);
    // @ts-expect-error a narrowed ref is not a full one
    const widened: Ref<Counter> = reader;
    // A full one is as good as a narrowed one.
    const fine: Ref<Pick<Counter, "now">> = ref;
    return [widened, fine];
  },

  async spawning(node: NodeRuntime) {
    const ref = await node.spawn(Counter, [1]);
    same<typeof ref, Ref<Counter>>(true);
    // @ts-expect-error the constructor's arguments
    await node.spawn(Counter, ["1"]);
    // @ts-expect-error the constructor's arguments
    await node.spawn(Counter, []);
    // @ts-expect-error the constructor's arguments
    child(Counter, ["1"]);
    // @ts-expect-error no such restart type
    child(Counter, [1], { restart: "sometimes" });
  },
};

test("types are checked by the compiler", () => {
  expect(Object.keys(checked)).toHaveLength(5);
});
