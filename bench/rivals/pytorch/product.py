"""How fast PyTorch multiplies matrices, in turns with others: for each line of JSON on standard input, such as
{"m": 512, "k": 256, "n": 1024, "transA": false, "repeats": 10}, the milliseconds of each of so many products
[m, k] x [k, n] into memory that is there already. A transposed A is kept as [k, m]."""

import argparse
import json
import sys
import time

import torch


def product(shape):
    m, k, n = shape["m"], shape["k"], shape["n"]
    a = torch.randn(k, m).T if shape["transA"] else torch.randn(m, k)
    b = torch.randn(k, n)
    out = torch.empty(m, n)
    times = []
    for _ in range(shape["repeats"] + 1):
        begin = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append((time.perf_counter() - begin) * 1e3)
    # The first one warms up.
    return times[1:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(product(json.loads(line))), flush=True)
