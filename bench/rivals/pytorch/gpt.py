"""The GPT that Troupe trains, in PyTorch: the rival in the benchmark and the reference of the tests.

From the same text and the same numbers it forms the same initial weights and the same batches, bit for bit, so
that losses can be compared step by step. What has to agree, and with which file:

- the random generator and the initial weights: nn/models/threefry.ts, nn/models/init.ts
- the split of the text, the order of the windows: actors/data/corpus.ts, actors/data/order.ts
- the architecture: pre-LayerNorm, learned positions, biases in the linear layers, exact GELU, attention scaled by
  1/sqrt(head width), a head of its own without bias
- the optimiser: AdamW, weight decay on tensors with two or more dimensions (embeddings included), the gradient's
  global norm clipped, linear warm-up, cosine decay to a tenth of the peak at the last step

Parameters are kept as x W + b, [in, out], under Troupe's names; PyTorch's Linear holds the transpose. Query, key
and value are one product here, which is PyTorch's faster way; their weights are Troupe's three side by side.

    python gpt.py --data text.txt --losses           the loss and the gradient norm of each step
    python gpt.py --data text.txt --val              the validation loss after training
    python gpt.py --data text.txt --bench            the speed of a step
    python gpt.py --data text.txt --rounds           the same in turns with others, as bench/main.ts asks for it
"""

import argparse
import hashlib
import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

VOCABULARY = 256

# ---------------------------------------------------------------- random numbers


def threefry2x32(k0, k1, c0, c1):
    """Threefry-2x32-20 of arrays (or numbers) of counters; returns two uint32 arrays."""
    k0, k1 = np.uint32(k0), np.uint32(k1)
    keys = [k0, k1, k0 ^ k1 ^ np.uint32(0x1BD11BDA)]
    rotations = [13, 15, 26, 6, 17, 29, 16, 24]
    with np.errstate(over="ignore"):
        x0 = np.atleast_1d(np.asarray(c0, np.uint32)) + keys[0]
        x1 = np.atleast_1d(np.asarray(c1, np.uint32)) + keys[1]
        for group in range(1, 6):
            for distance in rotations[:4] if group % 2 == 1 else rotations[4:]:
                x0 = x0 + x1
                x1 = ((x1 << np.uint32(distance)) | (x1 >> np.uint32(32 - distance))) ^ x0
            x0 = x0 + keys[group % 3]
            x1 = x1 + keys[(group + 1) % 3] + np.uint32(group)
    return x0, x1


def stream_of(name):
    """FNV-1a, 32 bits."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def uniform(seed, stream, count, low, high):
    words = np.stack(threefry2x32(seed, stream, np.arange((count + 1) // 2, dtype=np.uint32), 0), 1)
    unit = (words.reshape(-1)[:count] >> np.uint32(8)).astype(np.float64) * 2.0**-24
    return (low + unit * (high - low)).astype(np.float32)


# ---------------------------------------------------------------- initial weights


def parameter_shapes(config):
    d, t = config.width, config.context
    shapes = {"tok_emb": [VOCABULARY, d], "pos_emb": [t, d]}
    for layer in range(config.layers):
        h = f"h{layer}."
        shapes |= {h + "ln1.weight": [d], h + "ln1.bias": [d]}
        for part in ("q", "k", "v", "proj"):
            shapes |= {f"{h}attn.{part}.weight": [d, d], f"{h}attn.{part}.bias": [d]}
        shapes |= {h + "ln2.weight": [d], h + "ln2.bias": [d]}
        shapes |= {h + "mlp.fc.weight": [d, 4 * d], h + "mlp.fc.bias": [4 * d]}
        shapes |= {h + "mlp.proj.weight": [4 * d, d], h + "mlp.proj.bias": [d]}
    return shapes | {"ln_f.weight": [d], "ln_f.bias": [d], "head.weight": [d, VOCABULARY]}


def initial(config, name, shape):
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if name.endswith(("ln1.weight", "ln2.weight", "ln_f.weight")):
        return np.ones(shape, np.float32)
    std = 0.2 if name.endswith("_emb") else 1 / math.sqrt(shape[0])
    if name.endswith(".proj.weight"):
        std /= math.sqrt(2 * config.layers)
    high = float(np.float32(math.sqrt(3) * std))
    return uniform(config.seed, stream_of(name), math.prod(shape), -high, high).reshape(shape)


def initial_weights(config):
    return {name: initial(config, name, shape) for name, shape in parameter_shapes(config).items()}


def weights_sha256(weights):
    """As actors/checkpoint.ts: per parameter in sorted order a line of JSON, then the bytes."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = weights[name]
        line = json.dumps([name, "f32", list(array.shape)], separators=(",", ":"))
        digest.update(line.encode() + b"\n" + array.astype("<f4").tobytes())
    return digest.hexdigest()


