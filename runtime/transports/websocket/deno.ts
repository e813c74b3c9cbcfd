/** The WebSocket server of Deno, which hands out the same sockets as a browser has. */

import type { Serve, ServerOptions } from "./server.ts";
import { socketPipe } from "./socket.ts";

/** What is used of Deno's API. */
interface DenoServer {
  readonly addr: { readonly port: number };
  shutdown(): Promise<void>;
}
interface DenoApi {
  serve(
    options: { hostname: string; port: number; cert?: string; key?: string; onListen(): void },
    handler: (
      request: Request,
      info: { remoteAddr: { hostname: string; port: number } },
    ) => Response | Promise<Response>,
  ): DenoServer;
  upgradeWebSocket(
    request: Request,
    options: { idleTimeout: number },
  ): { readonly socket: WebSocket; readonly response: Response };
}

export const serve: Serve = async ({ hostname, port, certificate, clock, decide, accept }: ServerOptions) => {
  const deno = (globalThis as unknown as { Deno: DenoApi }).Deno;
  const tls = certificate ? { cert: certificate.certificate, key: certificate.key } : {};
  const server = deno.serve({ hostname, port, ...tls, onListen: () => undefined }, async (request, info) => {
    const answer = await decide(request);
    if (answer) return answer;
    const { hostname: from, port: fromPort } = info.remoteAddr; // not to be had after the upgrade
    const peer = `${certificate ? "wss" : "ws"}://${from.includes(":") ? `[${from}]` : from}:${fromPort}`;
    let upgraded: ReturnType<DenoApi["upgradeWebSocket"]>;
    try {
      upgraded = deno.upgradeWebSocket(request, { idleTimeout: 0 });
    } catch {
      return new Response("the request is not a valid WebSocket upgrade\n", { status: 400 });
    }
    const { socket, response } = upgraded;
    const pipe = socketPipe(socket, clock, peer);
    socket.onopen = () => {
      pipe.handlers = accept(pipe);
    };
    return response;
  });
  return {
    port: server.addr.port,
    close: () => server.shutdown(),
  };
};
