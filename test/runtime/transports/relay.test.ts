/** Relayed pipes keep the contract of transports, and little of the memory of the node in between. */

import { describe, expect, test } from "bun:test";
import { Tensor } from "../../../protocols/tensor.ts";
import { systemClock } from "../../../runtime/clock.ts";
import { RelayLedger } from "../../../runtime/transports/relay/ledger.ts";
import { RELAY_WINDOW_BYTES, relay as say } from "../../../runtime/transports/relay/messages.ts";
import { relay } from "../../../runtime/transports/relay/relay.ts";
import { shaped } from "../../../runtime/transports/shaped.ts";
import type { Pipe } from "../../../runtime/transports/transport.ts";
import { transportContract } from "../../contract/transport.contract.ts";
import { SignalHub } from "./signal_hub.ts";

transportContract({
  name: "relay",
  make: () => new SignalHub().between(relay),
  anyAddress: "relay://",
  deadAddress: "relay://nobody",
});

transportContract({
  name: "shaped relay",
  make: () => new SignalHub().between(() => shaped(relay(), { clock: systemClock, latencyMs: 1 })),
  anyAddress: "relay://",
  deadAddress: "relay://nobody",
});

const ignore = { onData() {}, onDrain() {}, onClose() {} };

async function pair(hub: SignalHub) {
  const transport = hub.between(relay);
  const ends: (Error | undefined | null)[] = [null, null];
  let far!: Pipe;
  const closing = (i: number) => ({
    ...ignore,
    onClose: (error?: Error) => {
      ends[i] = error;
    },
  });
  await transport.listen("relay://", (pipe) => {
    far = pipe;
    return closing(1);
  });
  const near = await transport.connect("relay://b", () => closing(0));
  return { near, far, ends };
}

test("a node that does not listen, and one that nobody knows, are named", async () => {
  const transport = new SignalHub().between(relay);
  await expect(transport.connect("relay://b", () => ignore)).rejects.toThrow("takes no relayed connections");
  const nobody = transport.connect("relay://nobody", () => ignore);
  await expect(nobody).rejects.toThrow("no way to node nobody; asked c");
  await expect(transport.connect("relay://c", () => ignore)).rejects.toThrow("connected already");
  await expect(transport.listen("relay://x", () => ignore)).rejects.toThrow("expected relay:// or relay://b");
  await expect(relay().listen("relay://", () => ignore)).rejects.toThrow("needs a node");
});

test("a link that breaks ends the pipes over it, with an error at both ends", async () => {
  for (const [a, b] of [
    ["a", "c"],
    ["b", "c"],
  ] as const) {
    const hub = new SignalHub();
    const { near, ends } = await pair(hub);
    hub.cut(a, b);
    for (let i = 0; i < 20; i++) await Promise.resolve();
    for (const end of ends) expect(end).toMatchObject({ code: "NODE_LOST" });
    expect(near.write(Uint8Array.of(1))).toBe(0);
    expect(hub.node("c").switchboard.relayed).toMatchObject({ pipes: 0, bytes: 0 });
  }
});

test("an end that takes nothing fills its window and no more", async () => {
  const hub = new SignalHub();
  const { near, far } = await pair(hub);
  // Credit does not come back: what is written stays under way.
  hub.tap = (signal) => ((signal.data as unknown[])[0] === "credit" ? undefined : signal);
  let accepted = 0;
  for (let i = 0; i < 100; i++) {
    accepted += near.write(new Uint8Array(100_000));
    await Promise.resolve();
  }
  const { relayed } = hub.node("c").switchboard;
  expect(relayed).toMatchObject({ pipes: 1, bytes: accepted });
  expect(accepted).toBeLessThanOrEqual(RELAY_WINDOW_BYTES);
  near.close();
  far.close();
  for (let i = 0; i < 20; i++) await Promise.resolve();
  expect(relayed.pipes).toBe(0);
});

describe("the ledger of the node in between", () => {
  const pipe = "0123456789abcdef";
  const open = () => {
    const ledger = new RelayLedger();
    expect(ledger.pass("a", "b", say.open(pipe))).toBe(true);
    return ledger;
  };
  const data = (bytes: number) => ["data", pipe, Tensor.zeros("u8", [bytes])];

  test("refuses bytes beyond the window, credit that was not earned, and strangers", () => {
    expect(open().pass("a", "b", data(RELAY_WINDOW_BYTES))).toBe(true);
    expect(open().pass("a", "b", data(RELAY_WINDOW_BYTES + 1))).toBe(false);
    expect(open().pass("b", "a", say.credit(pipe, 1))).toBe(false);
    expect(open().pass("x", "b", data(1))).toBe(false);
    expect(open().pass("a", "x", data(1))).toBe(false);
    expect(new RelayLedger().pass("a", "b", data(1))).toBe(false);
    expect(open().pass("a", "b", "nonsense")).toBe(false);
  });

  test("refuses a new pipe when it has as many as it may, and says so", () => {
    const ledger = new RelayLedger();
    const id = (i: number) => i.toString(16).padStart(16, "0");
    let i = 0;
    while (ledger.pass("a", "b", say.open(id(i)))) i++;
    expect(i).toBe(256);
    expect(ledger.refusal(say.open(id(i)))).toEqual(["close", id(i), 0, expect.stringContaining("256")]);
  });
});
