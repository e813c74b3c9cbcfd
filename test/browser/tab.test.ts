/** A browser tab as a node: headless Chromium, the runtime bundled for it, over WebSocket and WebRTC. */

import { afterAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { type Browser, chromium, type Page } from "playwright-core";
import { Tensor } from "../../protocols/tensor.ts";
import { createGateway } from "../../runtime/gateway/gateway.ts";
import { Actor, type Down, NodeRuntime, tcp, webrtc, ws } from "../../runtime/index.ts";
import type { Steps } from "./tab.ts";

const CHROMIUM = "/usr/bin/chromium";
/** What is loaded on other platforms only, when it is needed there. */
const NOT_IN_BROWSERS = ["node:*", "bonjour-service", "@roamhq/wrtc"];
const ARGUMENTS = [
  ...["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions"],
  ...["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
];

export class Worker extends Actor {
  private seen = 0;

  async twice(tensor: Tensor) {
    return Tensor.f32(
      tensor.shape,
      tensor.f32().map((x) => 2 * x),
    );
  }
  async note(tensor: Tensor) {
    this.seen += tensor.bytes.byteLength;
  }
  async total() {
    return this.seen;
  }
  async hash(tensor: Tensor) {
    return sha256(tensor);
  }
}

/** The actor of that name in the tab. */
interface Doubler extends Worker {}

function sha256(tensor: Tensor): string {
  return new Bun.CryptoHasher("sha256").update(tensor.bytes).digest("hex");
}

const cleanups: (() => unknown)[] = [];
afterAll(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function bundle(): Promise<string> {
  const built = await Bun.build({
    ...{ entrypoints: [`${import.meta.dir}/tab.ts`], target: "browser", minify: true },
    external: NOT_IN_BROWSERS,
  });
  return built.outputs[0]!.text();
}

/** Two nodes here that are connected, the first with a page for the tab. */
async function nodes() {
  // A tab that is closed says nothing on its data channels: its silence is noticed.
  const heartbeat = { intervalMs: 250, patienceMs: 4000 };
  const options = { token: "t", actors: { Worker }, log: () => {}, heartbeat };
  const gateway = createGateway();
  const script = await bundle();
  const page = (request: Request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/tab.js") return file("text/javascript", script);
    if (pathname === "/")
      return file("text/html", '<!doctype html><script type="module" src="/tab.js"></script>');
    return gateway.fetch(request);
  };
  const transports = gateway.counting([tcp(), ws({ fetch: page })]);
  const first = new NodeRuntime({ name: "first", transports, ...options });
  gateway.show(first);
  const second = new NodeRuntime({ name: "second", transports: [tcp(), webrtc()], ...options });
  cleanups.push(
    () => first.close(0),
    () => second.close(0),
  );
  const address = await first.listen("ws://127.0.0.1:0/troupe");
  await second.connect(await first.listen("tcp://127.0.0.1:0"));
  await second.listen("webrtc://");
  return { first, second, address };
}

function file(type: string, text: string): Response {
  return new Response(text, { headers: { "content-type": type } });
}

async function open(address: string): Promise<{ page: Page; browser: Browser }> {
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
  cleanups.push(() => browser.close());
  const page = await browser.newPage();
  page.on("pageerror", (error) => console.error("in the tab:", error));
  await page.goto(address.replace("ws", "http").replace("/troupe", "/"));
  await page.waitForFunction(() => "steps" in globalThis);
  return { page, browser };
}

/** Runs one of the tab's steps. */
function step<K extends keyof Steps>(
  page: Page,
  name: K,
  ...args: Parameters<Steps[K]>
): Promise<Awaited<ReturnType<Steps[K]>>> {
  const run = ([name, args]: readonly [string, readonly unknown[]]) =>
    (globalThis as unknown as { steps: Record<string, (...args: unknown[]) => unknown> }).steps[name]!(
      ...args,
    );
  return page.evaluate(run, [name, args] as const) as Promise<Awaited<ReturnType<Steps[K]>>>;
}

const missing = existsSync(CHROMIUM) ? "" : ` (skipped: no Chromium at ${CHROMIUM})`;

test.skipIf(missing !== "")(
  `a tab is a node: over WebSocket, then WebRTC, until it is closed${missing}`,
  async () => {
    const { first, second, address } = await nodes();
    const { page } = await open(address);

    const { id, transport } = await step(page, "connect", address);
    expect(transport).toBe("ws");
    expect(first.peers().map((peer) => peer.id)).toContain(id);
    expect(await step(page, "local")).toEqual({ doubled: [2, 4, 6], total: 12 });

    // From the tab to a node here and back, then from here to an actor in the tab.
    const elements = 2 ** 18;
    const input = Tensor.f32(
      [elements],
      Float32Array.from({ length: elements }, (_, i) => i),
    );
    const doubled = Tensor.f32(
      [elements],
      input.f32().map((x) => 2 * x),
    );
    const expected = {
      ...{ here: sha256(input), there: sha256(input), back: sha256(doubled) },
      ...{ last: 2 * (elements - 1), noted: 4 * elements },
    };
    expect(await step(page, "work", first.id, elements)).toEqual(expected);
    const inTab = await first.spawnOn<Doubler>(id, "Doubler", []);
    expect(await inTab.ask.hash(input)).toBe(sha256(input));
    expect(sha256((await inTab.ask.twice(input)) as Tensor)).toBe(sha256(doubled));

    // The second node is reached through the first, and then directly.
    expect(await step(page, "webrtc", second.id)).toEqual({ transport: "webrtc", route: "direct" });
    expect(await step(page, "work", second.id, elements)).toEqual(expected);
    const direct = await second.spawnOn<Doubler>(id, "Doubler", []);
    expect(sha256((await direct.ask.twice(input)) as Tensor)).toBe(sha256(doubled));

    const downs = [
      { node: first, ref: inTab },
      { node: second, ref: direct },
    ].map(({ node, ref }) => new Promise<Down>((resolve) => void node.monitor(ref, resolve)));
    await page.close();
    for (const down of downs) expect((await down).reason).toMatchObject({ code: "nodelost", node: id });
    expect(first.peers().map((peer) => peer.id)).toEqual([second.id]);
  },
);
