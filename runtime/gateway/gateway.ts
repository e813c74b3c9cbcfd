/**
 * The gateway: what a node tells over HTTP, on the port of its WebSockets.
 *
 *     GET /healthz   "ok", or 503 while there is no node
 *     GET /status    the node's state as JSON
 *     GET /metrics   the same and the traffic, for Prometheus
 *
 * It is a request handler and opens nothing itself: `ws({ fetch: gateway.fetch })` gives it a port, which is closed
 * with the node. It tells names, ids and addresses, never secrets or messages, and takes nothing from anyone. Pages
 * of other origins cannot read it (there are no CORS headers).
 *
 *     const gateway = createGateway();
 *     const transports = gateway.counting([tcp(), ws({ fetch: gateway.fetch })]);
 *     const node = new NodeRuntime({ name: "coordinator", transports });
 *     gateway.show(node);
 *     await node.listen("ws://127.0.0.1:8080/troupe");
 */

import { Hono } from "hono";
import type { NodeRuntime } from "../node.ts";
import type { Transport } from "../transports/transport.ts";
import { counted, type Traffic } from "./counted.ts";
import { METRICS_TYPE, metrics } from "./metrics.ts";

/** A request handler that tells of one node. */
export interface Gateway {
  /** Answers a request; never throws. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** The same transports, whose traffic `/metrics` and `/status` tell. */
  counting(transports: readonly Transport[]): Transport[];
  /** From now on the gateway tells of this node. */
  show(node: NodeRuntime): void;
}

const PATHS = ["/healthz", "/status", "/metrics"];

/** A gateway that knows no node yet: `/healthz` is 503 until `show` is called. */
export function createGateway(): Gateway {
  let node: NodeRuntime | undefined;
  const traffic: Traffic[] = [];
  const app = new Hono();

  app.use(async (context, next) => {
    await next();
    context.header("cache-control", "no-store");
    context.header("x-content-type-options", "nosniff");
  });
  app.get("/healthz", (context) =>
    node ? context.text("ok\n") : context.text("no node is running yet\n", 503),
  );
  app.get("/status", (context) =>
    node
      ? context.json({ ...node.status(), traffic })
      : context.json({ error: "no node is running yet" }, 503),
  );
  app.get("/metrics", (context) =>
    node
      ? context.body(metrics(node.status(), traffic), 200, { "content-type": METRICS_TYPE })
      : context.text("no node is running yet\n", 503),
  );
  for (const path of PATHS) {
    app.all(path, (context) => context.text(`${path} is read with GET\n`, 405, { allow: "GET, HEAD" }));
  }
  app.notFound((context) =>
    context.text(`nothing is at ${new URL(context.req.url).pathname}; there are ${PATHS.join(", ")}\n`, 404),
  );
  app.onError((error, context) => context.text(`${error.message}\n`, 500));

  return {
    fetch: async (request) => app.fetch(request),
    counting: (transports) =>
      transports.map((transport) => {
        const of = { scheme: transport.scheme, sentBytes: 0, receivedBytes: 0, pipes: 0, openPipes: 0 };
        traffic.push(of);
        return counted(transport, of);
      }),
    show(shown) {
      node = shown;
    },
  };
}
