import { expect, test } from "bun:test";
import { Mailbox, type Method, type UserMessage } from "../../runtime/mailbox.ts";

const serial: Method = { name: "serial", reentrant: false };
const reentrant: Method = { name: "reentrant", reentrant: true };
const message = (method: Method, n: number): UserMessage => ({
  method,
  args: [n],
  reply: null,
  taken: null,
  order: 0,
});
const numbers = (box: Mailbox<never>, busy: boolean) => {
  const taken: unknown[] = [];
  for (let m = box.take(busy); m; m = box.take(busy)) taken.push(m.args[0]);
  return taken;
};

test("messages are taken in order of arrival while nothing runs", () => {
  const box = new Mailbox<never>();
  [serial, reentrant, reentrant, serial, reentrant].forEach((method, i) => {
    box.push(message(method, i));
  });
  expect(numbers(box, false)).toEqual([0, 1, 2, 3, 4]);
});

test("while a serial method runs, only reentrant messages are taken", () => {
  const box = new Mailbox<never>();
  [serial, reentrant, serial, reentrant].forEach((method, i) => {
    box.push(message(method, i));
  });
  expect(numbers(box, true)).toEqual([1, 3]);
  expect(numbers(box, false)).toEqual([0, 2]);
});

test("one too many is refused, and there is room again after one is taken", () => {
  const box = new Mailbox<never>(2);
  box.push(message(serial, 0));
  box.push(message(reentrant, 1));
  expect(() => box.push(message(serial, 2))).toThrow("2 messages wait already; serial is refused");
  box.take(false);
  box.push(message(serial, 2));
  expect(box.waiting).toBe(2);
});
