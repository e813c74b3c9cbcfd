import { createEngine, probeEngines } from "../../nn/engine/create.ts";
import type { Engine } from "../../nn/engine/engine.ts";
import { engineContract } from "./engine.contract.ts";

/** onnxruntime-web writes its profile to the console only. */
const PROFILES: ReadonlySet<Engine["name"]> = new Set(["native", "node-binding", "reference"]);

for (const engine of await probeEngines()) {
  const { name } = engine;
  if ("missing" in engine) console.warn(`engine: ${name}: skipped, ${engine.missing}`);
  else {
    const traits = { profiles: PROFILES.has(name), dtypes: engine.dtypes };
    engineContract(name, () => createEngine({ engine: name }), traits);
  }
}
