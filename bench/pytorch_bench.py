"""Times PyTorch at what llmts does, in turns: bench/serve.ts says how.

    python3 bench/pytorch_bench.py step MODEL B T THREADS PRECISION [--compile]    as bench/train_step.ts
    python3 bench/pytorch_bench.py decode MODEL PROMPT TOKENS THREADS PRECISION    as bench/decode.ts, by transformers

Training is PyTorch at its fastest: its own attention kernel, fused AdamW, gradients freed, not zeroed; bf16 is autocast,
in decoding bf16 weights. --compile has torch.compile make one program of model and loss.
"""

import argparse
import json
import resource
import sys
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from time import perf_counter

import torch

sys.path.append(str(Path(__file__).parent.parent / "dev" / "reference"))
from model import GPT2, PRESETS, Config, adamw, preset  # noqa: E402

SMALL = Config(maxT=64, V=512, L=2, NH=4, C=64)
Times = dict[str, list[float]]


def repetitions(warmup: int, counted: int, seconds: float = inf) -> Iterator[bool]:
    """The repetitions of a turn: whether each is counted. It ends early when the seconds have passed and one was."""
    end = perf_counter() + seconds
    for _ in range(warmup):
        if perf_counter() < end:
            yield False
    for n in range(counted):
        if n == 0 or perf_counter() < end:
            yield True


def add(times: Times, marks: list[float], parts: list[str]) -> None:
    """Milliseconds from each mark to the next."""
    for part, start, end in zip(parts, marks, marks[1:]):
        times.setdefault(part, []).append(1000 * (end - start))


def prepare_steps(config: Config, B: int, T: int, bf16: bool, compiled: bool) -> Callable[..., Times]:
    model = GPT2(config, fused=True).initialize(42)
    optimizer = adamw(model, 1e-4, 0.1, "matrices")
    x, y = torch.randint(config.V, (2, B, T)).unbind()
    run = torch.compile(model) if compiled else model

    def turn(**request: float) -> Times:
        times: Times = {}
        for counted in repetitions(**request):
            marks = [perf_counter()]
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = run(x, y)[1]
            marks.append(perf_counter())
            loss.backward()
            marks.append(perf_counter())
            optimizer.step()
            marks.append(perf_counter())
            if counted:
                add(times, marks, ["forward", "backward", "optimizer"])
                add(times, [marks[0], marks[-1]], ["total"])
        return times

    return turn


def prepare_decoding(config: Config, prompt: int, tokens: int, bf16: bool) -> Callable[..., Times]:
    """The loop of `generate(do_sample=False)` without what that does beside: PyTorch at its fastest here too."""
    from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

    sizes = {"n_layer": config.L, "n_head": config.NH, "n_embd": config.C}
    hf = GPT2LMHeadModel(GPT2Config(vocab_size=config.V, n_positions=config.maxT, **sizes)).eval()
    if bf16:
        hf = hf.to(torch.bfloat16)
    ids = torch.randint(config.V, (1, prompt))

    def append(ids: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        out = hf(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1].argmax(-1, keepdim=True)

    @torch.inference_mode()
    def turn(**request: float) -> Times:
        times: Times = {}
        for counted in repetitions(**request):
            cache = DynamicCache()
            marks = [perf_counter()]
            token = append(ids, cache)
            marks.append(perf_counter())
            for _ in range(tokens):
                token = append(token, cache)
            marks.append(perf_counter())
            if counted:
                add(times, marks[:2], ["prompt"])
                add(times, [0, (marks[2] - marks[1]) / tokens], ["total"])
        return times

    return turn


def serve(turn: Callable[..., Times]) -> None:
    """One turn for each line of standard input."""
    for line in sys.stdin:
        times = turn(**json.loads(line))
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"times": times, "peakBytes": peak}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["step", "decode"])
    parser.add_argument("model", choices=["small", *PRESETS], metavar="MODEL", help=", ".join(["small", *PRESETS]))
    parser.add_argument("first", type=int, metavar="B|PROMPT", help="batch size; tokens in the prompt")
    parser.add_argument("second", type=int, metavar="T|TOKENS", help="sequence length; tokens to generate")
    parser.add_argument("threads", type=int)
    parser.add_argument("precision", choices=["fp32", "bf16"])
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = SMALL if args.model == "small" else preset(args.model)
    bf16 = args.precision == "bf16"
    if args.what == "step":
        serve(prepare_steps(config, args.first, args.second, bf16, args.compile))
    else:
        serve(prepare_decoding(config, args.first, args.second, bf16))


if __name__ == "__main__":
    main()
