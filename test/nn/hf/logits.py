"""Logits of Hugging Face folders in f32: one line of JSON, [rows * context * vocabulary], for each request.

    python logits.py < requests.json

Requests are a list of {"folder": path, "adapter": path of a LoRA adapter or null, "ids": [rows][context]}. Needs
bench/rivals/pytorch/requirements.txt. All requests go to one process, because importing transformers takes long.
An adapter is put on as peft does (its LoraLayer.get_delta_weight), without needing peft.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)


def adapt(model, folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    names = {key.rsplit(".", 2)[0] for key in tensors}
    assert config["peft_type"] == "LORA" and len(tensors) == 2 * len(names)
    for name in names:
        module = name.removeprefix("base_model.model.")
        wanted = config["target_modules"]
        assert module in wanted or any(module.endswith(f".{target}") for target in wanted)
        delta = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        delta = delta * (config["lora_alpha"] / config["r"])
        weight = model.get_submodule(module).weight
        weight.data = weight.data + (delta.T if config["fan_in_fan_out"] else delta)


for request in json.load(sys.stdin):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        request["folder"], dtype=torch.float32, attn_implementation="eager"
    )
    if request["adapter"]:
        adapt(model, Path(request["adapter"]))
    with torch.no_grad():
        logits = model.eval()(torch.tensor(request["ids"])).logits
    print(json.dumps(logits.flatten().tolist()))
