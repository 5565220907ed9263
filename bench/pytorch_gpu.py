"""Times whole training steps of PyTorch on a GPU, in turns (bench/serve.ts), as bench/gpu_step.ts times llmts:

    python3 bench/pytorch_gpu.py MODEL B T PRECISION [--compile] [--device cpu]

PyTorch at its fastest: flash attention and no other, bf16 by autocast, TF32 allowed, fused AdamW, gradients freed and not
zeroed, a vocabulary padded to a multiple of 128. --compile has torch.compile make one program of model and loss.
--device cpu tries this program where there is no GPU.
"""

import argparse
import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.append(str(Path(__file__).parent.parent / "dev" / "reference"))
from model import GPT2, PRESETS, Config, adamw, preset  # noqa: E402

SMALL = Config(maxT=64, V=512, L=2, NH=4, C=64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["small", *PRESETS], metavar="MODEL", help=", ".join(["small", *PRESETS]))
    parser.add_argument("B", type=int)
    parser.add_argument("T", type=int)
    parser.add_argument("precision", choices=["fp32", "bf16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    args = parser.parse_args()

    torch.set_float32_matmul_precision("high")
    config = SMALL if args.model == "small" else preset(args.model)
    config = replace(config, V=config.Vp)
    model = GPT2(config, fused=True).initialize(42).to(args.device)
    optimizer = adamw(model, 1e-4, 0.1, "matrices")
    run = torch.compile(model) if args.compile else model
    x, y = torch.randint(config.V, (2, args.B, args.T), device=args.device).unbind()
    bf16 = args.precision == "bf16"
    # The flash kernels of PyTorch are for 16 bits.
    backends = [SDPBackend.FLASH_ATTENTION] if bf16 else [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(args.device, torch.bfloat16, enabled=bf16):
            loss = run(x, y)[1]
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item(), norm.item()  # both are shown in training; this waits for the GPU

    with sdpa_kernel(backends):
        for line in sys.stdin:
            turn = json.loads(line)
            total = []
            for index in range(turn["warmup"] + turn["counted"]):
                start = perf_counter()
                step()
                if index >= turn["warmup"]:
                    total.append(1000 * (perf_counter() - start))
            peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(json.dumps({"times": {"total": total}, "peakBytes": peak}), flush=True)


if __name__ == "__main__":
    main()
