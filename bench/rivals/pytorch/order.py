"""How far PyTorch's own weights part when only the order changes in which gradients of micro-batches are added up.

    python order.py

What data parallelism does to one device's sum, without any parallelism: the ResNet-18 of `bench strategies` (width 16,
8 micro-batches of 8 pictures, AdamW with its rates), once with the gradients of micro-batches added one after the other,
once as two members add them, even and odd ones first. Says after each step how far the weights are apart, by the norm of
the tensor that is furthest.
"""

import torch
import torch.nn.functional as F

from nets import ResNet18

STEPS, MICRO_BATCHES, ROWS = 4, 8, 8
RATE, WARMUP = 4e-3, 20


def pictures():
    """Of classes that differ in their channels' brightness and in one row, as those of `bench strategies`, with noise."""
    classes = torch.randint(0, 10, (ROWS,))
    channel = torch.arange(3).view(1, 3, 1, 1)
    row = torch.arange(32).view(1, 1, 32, 1)
    label = classes.view(-1, 1, 1, 1)
    mean = 64 + 12 * ((label * (channel + 3)) % 10) + 32 * (row % 10 == label)
    return (mean + 48 * torch.rand(ROWS, 3, 32, 32)) / 255, classes


def gradients(net, data, step, groups):
    """Of a step: sums within each group of micro-batches, and then over groups."""
    sums = None
    for group in groups:
        own = None
        for m in group:
            net.zero_grad()
            inputs, classes = data[step * MICRO_BATCHES + m]
            (F.cross_entropy(net(inputs), classes) / MICRO_BATCHES).backward()
            found = [p.grad.clone() for p in net.parameters()]
            own = found if own is None else [a + b for a, b in zip(own, found)]
        sums = own if sums is None else [a + b for a, b in zip(sums, own)]
    return sums


def train(groups, data):
    torch.manual_seed(1)
    net = ResNet18(16, 10)
    matrices = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=RATE,
        betas=(0.9, 0.95),
    )
    for step in range(STEPS):
        for parameter, gradient in zip(net.parameters(), gradients(net, data, step, groups)):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP)
        optimizer.step()
        yield [p.detach().clone() for p in net.parameters()]


def main():
    torch.set_num_threads(1)
    torch.manual_seed(2)
    data = [pictures() for _ in range(STEPS * MICRO_BATCHES)]
    one = [list(range(MICRO_BATCHES))]
    two = [list(range(0, MICRO_BATCHES, 2)), list(range(1, MICRO_BATCHES, 2))]
    for step, (a, b) in enumerate(zip(train(one, data), train(two, data))):
        apart = max(((x - y).norm() / x.norm()).item() for x, y in zip(a, b) if x.norm() > 0)
        print(f"step {step + 1}: {apart:.1e}")


if __name__ == "__main__":
    main()
