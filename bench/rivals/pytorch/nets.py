"""An MLP and a ResNet-18 in PyTorch, trained on made-up samples: the rivals of `bench nn` beside the GPT of gpt.py.

The same sizes, the same optimiser (AdamW, weight decay on tensors with two or more dimensions, the gradient's global
norm clipped to 1) and the same number of samples in a step; values are random, for time does not depend on them.

    python nets.py mlp --batch 512 --sizes 784,1024,1024,10
    python nets.py resnet18 --batch 16 --side 32 --width 64 --classes 10

Says how many parameters it has, then answers each number of steps on standard input with their milliseconds.
"""

import argparse
import json
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., 2015)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet18(nn.Module):
    """With the 3x3 stem for small images."""

    def __init__(self, width, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        widths = [width, 2 * width, 4 * width, 8 * width]
        inputs = width
        self.layers = nn.Sequential()
        for i, outputs in enumerate(widths):
            self.layers.append(Block(inputs, outputs, 1 if i == 0 else 2))
            self.layers.append(Block(outputs, outputs, 1))
            inputs = outputs
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


def mlp(sizes):
    layers = nn.Sequential()
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        layers.append(nn.Linear(inputs, outputs))
        if i < len(sizes) - 2:
            layers.append(nn.ReLU())
    return layers


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net", choices=["mlp", "resnet18"])
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--sizes", default="784,1024,1024,10", help="of the MLP's layers, inputs first")
    for name, default in [("side", 32), ("width", 64), ("classes", 10), ("threads", 1)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser


WARM_UP = 2


def main(config):
    torch.manual_seed(1)
    torch.set_num_threads(config.threads)
    sizes = [int(size) for size in config.sizes.split(",")]
    if config.net == "mlp":
        net, x, classes = mlp(sizes), torch.randn(config.batch, sizes[0]), sizes[-1]
    else:
        net = ResNet18(config.width, config.classes)
        x, classes = torch.randn(config.batch, 3, config.side, config.side), config.classes
    targets = torch.randint(0, classes, (config.batch,))
    decayed = [p for p in net.parameters() if p.dim() >= 2]
    plain = [p for p in net.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95))

    def step():
        optimizer.zero_grad()
        F.cross_entropy(net(x), targets).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    def timed(count):
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            step()
            times.append((time.perf_counter() - begin) * 1e3)
        return times

    timed(WARM_UP)
    parameters = sum(p.numel() for p in net.parameters())
    print(json.dumps({"parameters": parameters, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(int(line))), flush=True)


if __name__ == "__main__":
    main(arguments().parse_args())
