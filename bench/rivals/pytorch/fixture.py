"""Writes what the tests compare with: test/fixtures/gpt-pytorch.json.

    python bench/rivals/pytorch/fixture.py

Two runs of 50 steps over test/fixtures/text.txt, a small GPT and the 3.3-million-parameter one with the default
options: the loss and the gradient norm of every step, the validation loss after the last, and the digests of the
initial weights and of the first batches, by which a difference in the losses can be traced to its cause.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import torch

sys.dont_write_bytecode = True
import gpt

FIXTURES = Path(__file__).resolve().parents[3] / "test" / "fixtures"
TEXT = FIXTURES / "text.txt"

SMALL = "--layers 2 --width 64 --heads 2 --context 32 --batch 8 --val-windows 32 --lr 1e-3"
FULL = "--lr 1e-3"

OPTIONS = {
    "layers": "layers",
    "width": "width",
    "heads": "heads",
    "context": "context",
    "batch": "batch",
    "micro_batches": "microBatches",
    "steps": "steps",
    "seed": "seed",
    "lr": "lr",
    "min_lr": "minLr",
    "warmup": "warmup",
    "beta1": "beta1",
    "beta2": "beta2",
    "eps": "eps",
    "weight_decay": "weightDecay",
    "clip": "clip",
    "val_windows": "validationWindows",
}


def batch_sha256(data, step):
    """Of the inputs, then the targets, of each micro-batch in turn: i64, time-major, as Troupe lays them out."""
    digest = hashlib.sha256()
    for pair in data.micro_batches(step):
        for tensor in pair:
            digest.update(tensor.numpy().T.astype("<i8").tobytes())
    return digest.hexdigest()


def entry(line):
    config = gpt.arguments().parse_args(["--losses", "--data", str(TEXT), *line.split()])
    training = gpt.Training(config)
    pairs = [training.step(step) for step in range(config.steps)]
    return {
        "config": {"vocabulary": gpt.VOCABULARY}
        | {name: getattr(config, option) for option, name in OPTIONS.items()},
        "parameters": gpt.parameter_shapes(config),
        "initialSha256": gpt.weights_sha256(gpt.initial_weights(config)),
        "batchSha256": [batch_sha256(training.data, step) for step in range(3)],
        "losses": [loss for loss, _ in pairs],
        "gradNorms": [norm for _, norm in pairs],
        "validationStarts": training.data.validation_starts(config.val_windows).tolist(),
        "validationLoss": training.validation_loss(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    fixture = {
        "torch": torch.__version__,
        "text": TEXT.name,
        "textSha256": hashlib.sha256(TEXT.read_bytes()).hexdigest(),
        "small": entry(SMALL),
        "full": entry(FULL),
    }
    lines = re.sub(r"\[[^\[{]*?\]", lambda found: " ".join(found[0].split()), json.dumps(fixture, indent=1))
    (FIXTURES / "gpt-pytorch.json").write_text(lines + "\n")
