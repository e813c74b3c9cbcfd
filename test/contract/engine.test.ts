import { availableEngines, createEngine } from "../../nn/engine/create.ts";
import type { Engine } from "../../nn/engine/engine.ts";
import { type EngineTraits, engineContract } from "./engine.contract.ts";

/** onnxruntime-web writes its profile to the console only. */
const TRAITS: Readonly<Record<Engine["name"], EngineTraits>> = {
  native: { profiles: true },
  "node-binding": { profiles: true },
  web: { profiles: false },
  webgpu: { profiles: false },
  reference: { profiles: true },
};

const available = new Set((await availableEngines()).map(({ name }) => name));

for (const [key, traits] of Object.entries(TRAITS)) {
  const name = key as Engine["name"];
  if (available.has(name)) engineContract(name, () => createEngine({ engine: name }), traits);
  else console.warn(`engine: ${name}: skipped, its runtime does not work on this machine`);
}
