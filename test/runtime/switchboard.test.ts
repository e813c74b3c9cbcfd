/** Signals between nodes: found, forwarded over one node, and only in the sender's own name. */

import { describe, expect, test } from "bun:test";
import type { Signal } from "../../runtime/switchboard.ts";
import { SignalHub } from "./transports/signal_hub.ts";

const settle = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

function receiving(hub: SignalHub, id: string) {
  const got: unknown[][] = [];
  const lost: unknown[][] = [];
  hub.node(id).switchboard.receive("test", {
    onSignal: (from, via, data) => got.push([from, via, data]),
    onLost: (via, to) => lost.push([via, to]),
  });
  return { got, lost };
}

describe("a switchboard", () => {
  test("finds the node that knows another, or the other itself", async () => {
    const hub = new SignalHub();
    const { switchboard } = hub.node("a");
    expect(await switchboard.route("b")).toBe("c");
    hub.link("a", "b");
    expect(await switchboard.route("b")).toBe("b");
    await expect(switchboard.route("x")).rejects.toThrow("no way to node x; asked c, b");
    await expect(switchboard.route("a")).rejects.toMatchObject({ code: "CONNECT_FAILED", node: "a" });
  });

  test("passes signals on between two of its peers, and tells when it cannot", async () => {
    const hub = new SignalHub();
    const a = receiving(hub, "a");
    const b = receiving(hub, "b");
    expect(hub.node("a").switchboard.send("c", "b", "test", { x: 1 })).toBe(true);
    expect(hub.node("a").switchboard.send("c", "x", "test", 2)).toBe(true);
    expect(hub.node("a").switchboard.send("gone", "b", "test", 3)).toBe(false);
    await settle();
    expect(b.got).toEqual([["a", "c", { x: 1 }]]);
    expect(a.lost).toEqual([["c", "x"]]);
    hub.cut("a", "c");
    expect(a.lost).toEqual([
      ["c", "x"],
      ["c", undefined],
    ]);
  });

  test("passes nothing on in another's name, nor what was passed on already", async () => {
    const hub = new SignalHub();
    const b = receiving(hub, "b");
    const forged: Signal = { type: "signal", to: "b", from: "somebody", about: "test", data: 1 };
    hub.node("c").switchboard.handle(hub.node("c").peers.get("a")!, forged);
    await settle();
    expect(b.got).toEqual([]);
  });

  test("takes nonsense about its own subjects without harm", async () => {
    const hub = new SignalHub();
    const by = hub.node("c").peers.get("a")!;
    for (const about of ["where", "here", "lost", "relay", "toString", ""]) {
      for (const data of [null, 1, "x", [], [null], {}, ["close", 1], new Uint8Array(3)]) {
        for (const to of ["c", "b", "x", "a"]) {
          hub.node("c").switchboard.handle(by, { type: "signal", to, from: "a", about, data });
        }
      }
    }
    await settle();
    expect(hub.node("c").switchboard.relayed).toMatchObject({ pipes: 0, bytes: 0 });
    expect(await hub.node("a").switchboard.route("b")).toBe("c");
  });
});
