import { expect, test } from "bun:test";
import {
  creditCost,
  decodeGrants,
  encodeGrants,
  MOST_GRANTS,
  ReceiveWindow,
  SendWindow,
  STREAM_SHARE_BYTES,
} from "../../protocols/credit.ts";
import { seededRandom } from "../../runtime/random.ts";

const account = () => ({ outstanding: 0 });
const opened = (bytes: number) => {
  const window = new SendWindow();
  window.open(bytes);
  return window;
};

test("before the receiver has named its window there is no credit, and it names it once", () => {
  const window = new SendWindow();
  expect(window.trySpend(account(), 1)).toBe(false);
  window.open(100);
  expect(window.trySpend(account(), 1)).toBe(true);
  expect(() => window.open(100)).toThrow("is open");
});

test("a sender that has used up the window, and its stream's share, waits until credit comes back", () => {
  const size = 2 ** 20;
  const window = opened(size);
  const [slow, other] = [account(), account()];
  expect(window.trySpend(slow, 10 * size)).toBe(true); // larger than the window: charged as much as it
  expect(slow.outstanding).toBe(size);
  expect(window.trySpend(slow, 1)).toBe(false);
  expect(window.trySpend(other, STREAM_SHARE_BYTES)).toBe(true); // another stream has its share
  expect(window.trySpend(other, 1)).toBe(false);
  window.refund(other, other.outstanding);
  expect(window.trySpend(other, 1)).toBe(true);
  window.refund(slow, size);
  expect(window.trySpend(slow, 1)).toBe(true);
});

test("shares end when they add up to another window", () => {
  const window = opened(10 * STREAM_SHARE_BYTES);
  window.trySpend(account(), 2 ** 30);
  let started = 0;
  while (window.trySpend(account(), STREAM_SHARE_BYTES - 256)) started++;
  expect(started).toBe(10);
});

test("credit that was never spent is refused", () => {
  const window = opened(1000);
  const stream = account();
  window.trySpend(stream, 10);
  expect(() => window.refund(stream, 267)).toThrow("1 more than were spent");
  expect(() => window.refund(undefined, 1)).toThrow("1 more than were spent");
});

test("a sender that does not wait is noticed", () => {
  const window = new ReceiveWindow(1000);
  window.receive(1, 70_000);
  window.receive(2, 10);
  expect(() => window.receive(1, 1)).toThrow("beyond the window");
});

test("credit frames say which stream gets how much; others are refused", () => {
  const grants = [0, 2 ** 26, 7, 1, 2 ** 32 - 1, 2 ** 40];
  expect(decodeGrants(encodeGrants(grants))).toEqual(grants);
  expect(() => decodeGrants(new Uint8Array(8))).toThrow("12 bytes a grant");
  expect(() => decodeGrants(new Uint8Array(0))).toThrow("12 bytes a grant");
});

/** A link: messages under way to actors that handle at random, or never. */
function simulate(
  seed: number,
  stuck: (actor: number) => boolean,
): { handled: number; most: number; limit: number } {
  const random = seededRandom(seed);
  const size = 1000 + random.integer(200_000);
  const largest = 1 + random.integer(300_000);
  const send = opened(size);
  const receive = new ReceiveWindow(size);
  const actors = 1 + random.integer(6);
  const accounts = Array.from({ length: actors }, account);
  const queues = accounts.map((_, i) => (stuck(i) ? 400 : 60));
  const next = accounts.map(() => random.integer(largest));
  const wire: { actor: number; bytes: number }[] = [];
  const mailboxes: { bytes: number; cost: number }[][] = accounts.map(() => []);
  const left = () => queues.reduce((sum, n, i) => sum + (stuck(i) ? 0 : n + mailboxes[i]!.length), 0);
  let [most, handled, unhandled] = [0, 0, 0];
  for (let turns = 0; left() + wire.length > 0; turns++) {
    if (turns > 100_000) throw new Error(`seed ${seed} does not end`);
    const actor = random.integer(actors);
    if (queues[actor]! > 0 && send.trySpend(accounts[actor]!, next[actor]!)) {
      queues[actor]!--;
      wire.push({ actor, bytes: next[actor]! });
      next[actor] = random.integer(largest);
    }
    if (wire.length > 0 && random.next() < 0.7) {
      const { actor: to, bytes } = wire.shift()!;
      mailboxes[to]!.push({ bytes, cost: receive.receive(to + 1, bytes) });
      unhandled += bytes;
      most = Math.max(most, unhandled);
    }
    const who = random.integer(actors);
    if (!stuck(who) && mailboxes[who]!.length > 0 && random.next() < 0.6) {
      handled++;
      const { bytes, cost } = mailboxes[who]!.shift()!;
      unhandled -= bytes;
      receive.release(who + 1, cost);
    }
    while (receive.isDue) {
      const grants = receive.grants(2);
      for (let i = 0; i < grants.length; i += 2) send.refund(accounts[grants[i]! - 1]!, grants[i + 1]!);
    }
  }
  return { handled, most, limit: 2 * size + 2 * largest };
}

test("on any link every message arrives, and what is unhandled stays bounded", () => {
  for (let seed = 0; seed < 40; seed++) {
    const { most, limit } = simulate(seed, () => false);
    expect(most).toBeLessThanOrEqual(limit);
  }
});

test("an actor that handles nothing does not stop the others", () => {
  for (let seed = 0; seed < 40; seed++) {
    const { handled, most, limit } = simulate(seed, (actor) => actor === 0);
    expect(handled % 60).toBe(0);
    expect(most).toBeLessThanOrEqual(limit);
  }
});

test("a message costs its bytes and its envelope, and never more than the window", () => {
  expect(creditCost(100, 1000)).toBe(356);
  expect(creditCost(10_000, 1000)).toBe(1000);
});

test("streams that come and go are settled before many of them are remembered", () => {
  const window = new ReceiveWindow(2 ** 30);
  for (let stream = 1; stream <= 10_000; stream++) {
    window.release(stream, window.receive(stream, 10));
    if (window.isDue) expect(window.grants(MOST_GRANTS).length).toBe(2 * MOST_GRANTS);
  }
  expect(window.grants(10_000).length).toBeLessThan(2 * MOST_GRANTS);
});
