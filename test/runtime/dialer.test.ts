/** Who waits for which attempt, with connections that answer when the test says so. */

import { expect, test } from "bun:test";
import { Dialer } from "../../runtime/dialer.ts";
import type { Peer } from "../../runtime/peer.ts";
import type { Pipe, Transport } from "../../runtime/transports/transport.ts";

test("an attempt that fails late fails nobody who waits for a later one", async () => {
  const attempts = new Map<string, PromiseWithResolvers<Pipe>>();
  const transport: Transport = {
    scheme: "slow",
    listen: () => Promise.reject(new Error("only connects")),
    connect: (address) => {
      const attempt = Promise.withResolvers<Pipe>();
      attempts.set(address, attempt);
      return attempt.promise;
    },
  };
  let here: Peer | undefined;
  const dialer = new Dialer({
    ...{ name: "here", machine: undefined, transports: [transport], isClosed: false },
    find: () => here,
    tombstone: () => undefined,
    connected: () => [],
    open: () => {
      throw new Error("nothing is ever connected");
    },
  });
  const at = (address: string) => ({
    ...{ node: "there", incarnation: 1, actor: 1, className: "A", addresses: [address] },
  });
  const told: string[] = [];
  const tell = (who: string) => (found: Peer | Error) =>
    void told.push(`${who}: ${found instanceof Error ? found.message : "connected"}`);

  dialer.reach(at("slow://first"), tell("a"));
  here = { info: { id: "there", incarnation: 1 } } as Peer;
  dialer.joined(here); // it has connected to us meanwhile
  here = undefined; // and is gone again
  dialer.reach(at("slow://second"), tell("b"));
  attempts.get("slow://first")!.reject(new Error("nobody there"));
  await new Promise((resolve) => setTimeout(resolve, 0));
  expect(told).toEqual(["a: connected"]);
  attempts.get("slow://second")!.reject(new Error("nobody here either"));
  await new Promise((resolve) => setTimeout(resolve, 0));
  expect(told[1]).toContain("nobody here either");
});
