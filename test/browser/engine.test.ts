/** The engines in headless Chromium: WebAssembly and, on the software adapter, WebGPU; beside native here. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { availableEngines, createEngine } from "../../nn/engine/create.ts";
import { WEB_ASSETS } from "../../nn/engine/web/assets.ts";
import { WEBGPU_ASSETS } from "../../nn/engine/webgpu/webgpu.ts";
import { trainTiny } from "../nn/engine/tiny.ts";
import type { Steps } from "./engine-tab.ts";

const CHROMIUM = "/usr/bin/chromium";
const ARGUMENTS = [
  ...["--no-sandbox", "--disable-dev-shm-usage", "--disable-extensions", "--no-first-run"],
  ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
  // Shaders take the software adapter long to compile; without these checks, less long.
  "--enable-dawn-features=disable_robustness,disable_workgroup_init",
  ...["--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-webgpu-adapter=swiftshader"],
];
const ROOT = join(import.meta.dir, "../..");
const STEPS = 20;
const TOLERANCE = 1e-3;

/** Bundles of ours, under the names that the engines expect. */
const SCRIPTS: Readonly<Record<string, string>> = {
  "/tab.js": "test/browser/engine-tab.ts",
  "/engine-web.js": "nn/engine/web/worker.ts",
  "/engine-webgpu.js": "nn/engine/webgpu/worker.ts",
};

/** What the page is served: bundles of ours under the names the engines expect, and onnxruntime-web's files. */
async function pages(): Promise<Map<string, Response>> {
  // In pieces, so that what only other platforms load stays out of the way.
  const built = await Bun.build({
    entrypoints: Object.values(SCRIPTS).map((path) => join(ROOT, path)),
    ...{ target: "browser", minify: true, splitting: true, root: ROOT },
    naming: { entry: "[dir]/[name].js", chunk: "[name]-[hash].js" },
    external: ["node:*", "bun:*", "onnxruntime-node"],
  });
  const scripts = await Promise.all(
    built.outputs.map(async (output) => {
      const path = output.path.replace(/^\.?\/?/, "").replace(/\.js$/, ".ts");
      const name = Object.keys(SCRIPTS).find((name) => SCRIPTS[name] === path);
      return [name ?? `/${output.path.replace(/^\.?\/?/, "")}`, await output.text()] as const;
    }),
  );
  const isolated = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
  };
  const answer = (body: string | Blob, type: string) =>
    new Response(body, { headers: { ...isolated, "content-type": type } });
  const found = new Map([
    ["/", answer('<!doctype html><script type="module" src="/tab.js"></script>', "text/html")],
    ...scripts.map(([path, text]) => [path, answer(text, "text/javascript")] as const),
  ]);
  for (const name of [...WEB_ASSETS, ...WEBGPU_ASSETS]) {
    const type = name.endsWith(".wasm") ? "application/wasm" : "text/javascript";
    const dist = join(ROOT, "node_modules/onnxruntime-web/dist", name);
    found.set(`/${name}`, answer(Bun.file(dist), type));
  }
  return found;
}

const missing = existsSync(CHROMIUM) ? "" : ` (skipped: no Chromium at ${CHROMIUM})`;

describe.skipIf(missing !== "")(`engines in a browser${missing}`, () => {
  let server: ReturnType<typeof Bun.serve>;
  let browser: Browser;
  let page: Page;
  let available: Awaited<ReturnType<Steps["available"]>>;
  /** The losses of native, or of WebAssembly here where there is no native. */
  let expected: readonly number[];

  beforeAll(async () => {
    const served = await pages();
    server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: ({ url }) => served.get(new URL(url).pathname)?.clone() ?? new Response(null, { status: 404 }),
    });
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
    page = await browser.newPage();
    page.on("pageerror", (error) => console.error("in the tab:", error));
    await page.goto(`http://127.0.0.1:${server.port}/`);
    await page.waitForFunction(() => "steps" in globalThis);
    available = await step("available");
    const engine = await createEngine();
    expected = await trainTiny(engine, STEPS);
    await engine.close();
  }, 180_000);
  afterAll(async () => {
    await browser?.close();
    await server?.stop(true);
  });

  /** Runs one of the tab's steps. */
  function step<K extends keyof Steps>(
    name: K,
    ...args: Parameters<Steps[K]>
  ): Promise<Awaited<ReturnType<Steps[K]>>> {
    const run = ([name, args]: readonly [string, readonly unknown[]]) =>
      (globalThis as unknown as { steps: Record<string, (...args: unknown[]) => unknown> }).steps[name]!(
        ...args,
      );
    return page.evaluate(run, [name, args] as const) as Promise<Awaited<ReturnType<Steps[K]>>>;
  }

  test("the page is isolated, and says which engines it has", async () => {
    expect(await step("isolated")).toBe(true);
    expect(available.map(({ name }) => name)).toContain("web");
    expect((await availableEngines()).map(({ name }) => name)).not.toContain("webgpu");
  });

  for (const name of ["web", "webgpu"] as const) {
    test(`${name}: tensors of either place, updates in place, and the native engine's losses within ${TOLERANCE}`, async () => {
      if (!available.some((engine) => engine.name === name))
        return console.warn(`${name}: skipped, this browser does not have it`);
      const { host, device, wrong, losses, usage } = await step("try", name, 1, STEPS);
      for (const results of [host, device]) {
        expect(results).toEqual([
          [11, 22, 33, 44],
          [-9, -18],
        ]);
      }
      expect(wrong).toMatch(/^EngineError: .*Bogus/s);
      expect(Object.values(usage)).toEqual([0, 0, 0, 0]);
      expect(losses).toHaveLength(STEPS);
      for (const [i, loss] of losses.entries()) {
        expect(Math.abs(loss - expected[i]!)).toBeLessThan(TOLERANCE);
      }
      expect(losses.at(-1)).toBeLessThan(losses[0]! - 0.1);
    }, 120_000);
  }

  test("web: two threads give the losses of one, to the bit", async () => {
    const [one, two] = [await step("try", "web", 1, 2), await step("try", "web", 2, 2)];
    expect(two.losses).toEqual(one.losses);
  }, 120_000);
});
