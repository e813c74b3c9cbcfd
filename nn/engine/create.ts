/** Chooses an engine: by name, or the fastest that works on this device. */

import { type Engine, EngineError } from "./engine.ts";

export interface EngineOptions {
  readonly engine?: "auto" | Engine["name"];
  /** Threads a run may use unless `compile` says otherwise; default 1. WebAssembly and the reference use one. */
  readonly threads?: number;
}

export interface AvailableEngine {
  readonly name: Engine["name"];
  /** Version of the runtime underneath. */
  readonly version: string;
}

interface Kind {
  /** The runtime's version; null where the engine cannot work. */
  probe(): Promise<string | null>;
  create(threads: number): Promise<Engine>;
}

/** Fastest first. Loaded on demand: a browser must not meet built-in modules. */
const KINDS: Readonly<Record<Engine["name"], Kind>> = {
  native: {
    probe: async () => {
      if (typeof process === "undefined" || !(process.versions.bun || "Deno" in globalThis)) return null;
      return (await import("./native/native.ts")).probeNative();
    },
    create: async (threads) => (await import("./native/native.ts")).createNativeEngine(threads),
  },
  "node-binding": {
    probe: async () =>
      typeof process === "undefined" ? null : (await import("./binding/binding.ts")).probeBinding(),
    create: async (threads) => (await import("./binding/binding.ts")).createBindingEngine(threads),
  },
  webgpu: {
    probe: async () => (await import("./webgpu/webgpu.ts")).probeWebGpu(),
    create: async () => (await import("./webgpu/webgpu.ts")).createWebGpuEngine(),
  },
  web: {
    probe: async () => (await import("./web/web.ts")).probeWeb(),
    create: async (threads) => (await import("./web/web.ts")).createWebEngine(threads),
  },
  reference: {
    probe: async () => "1",
    create: async () => (await import("./reference/reference.ts")).createReferenceEngine(),
  },
};

/** The engines that work on this device, fastest first; never throws. */
export async function availableEngines(): Promise<readonly AvailableEngine[]> {
  const found: AvailableEngine[] = [];
  for (const [name, kind] of Object.entries(KINDS)) {
    const version = await kind.probe();
    if (version !== null) found.push({ name: name as Engine["name"], version });
  }
  return found;
}

/**
 * Creates an engine; the caller closes it. "auto" takes the first of native, node-binding and web that works; the
 * reference engine has to be asked for.
 * @throws EngineError when the one asked for, or all of them, cannot work here.
 */
export async function createEngine({ engine = "auto", threads = 1 }: EngineOptions = {}): Promise<Engine> {
  const names: readonly Engine["name"][] = engine === "auto" ? ["native", "node-binding", "web"] : [engine];
  for (const name of names) {
    const kind = KINDS[name];
    if (!kind)
      throw new EngineError(`no engine "${name}"; there are: auto, ${Object.keys(KINDS).join(", ")}`);
    if ((await kind.probe()) !== null) return kind.create(threads);
  }
  throw new EngineError(`engine ${engine} does not work on this device; tried ${names.join(", ")}`);
}
