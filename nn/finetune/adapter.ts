/**
 * An adapter as PEFT keeps it (adapter_config.json and adapter_model.safetensors), which its `PeftModel.from_pretrained`
 * puts on the model it was trained beside. Source: PEFT's "Checkpoint format" and the fields of its LoraConfig.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import type { ExportedFile } from "../hf/export.ts";
import { GraphError } from "../onnx/graph.ts";
import { encodeSafetensors } from "../weights/safetensors.ts";
import type { LoraModel } from "./lora.ts";
import { moduleOf } from "./names.ts";

/** PEFT wraps the model as `base_model`, and what was given to it is `model` in there. */
const PREFIX = "base_model.model.";

/**
 * The two files of an adapter.
 * @param values the trained A and B, by name.
 * @param baseModel where the base is found: the name or path of its folder.
 * @throws GraphError when one of them is missing.
 */
export function exportAdapter(
  model: LoraModel,
  values: ReadonlyMap<string, Tensor>,
  baseModel: string,
): ExportedFile[] {
  const { rank, alpha, dropout = 0 } = model.options;
  const tensors = new Map<string, Tensor>();
  for (const name of model.parameters) {
    const value = values.get(name);
    if (!value) throw new GraphError(`the adapter's value ${name} is missing`);
    tensors.set(PREFIX + name, value);
  }
  const config = {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    base_model_name_or_path: baseModel,
    inference_mode: true,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: dropout,
    bias: "none",
    // GPT-2's matrices are [in, out]; PEFT finds out for each module and warns where this does not fit it.
    fan_in_fan_out: model.adapters.every(({ transposed }) => !transposed),
    target_modules: targetModules(model),
    modules_to_save: null,
    init_lora_weights: true,
  };
  const text = new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`);
  return [
    { name: "adapter_config.json", chunks: [text] },
    { name: "adapter_model.safetensors", chunks: encodeSafetensors(tensors, { format: "pt" }) },
  ];
}

/** The ends of the modules' names where they tell them from all others, as people write them; else whole names. */
function targetModules({ adapters, base }: LoraModel): string[] {
  const modules = adapters.map(({ weight }) => moduleOf(weight));
  const ends = new Set(modules.map((module) => module.slice(module.lastIndexOf(".") + 1)));
  const adapted = new Set(modules);
  const others = base.graph.inputs.map(({ name }) => moduleOf(name)).filter((module) => !adapted.has(module));
  const ambiguous = others.some((module) => ends.has(module.slice(module.lastIndexOf(".") + 1)));
  return ambiguous ? modules : [...ends].sort();
}
