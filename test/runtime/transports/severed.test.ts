import { expect, test } from "bun:test";
import { VirtualClock } from "../../../runtime/clock.ts";
import { MemoryNetwork, memory } from "../../../runtime/transports/memory.ts";
import { type Cable, severed } from "../../../runtime/transports/severed.ts";
import { failure } from "../world.ts";
import { connected } from "./ends.ts";

test("what is cut off loses what is written either way, accepts it, and tells nobody", async () => {
  const time = new VirtualClock();
  const cable: Cable = { cut: false };
  const plain = memory(new MemoryNetwork());
  const { near, far } = await connected(time, plain, severed(plain, cable));
  const say = (byte: number) => [near, far].map(({ pipe }) => pipe.write(Uint8Array.of(byte)));
  expect(say(1)).toEqual([1, 1]);
  await time.settle();
  cable.cut = true;
  expect(say(2)).toEqual([1, 1]);
  await time.advance(1000);
  cable.cut = false;
  expect(say(3)).toEqual([1, 1]);
  await time.settle();
  // What is behind a gap is of no use.
  for (const { received, closes } of [near, far]) expect([received, closes]).toEqual([[1], []]);
  near.pipe.close();
  await time.settle();
  expect([near.closes.length, far.closes.length]).toEqual([1, 1]);
});

test("a pipe of which nothing was lost outlives the cut", async () => {
  const time = new VirtualClock();
  const cable: Cable = { cut: false };
  const plain = memory(new MemoryNetwork());
  const { near, far } = await connected(time, plain, severed(plain, cable));
  cable.cut = true;
  await time.advance(1000);
  cable.cut = false;
  near.pipe.write(Uint8Array.of(1));
  await time.settle();
  expect(far.received).toEqual([1]);
});

test("what was closed while it was cut off is closed when it can be", async () => {
  const time = new VirtualClock();
  const cable: Cable = { cut: false };
  const plain = memory(new MemoryNetwork());
  const transport = severed(plain, cable);
  const closing = await connected(time, plain, transport);
  const left = await connected(time, plain, transport);
  cable.cut = true;
  closing.far.pipe.close();
  left.near.pipe.close();
  await time.settle();
  cable.cut = false;
  await connected(time, plain, transport);
  await time.settle();
  expect([closing.near.closes.length, closing.far.closes.length]).toEqual([1, 1]);
  left.far.pipe.close();
  await time.settle();
  expect(left.far.closes.length).toBe(1);
});

test("a close behind the cut is heard by whoever closes, and by nobody else", async () => {
  const time = new VirtualClock();
  const cable: Cable = { cut: false };
  const plain = memory(new MemoryNetwork());
  const [one, other] = [
    await connected(time, plain, severed(plain, cable)),
    await connected(time, plain, severed(plain, cable)),
  ];
  cable.cut = true;
  one.far.pipe.close();
  one.far.pipe.close();
  other.near.pipe.close();
  await time.settle();
  expect([one.far.closes.length, one.near.closes.length]).toEqual([1, 0]);
  expect([other.far.closes.length, other.near.closes.length]).toEqual([0, 1]);
});

test("nobody is reached from there", async () => {
  const transport = severed(memory(new MemoryNetwork()), { cut: true });
  const { address } = await transport.listen("memory://", () => expect.unreachable());
  const { code, message } = await failure(transport.connect(address, () => expect.unreachable()));
  expect([code, message]).toEqual(["CONNECT_FAILED", `${address} cannot be reached: the cable is cut`]);
});
