/** What a node tells over HTTP, on the port of its WebSockets. */

import { afterEach, describe, expect, test } from "bun:test";
import { Actor } from "../../../runtime/actor.ts";
import { createGateway } from "../../../runtime/gateway/gateway.ts";
import { NodeRuntime } from "../../../runtime/node.ts";
import { ws } from "../../../runtime/transports/websocket/websocket.ts";

class Echo extends Actor {
  async echo(value: unknown) {
    return value;
  }
}

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start() {
  const gateway = createGateway();
  const transports = gateway.counting([ws({ fetch: gateway.fetch })]);
  const log = () => {};
  const node = new NodeRuntime({ name: 'a "quoted" name', id: "node-1", transports, actors: { Echo }, log });
  gateway.show(node);
  cleanups.push(() => node.close(0));
  const address = await node.listen("ws://127.0.0.1:0/troupe");
  const get = (path: string, init?: RequestInit) => fetch(new URL(path, address.replace("ws", "http")), init);
  return { node, address, get };
}

describe("the gateway", () => {
  test("is healthy once there is a node, and closed with it", async () => {
    const early = await createGateway().fetch(new Request("http://x/healthz"));
    expect(early.status).toBe(503);
    const { node, get } = await start();
    const answer = await get("/healthz");
    expect([answer.status, await answer.text()]).toEqual([200, "ok\n"]);
    await node.close(0);
    await expect(get("/healthz")).rejects.toThrow();
  });

  test("tells of nodes, actors, messages, dead letters and bytes", async () => {
    const { node, address, get } = await start();
    const other = new NodeRuntime({ name: "other", transports: [ws()], log: () => {} });
    cleanups.push(() => other.close(0));
    await other.connect(address);
    const ref = await other.spawnOn<Echo>(node.id, "Echo", []);
    await ref.ask.echo(new Uint8Array(100_000));
    await other.kill(ref);
    ref.tell.echo(1);
    await other.lookup(node.id, "nobody"); // answered after the tell was handled
    const kept = await other.spawnOn<Echo>(node.id, "Echo", []);
    await kept.ask.echo(1);

    const status = await (await get("/status")).json();
    expect(status).toMatchObject({ id: "node-1", actors: 1, deadLetters: 1, addresses: [address] });
    expect(status.peers).toMatchObject([{ id: other.id, transport: "ws", route: "direct" }]);
    expect(status.traffic).toMatchObject([{ scheme: "ws", pipes: 1, openPipes: 1 }]);

    const answer = await get("/metrics");
    expect(answer.headers.get("content-type")).toContain("version=0.0.4");
    const text = await answer.text();
    const value = (name: string) =>
      Number(
        text
          .split("\n")
          .find((line) => line.startsWith(`${name} `))
          ?.split(" ")[1],
      );
    expect(text).toContain('troupe_node_info{id="node-1",name="a \\"quoted\\" name"} 1');
    expect(value('troupe_peers{transport="ws",route="direct"}')).toBe(1);
    expect([value("troupe_actors"), value("troupe_dead_letters_total")]).toEqual([1, 1]);
    expect(value("troupe_messages_received_total")).toBeGreaterThanOrEqual(6);
    expect(value('troupe_bytes_sent_total{transport="ws"}')).toBeGreaterThan(100_000);
    expect(value('troupe_bytes_received_total{transport="ws"}')).toBeGreaterThan(100_000);
    // Every line is a comment or a sample.
    const sample =
      /^(# (HELP|TYPE) \w+ .+|\w+(\{\w+="([^"\\\n]|\\.)*"(,\w+="([^"\\\n]|\\.)*")*\})? [\d.e+-]+)$/;
    expect(
      text
        .trimEnd()
        .split("\n")
        .filter((line) => !sample.test(line)),
    ).toEqual([]);
  });

  test("counts a pipe as open until it is closed", async () => {
    const { node, address, get } = await start();
    const other = new NodeRuntime({ name: "other", transports: [ws()], log: () => {} });
    await other.connect(address);
    const left = new Promise<void>((resolve) => node.onPeer(({ type }) => type === "left" && resolve()));
    await other.close(0);
    await left;
    const { traffic } = await (await get("/status")).json();
    expect(traffic).toMatchObject([{ pipes: 1, openPipes: 0 }]);
  });

  test("answers what it does not know", async () => {
    const { get } = await start();
    const unknown = await get("/nothing");
    expect([unknown.status, await unknown.text()]).toEqual([
      404,
      expect.stringContaining("/healthz, /status"),
    ]);
    const posted = await get("/status", { method: "POST", body: "x" });
    expect([posted.status, posted.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  });
});
