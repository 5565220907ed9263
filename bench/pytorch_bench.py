"""Times PyTorch, eager, at what llmts does: prints one JSON object of milliseconds.

    python3 bench/pytorch_bench.py d12 4 64 [THREADS [STEPS [WARMUP]]]      training steps, as bench/train_step.ts
    python3 bench/pytorch_bench.py --bf16 d12 4 64 ...                      the same by autocast to bf16
    python3 bench/pytorch_bench.py --matmul d12 4 64 ...                    the model's matrix products one by one

It is PyTorch at its fastest without a compiler: its own attention kernel, fused AdamW, gradients freed, not zeroed.
"""

import argparse
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

sys.path.append(str(Path(__file__).parent.parent / "dev" / "reference"))
from model import GPT2, PRESETS, Config, adamw, preset  # noqa: E402


def time_steps(config: Config, B: int, T: int, steps: int, warmup: int, bf16: bool) -> dict[str, list[float] | int]:
    """Milliseconds of each counted step's parts, and the peak of resident memory in bytes."""
    model = GPT2(config, fused=True).initialize(42)
    optimizer = adamw(model, 1e-4, 0.1, "matrices")
    x, y = torch.randint(config.V, (2, B, T)).unbind()
    times: dict[str, list[float]] = {"forward": [], "backward": [], "optimizer": [], "total": []}
    for step in range(warmup + steps):
        start = perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(x, y)[1]
        forwarded = perf_counter()
        loss.backward()
        backwarded = perf_counter()
        optimizer.step()
        end = perf_counter()
        if step >= warmup:
            parts = (forwarded - start, backwarded - forwarded, end - backwarded, end - start)
            for name, seconds in zip(times, parts):
                times[name].append(1000 * seconds)
    return times | {"peakBytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def milliseconds(run: Callable[[], object], steps: int, warmup: int) -> float:
    """The median."""
    times = []
    for _ in range(warmup + steps):
        start = perf_counter()
        run()
        times.append(1000 * (perf_counter() - start))
    return median(times[warmup:])


def time_matmuls(config: Config, B: int, T: int, steps: int, warmup: int) -> dict[str, list[dict[str, float]]]:
    """Median milliseconds of the three products of each linear layer: x (N,C), weight (OC,C), dout (N,OC)."""
    N, C = B * T, config.C
    rows = []
    for C_in, OC in [(C, 3 * C), (C, C), (C, 4 * C), (4 * C, C), (C, config.V)]:
        x, weight, dout = torch.randn(N, C_in), torch.randn(OC, C_in), torch.randn(N, OC)
        rows.append({
            "N": N, "C": C_in, "OC": OC,
            "forward": milliseconds(lambda: x @ weight.T, steps, warmup),
            "dinput": milliseconds(lambda: dout @ weight, steps, warmup),
            "dweight": milliseconds(lambda: dout.T @ x, steps, warmup),
        })  # fmt: skip
    return {"matmul": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matmul", action="store_true", help="time matrix products in place of training steps")
    parser.add_argument("--bf16", action="store_true", help="training steps by autocast to bf16")
    parser.add_argument("preset", choices=PRESETS, metavar="PRESET", help=", ".join(PRESETS))
    parser.add_argument("B", type=int, help="batch size")
    parser.add_argument("T", type=int, help="sequence length")
    parser.add_argument("threads", type=int, nargs="?", default=0, help="0: PyTorch's default")
    parser.add_argument("steps", type=int, nargs="?", default=5, help="counted (default 5)")
    parser.add_argument("warmup", type=int, nargs="?", default=2, help="not counted (default 2)")
    args = parser.parse_args()
    if args.threads > 0:
        torch.set_num_threads(args.threads)
    sizes = (preset(args.preset), args.B, args.T, args.steps, args.warmup)
    print(json.dumps(time_matmuls(*sizes) if args.matmul else time_steps(*sizes, args.bf16)))


if __name__ == "__main__":
    main()
