/** An inbox brings tensors and operations together in whichever order they come, and leaves nobody waiting. */

import { expect, test } from "bun:test";
import { Inbox, InboxError, type Slip } from "../../actors/inbox.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { failure } from "../runtime/world.ts";

const slip: Slip = { generation: 1, phase: "train", step: 3, microBatch: 2, value: "x" };
const tensor = (value: number) => Tensor.f32([1], [value]);
const others: Partial<Slip>[] = [{ phase: "evaluate" }, { step: 4 }, { microBatch: 0 }, { value: "y" }];

test("gives a tensor to whoever takes its place, whether it comes before or after", async () => {
  const inbox = new Inbox();
  const [early, late] = [tensor(1), tensor(2)];
  inbox.put(slip, early);
  expect(await inbox.take(slip)).toBe(early);

  const waiting = inbox.take(slip);
  inbox.put(slip, late);
  expect(await waiting).toBe(late);
});

test.each(others)("a tensor of another place, %p, is another tensor", async (other) => {
  const inbox = new Inbox();
  inbox.put(slip, tensor(1));
  const different = tensor(2);
  inbox.put({ ...slip, ...other }, different);
  expect(await inbox.take({ ...slip, ...other })).toBe(different);
});

test("refuses a second tensor in one place", () => {
  const inbox = new Inbox();
  inbox.put(slip, tensor(1));
  expect(() => inbox.put(slip, tensor(2))).toThrow(new InboxError("a second tensor arrived for train/3/2/x"));
});

test("tells when a tensor has been taken", async () => {
  const inbox = new Inbox();
  let taken = false;
  const put = inbox.put(slip, tensor(1)).then(() => {
    taken = true;
  });
  await Bun.sleep(0);
  expect(taken).toBe(false);
  await inbox.take(slip);
  await put;

  const waiting = inbox.take(slip);
  await inbox.put(slip, tensor(2));
  await waiting;
});

test("once it has failed, takers get the first error and givers are let go", async () => {
  const inbox = new Inbox();
  const [waiting, put] = [failure(inbox.take(slip)), inbox.put({ ...slip, step: 4 }, tensor(1))];
  const first = new Error("the first");
  inbox.fail(first);
  inbox.fail(new Error("the second"));
  expect(await waiting).toBe(first as any);
  await put;
  expect(await failure(inbox.take({ ...slip, step: 4 }))).toBe(first as any);
  await inbox.put(slip, tensor(2));
  expect(await failure(inbox.take(slip))).toBe(first as any);
});

test("once it has to, passes over what has come before, taken or not, and nothing else", async () => {
  const inbox = new Inbox(true);
  inbox.put(slip, tensor(1));
  inbox.put({ ...slip, step: 4 }, tensor(2));
  await inbox.take(slip);
  inbox.passOver();
  await inbox.put(slip, tensor(3));
  await inbox.put({ ...slip, step: 4, generation: 2 }, tensor(4));
  inbox.put({ ...slip, microBatch: 3 }, tensor(5));
  const sum: Slip = { ...slip, phase: "collective", step: 4 };
  inbox.put(sum, tensor(7));
  await inbox.take(sum);
  await inbox.put({ ...sum, generation: 2 }, tensor(8));
  const waiting = inbox.take(slip);
  expect([...(await inbox.take({ ...slip, step: 4 })).f32()]).toEqual([2]);
  expect([...(await inbox.take({ ...slip, microBatch: 3 })).f32()]).toEqual([5]);

  // Steps that are over take nothing more.
  inbox.forgetBefore(4);
  await inbox.put({ ...slip, microBatch: 4 }, tensor(6));
  inbox.fail(new Error("over"));
  expect((await failure(waiting)).message).toBe("over");
});

test("called back, nobody waits until it goes on, and what has come stays", async () => {
  const inbox = new Inbox(true);
  const waiting = failure(inbox.take(slip));
  inbox.put({ ...slip, microBatch: 3 }, tensor(1));
  const error = new Error("called back");
  inbox.callBack(error);
  expect(await waiting).toBe(error as any);
  expect(await failure(inbox.take(slip))).toBe(error as any);
  const taken = await inbox.take({ ...slip, microBatch: 3 });
  inbox.putBack({ ...slip, microBatch: 3 }, taken);
  inbox.passOver();
  const again = inbox.take(slip);
  inbox.put(slip, tensor(2));
  expect([...(await again).f32()]).toEqual([2]);
  expect([...(await inbox.take({ ...slip, microBatch: 3 })).f32()]).toEqual([1]);
});

test("forgets what has come in a phase, but for some micro-batches, and lets its givers go", async () => {
  const inbox = new Inbox(true);
  const given = inbox.put({ ...slip, microBatch: 1 }, tensor(1));
  inbox.put({ ...slip, microBatch: 2 }, tensor(2));
  inbox.put({ ...slip, phase: "collective", microBatch: 1 }, tensor(3));
  inbox.passOver();
  inbox.forget("train", new Set([2]));
  await given;
  inbox.put({ ...slip, microBatch: 1 }, tensor(4));
  inbox.put({ ...slip, microBatch: 2 }, tensor(5));
  const values = async (at: Partial<Slip>) => [...(await inbox.take({ ...slip, ...at })).f32()];
  expect(await values({ microBatch: 1 })).toEqual([4]);
  expect(await values({ microBatch: 2 })).toEqual([2]);
  expect(await values({ phase: "collective", microBatch: 1 })).toEqual([3]);
});