# ---------------------------------------------------------------- data


class Data:
    """The text, split, and the windows of each step."""

    def __init__(self, config):
        text = np.fromfile(config.data, np.uint8)
        total, window = len(text), config.context + 1
        wanted = math.floor(total * 0.05)
        parts = max(1, min(16, wanted // window))
        self.block = max(window, wanted // parts)
        ends = [(part + 1) * total // parts for part in range(parts)]
        starts = [0] + ends[:-1]
        self.train = np.concatenate([text[s : e - self.block] for s, e in zip(starts, ends)])
        self.validation = np.concatenate([text[e - self.block : e] for e in ends])
        self.config = config

    def training_starts(self, step):
        samples = np.arange(self.config.batch, dtype=np.uint32)
        words, _ = threefry2x32(self.config.seed, stream_of("data order"), np.uint32(step), samples)
        places = len(self.train) - self.config.context
        return np.floor(words.astype(np.float64) * places / 2.0**32).astype(np.int64)

    def validation_starts(self, count):
        context = self.config.context
        per_block = (self.block - 1) // context
        every = per_block * (len(self.validation) // self.block)
        taken = min(count, every)
        windows = np.arange(taken, dtype=np.int64) * every // taken
        return windows // per_block * self.block + windows % per_block * context

    def micro_batches(self, step):
        """Pairs of inputs and targets, int64 [rows, context] each."""
        starts = self.training_starts(step).reshape(self.config.micro_batches, -1)
        return [self.windows(self.train, row) for row in starts]

    def windows(self, text, starts):
        rows = text[starts[:, None] + np.arange(self.config.context + 1)].astype(np.int64)
        return torch.from_numpy(rows[:, :-1].copy()), torch.from_numpy(rows[:, 1:].copy())


# ---------------------------------------------------------------- model


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln1 = nn.LayerNorm(width, eps=1e-5)
        self.qkv = nn.Linear(width, 3 * width)
        self.attn_proj = nn.Linear(width, width)
        self.ln2 = nn.LayerNorm(width, eps=1e-5)
        self.fc = nn.Linear(width, 4 * width)
        self.mlp_proj = nn.Linear(4 * width, width)

    def forward(self, x):
        rows, time_, width = x.shape
        q, k, v = (
            part.view(rows, time_, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.ln1(x)).split(width, 2)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_proj(mixed.transpose(1, 2).reshape(rows, time_, width))
        return x + self.mlp_proj(F.gelu(self.fc(self.ln2(x))))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.tok_emb = nn.Embedding(VOCABULARY, config.width)
        self.pos_emb = nn.Embedding(config.context, config.width)
        self.layers = nn.ModuleList(Layer(config.width, config.heads) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width, eps=1e-5)
        self.head = nn.Linear(config.width, VOCABULARY, bias=False)

    def forward(self, ids):
        x = self.tok_emb(ids) + self.pos_emb.weight[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.ln_f(x))

    @torch.no_grad()
    def load(self, weights):
        def put(parameter, *names):
            arrays = [torch.from_numpy(weights[name]) for name in names]
            value = torch.cat(arrays, -1)
            linear = len(arrays[0].shape) == 2 and not names[0].endswith("_emb")
            parameter.copy_(value.T if linear else value)

        put(self.tok_emb.weight, "tok_emb")
        put(self.pos_emb.weight, "pos_emb")
        for index, layer in enumerate(self.layers):
            h = f"h{index}."
            for kind in ("weight", "bias"):
                put(getattr(layer.ln1, kind), f"{h}ln1.{kind}")
                put(getattr(layer.qkv, kind), *(f"{h}attn.{part}.{kind}" for part in "qkv"))
                put(getattr(layer.attn_proj, kind), f"{h}attn.proj.{kind}")
                put(getattr(layer.ln2, kind), f"{h}ln2.{kind}")
                put(getattr(layer.fc, kind), f"{h}mlp.fc.{kind}")
                put(getattr(layer.mlp_proj, kind), f"{h}mlp.proj.{kind}")
        put(self.ln_f.weight, "ln_f.weight")
        put(self.ln_f.bias, "ln_f.bias")
        put(self.head.weight, "head.weight")


def loss_of(model, ids, targets):
    return F.cross_entropy(model(ids).view(-1, VOCABULARY), targets.reshape(-1))


# ---------------------------------------------------------------- training


def learning_rate(config, step):
    peak, low = config.lr, config.lr * config.min_lr
    if step < config.warmup:
        return peak * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return low + 0.5 * (peak - low) * (1 + math.cos(math.pi * done))


class Training:
    def __init__(self, config):
        self.config = config
        self.data = Data(config)
        self.model = GPT(config)
        self.model.load(initial_weights(config))
        parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
                {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
            ],
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            fused=True,
        )
        self.forward = torch.compile(self.model) if config.compile else self.model

    def step(self, step):
        """Trains one step; returns its loss (the mean over micro-batches) and the norm before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step)
        self.optimizer.zero_grad()
        losses = []
        for ids, targets in self.data.micro_batches(step):
            loss = loss_of(self.forward, ids, targets)
            (loss / self.config.micro_batches).backward()
            losses.append(loss.item())
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        return sum(losses) / len(losses), norm.item()

    @torch.no_grad()
    def validation_loss(self):
        """Nats per byte, the mean over the held-out windows."""
        starts = self.data.validation_starts(self.config.val_windows)
        total = 0.0
        for at in range(0, len(starts), 16):
            piece = starts[at : at + 16]
            total += loss_of(self.model, *self.data.windows(self.data.validation, piece)).item() * len(piece)
        return total / len(starts)


# ---------------------------------------------------------------- modes


def losses(config):
    training = Training(config)
    pairs = [training.step(step) for step in range(config.steps)]
    return {"losses": [loss for loss, _ in pairs], "gradNorms": [norm for _, norm in pairs]}


def val(config):
    training = Training(config)
    last = [training.step(step)[0] for step in range(config.steps)][-1]
    return {"steps": config.steps, "loss": last, "validationLoss": training.validation_loss()}


WARM_UP = 3


def timed(training, steps):
    """Seconds of each of these steps."""
    times = []
    for step in steps:
        begin = time.perf_counter()
        training.step(step)
        times.append(time.perf_counter() - begin)
    return times


def bench(config):
    training = Training(config)
    times = timed(training, range(WARM_UP + config.steps))
    seconds = float(np.median(times[WARM_UP:]))
    tokens = config.batch * config.context
    parameters = sum(p.numel() for p in training.model.parameters())
    return {
        "stepMs": seconds * 1e3,
        "tokensPerSecond": tokens / seconds,
        "gflops": 6 * parameters * tokens / seconds / 1e9,
        "parameters": parameters,
        "steps": config.steps,
        "threads": config.threads,
        "torch": torch.__version__,
    }


def rounds(config):
    """Answers each number of steps on standard input with their milliseconds, and ends when the input does."""
    training = Training(config)
    timed(training, range(WARM_UP))
    done = WARM_UP
    parameters = sum(p.numel() for p in training.model.parameters())
    print(json.dumps({"parameters": parameters, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        times = timed(training, range(done, done + int(line)))
        done += len(times)
        print(json.dumps([seconds * 1e3 for seconds in times]), flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a UTF-8 text file")
    for name, default in [("layers", 4), ("width", 256), ("heads", 4), ("context", 128), ("batch", 16)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--micro-batches", type=int, default=4)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lr", type=float, default=4e-3, help="peak learning rate")
    parser.add_argument("--min-lr", type=float, default=0.1, help="last learning rate, as a share of the peak")
    parser.add_argument("--warmup", type=int, default=20, help="steps")
    parser.add_argument("--beta1", type=float, default=0.9)
    parser.add_argument("--beta2", type=float, default=0.95)
    parser.add_argument("--eps", type=float, default=1e-8)
    parser.add_argument("--weight-decay", type=float, default=0.1, help="of tensors with two or more dimensions")
    parser.add_argument("--clip", type=float, default=1.0, help="largest global norm of the gradient")
    parser.add_argument("--val-windows", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="run the model through torch.compile")
    mode = parser.add_mutually_exclusive_group(required=True)
    for work in (losses, val, bench, rounds):
        mode.add_argument(f"--{work.__name__}", dest="work", action="store_const", const=work)
    return parser


if __name__ == "__main__":
    chosen = arguments().parse_args()
    torch.set_num_threads(chosen.threads)
    result = chosen.work(chosen)
    if result is not None:
        print(json.dumps(result))
