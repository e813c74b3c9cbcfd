"""Pipelines of torch.distributed.pipelining whose stages sleep: the rival of bench/pipeline.

    python pipeline.py '{"rank":0,"stages":2,"store":"/tmp/store","pipelines":[{"microBatches":8,"schedule":"1f1b",…}]}'

Needs bench/rivals/pytorch/requirements.txt. One process per rank, connected by gloo over loopback; all of them have to
be started. Each says the orders of its schedules' actions, where they tell, then takes lines with the number of a
pipeline and that of steps, and answers each with one line of JSON: beginning and end of every step in milliseconds of the
machine's monotonic clock, which all ranks share.

A chunk sleeps F in its forward pass, B for the gradient of its input and W for those of its parameter: outside of Python's
lock, as a kernel does, and awake for the last fifth of a millisecond, since a sleep ends late.
"""

import datetime
import json
import sys
import time

import torch
import torch.distributed as dist
from torch.distributed.pipelining import (
    PipelineStage,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
    ScheduleZBVZeroBubble,
)

# As in bench/pipeline/model.ts and sleep.ts.
ROWS, WIDTH = 8, 128
SLACK = 0.2e-3

SINGLE = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}
MULTI = {
    "interleaved": ScheduleInterleaved1F1B,
    "zero-bubble": ScheduleInterleavedZeroBubble,
    "zero-bubble-v": ScheduleZBVZeroBubble,
}


def kernel(milliseconds):
    end = time.perf_counter() + milliseconds / 1e3
    time.sleep(max(0.0, end - time.perf_counter() - SLACK))
    while time.perf_counter() < end:
        pass


class OnInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, forward, backward):
        ctx.backward_ms = backward
        kernel(forward)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        kernel(ctx.backward_ms)
        return gradient.clone(), None, None


class OnWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, backward):
        ctx.backward_ms = backward
        return weight.clone()

    @staticmethod
    def backward(ctx, gradient):
        kernel(ctx.backward_ms)
        return gradient.clone(), None


class Chunk(torch.nn.Module):
    def __init__(self, times, first):
        super().__init__()
        self.times = times
        self.first = first
        self.weight = torch.nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x):
        f, b, w = (self.times[name] for name in ("forwardMs", "backwardInputMs", "backwardWeightMs"))
        # Nobody asks for the gradient of the first chunk's input: what it would take is counted to its weight.
        y = OnInput.apply(x, f, 0 if self.first else b)
        return y + OnWeight.apply(self.weight, w + (b if self.first else 0))


def loss(output, target):
    return torch.nn.functional.mse_loss(output, target)


class Pipeline:
    """What one rank does of a pipeline."""

    def __init__(self, rank, ranks, options):
        micro_batches, self.name, chunks = options["microBatches"], options["schedule"], options["chunks"]
        total = ranks * chunks
        # A schedule in the shape of a V comes back to where it began.
        places = [rank, total - 1 - rank] if self.name == "zero-bubble-v" else range(rank, total, ranks)
        self.stages = [
            PipelineStage(Chunk(options["times"], place == 0), place, total, torch.device("cpu")) for place in places
        ]
        if self.name in SINGLE:
            self.schedule = SINGLE[self.name](self.stages[0], micro_batches, loss_fn=loss)
        else:
            self.schedule = MULTI[self.name](self.stages, micro_batches, loss_fn=loss)
        samples = torch.zeros(ROWS * micro_batches, WIDTH)
        has_last = any(stage.is_last for stage in self.stages)
        self.inputs = [samples] if any(stage.is_first for stage in self.stages) else []
        self.others = {"target": samples, "losses": []} if has_last else {"target": None}

    def order(self, ranks):
        # Of schedules with one chunk per rank the order is known: what they tell of it is for display, and not exact.
        if self.name not in MULTI:
            return None
        order = self.schedule.pipeline_order
        return [[str(action) for action in order[rank] if action is not None] for rank in range(ranks)]

    def step(self):
        for stage in self.stages:
            stage.submod.zero_grad()
        if "losses" in self.others:
            self.others["losses"] = []
        dist.barrier()
        begin = time.monotonic() * 1e3
        self.schedule.step(*self.inputs, **self.others)
        return [begin, time.monotonic() * 1e3]


def main(options):
    rank, ranks = options["rank"], options["stages"]
    store = dist.FileStore(options["store"], ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=datetime.timedelta(seconds=60))
    pipelines = [Pipeline(rank, ranks, given) for given in options["pipelines"]]
    print(json.dumps({"orders": [pipeline.order(ranks) for pipeline in pipelines]}), flush=True)
    for line in sys.stdin:
        which, count = map(int, line.split())
        print(json.dumps([pipelines[which].step() for _ in range(count)]), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(json.loads(sys.argv[1]))
