/**
 * The simulated world can fail: a runtime that breaks one promise at a time is found out within a few seeds. Each
 * case breaks the network or a class of the runtime for as long as it lasts.
 */

import { expect, test } from "bun:test";
import { FRAME_HEADER_BYTES, FrameKind } from "../../protocols/frame.ts";
import { Cell } from "../../runtime/cell.ts";
import { Mailbox } from "../../runtime/mailbox.ts";
import { Watchers } from "../../runtime/monitor.ts";
import { Peer } from "../../runtime/peer.ts";
import { live } from "./schedule.ts";
import type { World } from "./world.ts";

const MOST_SEEDS = 150;

/** What is found out about a broken runtime, by the first seed that does. */
async function found(breaking?: (world: World) => void): Promise<string> {
  for (let seed = 1; seed <= MOST_SEEDS; seed++) {
    const { breaches } = await live(seed, {}, breaking);
    if (breaches.length > 0) return breaches.join("\n");
  }
  return "nothing";
}

/** What is found out while a method is broken. The broken one is called with the object and the method it replaces. */
async function foundWith<T extends object>(
  type: { prototype: T },
  method: keyof T & string,
  broken: (self: any, original: (...args: any[]) => any, ...args: any[]) => unknown,
): Promise<string> {
  const prototype = type.prototype as any;
  const original = prototype[method];
  prototype[method] = function (this: T, ...args: unknown[]) {
    return broken(this, original.bind(this), ...args);
  };
  try {
    return await found();
  } finally {
    prototype[method] = original;
  }
}

/** Is this write one whole frame of a message? */
function isMessage(bytes: Uint8Array): boolean {
  if (bytes.byteLength < FRAME_HEADER_BYTES || bytes[3] !== FrameKind.message) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return view.getUint32(4, true) + FRAME_HEADER_BYTES === bytes.byteLength;
}

test("a network that delivers a message twice", async () => {
  const said = await found((world) => {
    world.network.tamper = (bytes) => (isMessage(bytes) ? [bytes, bytes] : [bytes]);
  });
  expect(said).toContain("handled twice");
});

test("a network that swaps messages", async () => {
  const said = await found((world) => {
    let kept: Uint8Array | undefined;
    world.network.tamper = (bytes) => {
      if (!isMessage(bytes)) return [bytes];
      const other = kept;
      kept = other ? undefined : bytes;
      return other ? [bytes, other] : [];
    };
  });
  expect(said).toMatch(/after a later one|never settled|no answer/);
});

test("a network that loses a message", async () => {
  const said = await found((world) => {
    let messages = 0;
    world.network.tamper = (bytes) => (isMessage(bytes) && ++messages % 12 === 0 ? [] : [bytes]);
  });
  expect(said).toMatch(/lost within a generation|never settled|never fired|no answer/);
});

test("a mailbox that keeps a message it has given out", async () => {
  const said = await foundWith(Mailbox, "push", (_, push, ...message) => {
    push(...message);
    push(...message);
  });
  expect(said).toContain("handled twice");
});

test("a node that forgets who waits for the actors of a node it has lost", async () => {
  const said = await foundWith(Peer, "lose", (peer, lose, ...why) => {
    peer.pending.clear();
    return lose(...why);
  });
  expect(said).toMatch(/never settled|no answer|left \d+ timers/);
});

test("monitors that fire twice", async () => {
  const said = await foundWith(Watchers, "fire", (watchers, fire, reason) => {
    for (const watcher of [...watchers.watchers]) watcher(reason);
    fire(reason);
  });
  expect(said).toContain("fired twice");
});

test("monitors that do not fire over a link", async () => {
  expect(await foundWith(Peer, "down", () => undefined)).toContain("never fired");
});

test("a child that is not started again", async () => {
  const said = await foundWith(Cell, "launch", (cell, launch) =>
    cell.options.onExit && cell.life > 0 ? undefined : launch(),
  );
  expect(said).toContain("is not running");
});

test("a node that holds on to what it was answered", async () => {
  const said = await foundWith(Peer, "answered", (peer, answered, envelope) => {
    peer.answers ??= [];
    peer.answers.push(envelope);
    answered(envelope);
  });
  expect(said).toMatch(/leaks .*answers/);
});

test("and nothing is found while nothing is broken", async () => {
  expect(await foundWith(Peer, "down", (_, down, ...args) => down(...args))).toBe("nothing");
});
