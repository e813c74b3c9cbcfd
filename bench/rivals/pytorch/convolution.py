"""How long PyTorch's convolutions take, in turns with others: for each line of JSON on standard input, such as
{"images": 16, "read": 64, "written": 64, "size": 32, "kernel": 3, "stride": 1, "what": "weights", "repeats": 3}, the
milliseconds of each of so many forward passes ("result") or gradients of the image or the weights. Margins are half
the kernel."""

import argparse
import json
import sys
import time

import torch


def convolution(line):
    kernel, stride = line["kernel"], line["stride"]
    margin = kernel // 2
    x = torch.randn(line["images"], line["read"], line["size"], line["size"])
    w = torch.randn(line["written"], line["read"], kernel, kernel)
    options = [[stride, stride], [margin, margin], [1, 1], False, [0, 0], 1]
    y = torch.convolution(x, w, None, *options)
    dy = torch.randn_like(y)
    backward = torch.ops.aten.convolution_backward
    work = {
        "result": lambda: torch.convolution(x, w, None, *options),
        "image": lambda: backward(dy, x, w, None, *options, [True, False, False]),
        "weights": lambda: backward(dy, x, w, None, *options, [False, True, False]),
    }[line["what"]]
    times = []
    for _ in range(line["repeats"] + 1):
        begin = time.perf_counter()
        work()
        times.append((time.perf_counter() - begin) * 1e3)
    # The first one warms up.
    return times[1:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(convolution(json.loads(line))), flush=True)
