/** Chooses an engine: by name, or the fastest that works on this device. */

import { DTYPES } from "./dtypes.ts";
import { type Engine, EngineError } from "./engine.ts";
import type { Capabilities, Missing, Probe } from "./probe.ts";

export interface EngineOptions {
  readonly engine?: "auto" | Engine["name"];
  /**
   * Threads a run may use unless `compile` says otherwise; default 1. On WebAssembly they are the engine's for good,
   * whatever `compile` says; WebGPU and the reference engine have no use for them.
   */
  readonly threads?: number;
}

export interface AvailableEngine extends Capabilities {
  readonly name: Engine["name"];
}

export interface MissingEngine extends Missing {
  readonly name: Engine["name"];
}

interface Kind {
  /** Never throws. */
  probe(): Promise<Probe>;
  create(threads: number): Promise<Engine>;
}

const inBrowser = typeof process === "undefined";

/** Loaded on demand: a browser must not meet built-in modules. */
const KINDS: Readonly<Record<Engine["name"], Kind>> = {
  native: {
    probe: async () =>
      inBrowser
        ? { missing: "a browser calls no native libraries" }
        : (await import("./native/native.ts")).probeNative(),
    create: async (threads) => (await import("./native/native.ts")).createNativeEngine(threads),
  },
  "node-binding": {
    probe: async () =>
      inBrowser
        ? { missing: "a browser loads no native add-ons" }
        : (await import("./binding/binding.ts")).probeBinding(),
    create: async (threads) => (await import("./binding/binding.ts")).createBindingEngine(threads),
  },
  webgpu: {
    probe: async () =>
      inBrowser
        ? (await import("./webgpu/webgpu.ts")).probeWebGpu()
        : (await import("./native/vulkan.ts")).probeNativeWebGpu(),
    create: async () => (await import("./webgpu/webgpu.ts")).createWebGpuEngine(),
  },
  web: {
    probe: async () => (await import("./web/web.ts")).probeWeb(),
    create: async (threads) => (await import("./web/web.ts")).createWebEngine(threads),
  },
  reference: {
    probe: async () => ({
      ...{ version: "1", dtypes: DTYPES, threads: 1 },
      ...{ device: "this program's own thread", memory: "host" },
    }),
    create: async () => (await import("./reference/reference.ts")).createReferenceEngine(),
  },
};

/** What "auto" tries, in order. WebGPU has to be asked for: on small models it is slower than a processor. */
const AUTO: readonly Engine["name"][] = ["native", "node-binding", "web"];

/** All engines there are, with what they can do here or why they cannot; the fastest on a processor first. */
export async function probeEngines(): Promise<readonly (AvailableEngine | MissingEngine)[]> {
  const found: (AvailableEngine | MissingEngine)[] = [];
  for (const [name, kind] of Object.entries(KINDS)) {
    found.push({ name: name as Engine["name"], ...(await kind.probe()) });
  }
  return found;
}

/** The engines that work on this device, and what they can do; never throws. */
export async function availableEngines(): Promise<readonly AvailableEngine[]> {
  return (await probeEngines()).filter((probed): probed is AvailableEngine => !("missing" in probed));
}

/**
 * Creates an engine; the caller closes it. "auto" takes the first of native, node-binding and web that works; the
 * others have to be asked for.
 * @throws EngineError when the one asked for, or all of them, cannot work here, with the reason.
 */
export async function createEngine({ engine = "auto", threads = 1 }: EngineOptions = {}): Promise<Engine> {
  const reasons: string[] = [];
  for (const name of engine === "auto" ? AUTO : [engine]) {
    const kind = KINDS[name];
    if (!kind) {
      throw new EngineError(`no engine "${name}"; there are: auto, ${Object.keys(KINDS).join(", ")}`);
    }
    const probed = await kind.probe();
    if (!("missing" in probed)) return kind.create(threads);
    reasons.push(`${name}: ${probed.missing}`);
  }
  throw new EngineError(`engine ${engine} does not work on this device (${reasons.join("; ")})`);
}
