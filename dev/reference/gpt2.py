"""Writes what `llmts verify` compares with: a model, and what PyTorch makes of it.

    python3 dev/reference/gpt2.py --model gpt2 --random --out DIR

NAME.bin and NAME_bf16.bin (checkpoints), NAME_tokens.bin (B·T + 1 ids: one batch), NAME_debug_state.bin (that batch,
its logits, loss and gradients), NAME_debug_state.json (ten AdamW losses, and the state's sha256) and, where the model
comes with one, gpt2_tokenizer.bin. Then prints how close PyTorch's own bf16 autocast comes to its fp32: the measure for tolerances.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from formats import in_checkpoint_order, write_checkpoint, write_debug_state, write_tokenizer, write_tokens
from hugging_face import load_model, load_tokenizer
from losses import losses_record, ten_losses
from model import GPT2, PRESETS, preset

# llm.c's names of the released sizes.
STEMS = {"gpt2": "gpt2_124M", "gpt2-medium": "gpt2_355M", "gpt2-large": "gpt2_774M", "gpt2-xl": "gpt2_1558M"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gpt2", help=f"{', '.join(PRESETS)}, or a Hugging Face folder or name")
    parser.add_argument("--random", action="store_true", help="draw the preset's weights from --seed, load none")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--tokens", type=Path, help="token file the batch is read from; default: random ids")
    parser.add_argument("--batch-size", type=int, default=4, help="B (default 4)")
    parser.add_argument("--seq-len", type=int, default=64, help="T (default 64)")
    parser.add_argument("--seed", type=int, default=42, help="of weights and ids (default 42)")
    for flag, field in [("vocabulary", "V"), ("context", "maxT"), ("layers", "L"), ("heads", "NH"), ("channels", "C")]:
        parser.add_argument(f"--{flag}", type=int, dest=field, help=f"with --random: {field} in place of the preset's")
    args = parser.parse_args()
    args.changes = {f: getattr(args, f) for f in ("V", "maxT", "L", "NH", "C") if getattr(args, f) is not None}
    if args.random and args.model not in PRESETS:
        parser.error(f"--random needs a preset, not {args.model!r}")
    if not args.random and args.model.startswith("d") and args.model in PRESETS:
        parser.error(f"{args.model} has no weights to load: add --random")
    if args.changes and not args.random:
        parser.error("a loaded model has its own sizes: they can only be given with --random")
    return args


def read_tokens(path: Path, count: int) -> Tensor:
    header = np.fromfile(path, dtype="<i4", count=256)
    if header[:2].tolist() != [20240520, 1]:
        raise SystemExit(f"{path}: not a token file of magic 20240520, version 1")
    return torch.from_numpy(np.fromfile(path, dtype="<u2", count=count, offset=1024).astype(np.int64))


def relative(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()


def print_autocast(model: GPT2, x: Tensor, y: Tensor, logits: Tensor, losses: list[float]) -> None:
    """Compares with bf16 autocast. The model's gradients are those of fp32 and become those of bf16."""
    gradients = {name: gradient.clone() for name, gradient in in_checkpoint_order(model, lambda p: p.grad)}
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bf16_logits, loss = model(x, y)
    loss.backward()
    bf16_losses = ten_losses(model, x, y, "matrices", bf16=True)
    print("PyTorch's bf16 autocast against fp32")
    print(f"  logits    relative L2 {relative(bf16_logits.float(), logits):.2e}")
    for name, gradient in in_checkpoint_order(model, lambda p: p.grad):
        print(f"  d{name:8} relative L2 {relative(gradient, gradients[name]):.2e}")
    print(f"  losses    largest difference {max(abs(a - b) for a, b in zip(bf16_losses, losses)):.2e}")


def main() -> None:
    args = arguments()
    B, T = args.batch_size, args.seq_len
    if args.random:
        model = GPT2(preset(args.model, **args.changes)).initialize(args.seed)
    else:
        model = load_model(args.model)
    config = model.config
    if T > config.maxT:
        raise SystemExit(f"--seq-len {T} is above the model's context of {config.maxT}")
    if args.tokens:
        ids = read_tokens(args.tokens, B * T + 1)
        if len(ids) < B * T + 1 or ids.max() >= config.V:
            raise SystemExit(f"{args.tokens}: expected {B * T + 1} ids or more, below {config.V}")
    else:
        ids = torch.randint(config.V, (B * T + 1,), generator=torch.Generator().manual_seed(args.seed))
    x, y = ids[:-1].view(B, T), ids[1:].view(B, T)

    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / STEMS.get(args.model, Path(args.model).name)
    print(f"{config}, {sum(p.numel() for p in model.parameters()):,} parameters without padding")
    write_checkpoint(Path(f"{stem}.bin"), model)
    write_checkpoint(Path(f"{stem}_bf16.bin"), model, torch.bfloat16)
    write_tokens(Path(f"{stem}_tokens.bin"), ids)
    if not args.random:
        tokens, end_of_text = load_tokenizer(args.model)
        if len(tokens) == config.V:
            write_tokenizer(args.out / "gpt2_tokenizer.bin", tokens, end_of_text)
        else:  # transformers makes up an empty tokenizer for a folder without one
            print(f"no gpt2_tokenizer.bin: {args.model} has {len(tokens)} tokens for a vocabulary of {config.V}")

    logits, loss = model(x, y)
    loss.backward()
    state = Path(f"{stem}_debug_state.bin")
    write_debug_state(state, model, x, y, logits, loss)
    checksum = hashlib.sha256(np.memmap(state, mode="r")).hexdigest()
    record = losses_record(model, x, y) | {"stateSha256": checksum}
    Path(f"{stem}_debug_state.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"loss {loss.item():.6f}; ten losses", *(f"{loss:.6f}" for loss in record["losses"]["matrices"]))
    print(f"wrote {stem}*")
    print_autocast(model, x, y, logits.detach(), record["losses"]["matrices"])


if __name__ == "__main__":
    main()
