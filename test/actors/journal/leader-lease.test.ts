/** Leases: who leads, who waits and for how long, and what becomes of one who has lost it without knowing. */

import { afterEach, expect, test } from "bun:test";
import type { Journal } from "../../../actors/journal/journal.ts";
import { Deposed, LeaderLease } from "../../../actors/journal/leader-lease.ts";
import { LedJournal } from "../../../actors/journal/led.ts";
import { MemoryJournal } from "../../../actors/journal/memory.ts";
import { VirtualClock } from "../../../runtime/index.ts";
import { steps } from "./contract.ts";
import { LeaseServer } from "./lease-server.ts";

const TTL_MS = 1000;

let leases: LeaderLease[] = [];
afterEach(async () => {
  for (const each of leases) await each.release();
  leases = [];
});

function world() {
  const [clock, server] = [new VirtualClock(), new LeaseServer()];
  const said: string[] = [];
  /** Its clock may be another, which stands still while its process is stopped. */
  const candidate = (id: string, own = clock, cut = false) => {
    const line = Object.assign(server.line(), { cut });
    const tell = (why: string) => void said.push(why);
    const options = { register: line, clock: own, ttlMs: TTL_MS, holder: `${id}'s machine`, id, tell };
    const seen: { lease?: LeaderLease; error?: unknown; waits: string[] } = { waits: [] };
    LeaderLease.take(options, (holder) => void seen.waits.push(holder)).then(
      (lease) => {
        leases.push(lease);
        lease.deposed.catch((error) => {
          seen.error = error;
        });
        seen.lease = lease;
      },
      (error) => {
        seen.error = error;
      },
    );
    return { line, seen };
  };
  return { clock, server, candidate, said };
}

test("the first one has it, and keeps it as long as it renews it; the others wait, and are told for whom", async () => {
  const { clock, candidate } = world();
  const first = candidate("a");
  await clock.advance(0);
  const second = candidate("b");
  await clock.advance(20 * TTL_MS);
  expect(first.seen.lease?.isHeld).toBe(true);
  expect(second.seen).toMatchObject({ waits: ["a's machine"] });
  expect(second.seen.lease).toBeUndefined();
});

test("of two at the same moment, one has it", async () => {
  const { clock, candidate } = world();
  const both = [candidate("a"), candidate("b")];
  await clock.advance(5 * TTL_MS);
  expect(both.filter(({ seen }) => seen.lease)).toHaveLength(1);
});

test("one that is given back is another's at once, of a later epoch", async () => {
  const { clock, candidate } = world();
  const first = candidate("a");
  await clock.advance(0);
  const second = candidate("b");
  await clock.advance(TTL_MS);
  await first.seen.lease!.release();
  expect(first.seen.lease!.isHeld).toBe(false);
  await clock.advance(TTL_MS / 4);
  expect(second.seen.lease!.epoch).toBeGreaterThan(first.seen.lease!.epoch);
});

test("one whose holder is gone is another's when its time is over, and not before", async () => {
  const { clock, candidate } = world();
  const stopped = new VirtualClock();
  candidate("a", stopped);
  await stopped.advance(0);
  const second = candidate("b");
  await clock.advance(TTL_MS - 1);
  expect(second.seen.lease).toBeUndefined();
  await clock.advance(TTL_MS / 4);
  expect(second.seen.lease).toBeDefined();
});

test("a holder that was stopped, and goes on, finds out; what it writes until then is refused, and what comes after waits", async () => {
  const { clock, candidate } = world();
  const stopped = new VirtualClock();
  const first = candidate("a", stopped);
  await stopped.advance(0);
  const second = candidate("b");
  await clock.advance(2 * TTL_MS);
  expect(second.seen.lease).toBeDefined();
  // By its own clock it is still the leader, but the journal is another's.
  const inner: Journal = new MemoryJournal();
  const refused = new LedJournal(
    Object.assign(inner, {
      append: async () => {
        throw new Deposed("another coordinator writes");
      },
    }),
    first.seen.lease!,
  );
  let settled = false;
  const settle = () => {
    settled = true;
  };
  refused.append(steps(0, 1)).then(settle, settle);
  await stopped.advance(10 * TTL_MS);
  expect(first.seen.error).toBeInstanceOf(Deposed);
  expect(settled).toBe(false);
  expect(second.seen.lease!.isHeld).toBe(true);
});

test("a holder that was stopped for longer than it was given knows it by its clock, without a word from anybody", async () => {
  const { clock, candidate } = world();
  const first = candidate("a");
  await clock.advance(0);
  first.line.cut = true;
  await clock.advance(TTL_MS);
  expect(first.seen.lease!.isHeld).toBe(false);
  const journal = new LedJournal(new MemoryJournal(), first.seen.lease!);
  let written = false;
  journal.append(steps(0, 1)).then(() => {
    written = true;
  });
  await clock.advance(TTL_MS);
  expect(written).toBe(false);
  // Nobody else has taken it: it is renewed, and what waited goes on.
  first.line.cut = false;
  await clock.advance(TTL_MS);
  expect(written).toBe(true);
  expect((await journal.read()).records).toEqual(steps(0, 1));
});

test("a holder that is cut off stops relying on it before another one has it, and hears of that one later", async () => {
  const { clock, candidate, said } = world();
  const first = candidate("a");
  await clock.advance(0);
  const second = candidate("b");
  await clock.advance(TTL_MS);
  first.line.cut = true;
  while (!second.seen.lease) {
    await clock.advance(TTL_MS / 100);
    if (second.seen.lease) expect(first.seen.lease!.isHeld).toBe(false);
  }
  expect(said).toEqual(["nobody answers"]);
  first.line.cut = false;
  await clock.advance(TTL_MS);
  expect(first.seen.error).toMatchObject({
    code: "DEPOSED",
    message: expect.stringContaining("b's machine leads"),
  });
});

test("a renewal that was written and never answered is no loss", async () => {
  const { clock, candidate } = world();
  const first = candidate("a");
  await clock.advance(0);
  first.line.answers = false;
  await clock.advance(TTL_MS / 2);
  first.line.answers = true;
  await clock.advance(TTL_MS);
  expect(first.seen.lease!.isHeld).toBe(true);
  expect(first.seen.error).toBeUndefined();
});

test("while the server is away its holder loses nothing: it has its time from the server's return on", async () => {
  const { clock, candidate } = world();
  const first = candidate("a");
  await clock.advance(0);
  const second = candidate("b");
  await clock.advance(TTL_MS);
  first.line.cut = true;
  second.line.cut = true;
  await clock.advance(10 * TTL_MS);
  second.line.cut = false;
  await clock.advance(TTL_MS / 2);
  first.line.cut = false;
  await clock.advance(10 * TTL_MS);
  expect(first.seen.lease!.isHeld).toBe(true);
  expect(second.seen.lease).toBeUndefined();
});

test("a server that is not there at the first look is an error", async () => {
  const { clock, candidate } = world();
  const first = candidate("a", clock, true);
  await clock.advance(0);
  expect(first.seen.error).toMatchObject({ code: "NATS" });
});
