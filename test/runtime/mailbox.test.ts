import { expect, test } from "bun:test";
import { type Call, Mailbox, type Receiver } from "../../runtime/mailbox.ts";
import { seededRandom } from "../../runtime/random.ts";

const call = (name: string, reentrant: boolean): Call => ({
  ...{ name, reentrant, carried: false },
  invoke: () => undefined,
});
const serial = call("serial", false);
const reentrant = call("reentrant", true);

const push = (box: Mailbox, method: Call, n: number) => box.push(method, null, n, undefined);

/** What the mailbox hands over until it has nothing more that may start. */
function taken(box: Mailbox, busy: boolean): number[] {
  const numbers: number[] = [];
  const receiver: Receiver = { receive: (_call, _reply, n) => numbers.push(n as number) };
  while (box.deliver(receiver, busy));
  return numbers;
}

test("messages are taken in order of arrival while nothing runs", () => {
  const box = new Mailbox();
  [serial, reentrant, reentrant, serial, reentrant].forEach((method, i) => {
    push(box, method, i);
  });
  expect(taken(box, false)).toEqual([0, 1, 2, 3, 4]);
});

test("while a serial method runs, only reentrant messages are taken", () => {
  const box = new Mailbox();
  [serial, reentrant, serial, reentrant].forEach((method, i) => {
    push(box, method, i);
  });
  expect(taken(box, true)).toEqual([1, 3]);
  expect(taken(box, false)).toEqual([0, 2]);
});

test("a message arrives as it was sent: how to call the method, who is answered, and both arguments", () => {
  const box = new Mailbox();
  const reply = { resolve() {}, reject() {} };
  const a = { a: 1 };
  const b = { b: 2 };
  for (const method of [serial, reentrant]) {
    box.push(method, reply, a, b);
    const seen: unknown[] = [];
    box.deliver({ receive: (...message) => seen.push(...message) }, false);
    expect([seen[0] === method, seen[1] === reply, seen[2] === a, seen[3] === b]).toEqual(
      Array(4).fill(true),
    );
  }
});

test("one too many is refused, and there is room again after one is taken", () => {
  const box = new Mailbox(2);
  push(box, serial, 0);
  push(box, reentrant, 1);
  expect(() => push(box, serial, 2)).toThrow("2 messages wait already; serial is refused");
  expect(() => push(box, reentrant, 2)).toThrow("2 messages wait already; reentrant is refused");
  box.deliver({ receive() {} }, false);
  push(box, serial, 2);
  expect(box.waiting).toBe(2);
  expect(taken(box, false)).toEqual([1, 2]);
});

test("it behaves as a plain list would, through any growth, wrapping and shrinking", () => {
  const random = seededRandom(11);
  const capacity = 3000;
  const box = new Mailbox(capacity);
  const model: { n: number; reentrant: boolean }[] = [];
  const got: number[] = [];
  const receiver: Receiver = { receive: (_call, _reply, n) => got.push(n as number) };
  for (let i = 0; i < 60_000; i++) {
    // Fills up and empties in long waves.
    const filling = Math.floor(i / 6000) % 2 === 0;
    if (random.next() < (filling ? 0.8 : 0.3)) {
      const method = random.next() < 0.2 ? reentrant : serial;
      if (model.length >= capacity)
        expect(() => push(box, method, i)).toThrow(`${capacity} messages wait already`);
      else {
        push(box, method, i);
        model.push({ n: i, reentrant: method.reentrant });
      }
    } else {
      const busy = random.next() < 0.3;
      const place = busy ? model.findIndex((m) => m.reentrant) : model.length > 0 ? 0 : -1;
      expect(box.deliver(receiver, busy)).toBe(place >= 0);
      if (place >= 0) expect(got.pop()).toBe(model.splice(place, 1)[0]!.n);
    }
    if (model.length === 0) for (let rest = 0; rest < 64; rest++) box.review();
    expect(box.waiting).toBe(model.length);
  }
});
