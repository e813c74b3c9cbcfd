import { expect, test } from "bun:test";
import { ReceiveWindow, SendWindow } from "../../protocols/credit.ts";
import { seededRandom } from "../../runtime/random.ts";

test("a sender with an empty window waits until credit comes back", () => {
  const window = new SendWindow(100);
  expect(window.trySpend(60)).toBe(true);
  expect(window.trySpend(60)).toBe(true); // the last may overdraw, or larger messages would never pass
  expect(window.trySpend(1)).toBe(false);
  window.refund(20);
  expect(window.trySpend(1)).toBe(false);
  window.refund(10);
  expect(window.trySpend(1)).toBe(true);
});

test("credit that was never spent is refused", () => {
  const window = new SendWindow(100);
  window.trySpend(10);
  expect(() => window.refund(11)).toThrow("1 more than were spent");
});

test("a sender that does not wait is noticed", () => {
  const window = new ReceiveWindow(100);
  window.receive(150);
  expect(() => window.receive(1)).toThrow("beyond the window");
});

test("on a simulated link of any speed, every message arrives and what is unhandled stays bounded", () => {
  for (let seed = 0; seed < 50; seed++) {
    const random = seededRandom(seed);
    const size = 50 + random.integer(1000);
    const most = 1 + random.integer(400);
    const [send, receive] = [new SendWindow(size), new ReceiveWindow(size)];
    const toSend = Array.from({ length: 200 }, () => 1 + random.integer(most));
    const inFlight: number[] = [];
    const mailbox: number[] = [];
    let handled = 0;
    for (let turns = 0; handled < 200; turns++) {
      expect(turns).toBeLessThan(10_000);
      if (toSend.length > 0 && send.trySpend(toSend[0]!)) inFlight.push(toSend.shift()!);
      if (inFlight.length > 0 && random.next() < 0.7) {
        receive.receive(inFlight[0]!);
        mailbox.push(inFlight.shift()!);
      }
      if (mailbox.length > 0 && random.next() < 0.4) {
        handled++;
        const grant = receive.release(mailbox.shift()!);
        if (grant > 0) send.refund(grant);
      }
      expect(mailbox.reduce((a, b) => a + b, 0)).toBeLessThan(size + most);
    }
  }
});
