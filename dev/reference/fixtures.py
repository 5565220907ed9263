"""Writes the fixtures that llmts' tests compare with: python3 dev/reference/fixtures.py --out tests/fixtures

One safetensors file per family. A tensor is called "case/tensor"; the metadata's "cases" is a JSON object
{case: {dimension: number}}. Floats are stored as F32, whole numbers as I32 (raw random numbers too: the same 32 bits).
models/: NAME.bin and NAME_debug_state.bin as in llm.c, NAME_debug_state.json with the ten losses.
"""

import argparse
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from formats import in_checkpoint_order, write_checkpoint, write_debug_state
from losses import losses_record, ten_losses
from model import GPT2, Config
from ops import FAMILIES, Case, draw, draw_ids


# So large that a mistake in the optimizer, or decay where none belongs, shows in the ten losses.
STEEP = dict(learning_rate=1e-3, weight_decay=1.0)


def stored(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32 if tensor.is_floating_point() else torch.int32).contiguous()


def save(path: Path, cases: Iterable[Case]) -> None:
    cases = list(cases)
    tensors = {f"{case}/{name}": stored(t) for case, _, tensors in cases for name, t in tensors.items()}
    dims = {case: dims for case, dims, _ in cases}
    save_file(tensors, path, metadata={"cases": json.dumps(dims)})


def raw32(seed: int, n: int) -> Tensor:
    """The generator's own 32-bit numbers: an unrestricted 64-bit draw is two of them, the high half first."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.empty(-(-n // 2), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return torch.stack([(pairs >> 32) & 0xFFFFFFFF, pairs & 0xFFFFFFFF], dim=1).flatten()[:n]


def permutation(seed: int, n: int) -> Tensor:
    """llm.c's Fisher-Yates, from the end: element i changes places with number modulo (i + 1)."""
    order, numbers = list(range(n)), iter(raw32(seed, n).tolist())
    for i in range(n - 1, 0, -1):
        j = next(numbers) % (i + 1)
        order[i], order[j] = order[j], order[i]
    return torch.tensor(order)


def random() -> Iterator[Case]:
    for seed in (42, 137):
        dims = dict(seed=seed)
        yield f"randint32 seed {seed}", dims, dict(values=raw32(seed, 1300))
        uniform = torch.empty(40).uniform_(generator=torch.Generator().manual_seed(seed))
        yield f"uniform seed {seed}", dims, dict(values=uniform)
        for n in (1, 5, 15, 16, 17, 40, 100, 1000):
            normal = torch.empty(n).normal_(0.5, 2, generator=torch.Generator().manual_seed(seed))
            yield f"normal seed {seed} n {n}", dict(seed=seed, n=n, mean=0.5, std=2), dict(values=normal)
        generator = torch.Generator().manual_seed(seed)
        pieces = {f"n{n}": torch.empty(n).normal_(generator=generator) for n in (5, 16, 3, 21, 1)}
        yield f"normal in a row seed {seed}", dims, pieces
        yield f"permutation seed {seed}", dict(seed=seed, n=101), dict(values=permutation(seed, 101))


def initialize() -> Iterator[Case]:
    for seed, config in [(42, Config(maxT=5, V=65, L=1, NH=1, C=3)), (137, Config(maxT=9, V=20, L=2, NH=2, C=16))]:
        tensors = dict(in_checkpoint_order(GPT2(config).initialize(seed), lambda parameter: parameter))
        tensors["wte"] = tensors["wte"][: config.V]
        yield f"seed {seed} C{config.C}", vars(config) | dict(Vp=config.Vp, seed=seed), tensors


def prepare(config: Config, B: int, T: int) -> tuple[GPT2, Tensor, Tensor]:
    """A model in float64 whose biases and LayerNorm weights are not the 0 and 1 they start from, and a batch."""
    model = GPT2(config).initialize(42).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2:
                parameter += draw(*parameter.shape, scale=0.1)
            parameter.copy_(parameter.float())
    return model, draw_ids(config.V, B, T), draw_ids(config.V, B, T)


def odd_model(folder: Path) -> None:
    """Everything odd: vocabulary, channels, heads' size, context; the batch is shorter than the context."""
    model, x, y = prepare(Config(maxT=33, V=65, L=2, NH=3, C=24), B=2, T=31)
    write_checkpoint(folder / "odd.bin", model)
    logits, loss = model(x, y)
    loss.backward()
    write_debug_state(folder / "odd_debug_state.bin", model, x, y, logits, loss)
    (folder / "odd_debug_state.json").write_text(json.dumps(losses_record(model, x, y, **STEEP), indent=2) + "\n")


def wide_model() -> Iterator[Case]:
    """Of a larger model only what a test needs to recognise it, since the weights follow from the seed: the last
    two positions' logits, each gradient's norm, and every STRIDE-th number of weights and gradients."""
    STRIDE, SEED = 61, 42
    config = Config(maxT=24, V=512, L=2, NH=4, C=64)
    model = GPT2(config).initialize(SEED).double()
    x, y = draw_ids(config.V, 3, 17), draw_ids(config.V, 3, 17)
    logits, loss = model(x, y)
    loss.backward()
    weights = dict(in_checkpoint_order(model, lambda parameter: parameter))
    gradients = dict(in_checkpoint_order(model, lambda parameter: parameter.grad))
    tensors = dict(x=x, y=y, last_logits=logits[:, -2:], loss=loss.reshape(1))
    for name, weight in weights.items():
        tensors[name] = weight.flatten()[::STRIDE]
        tensors[f"d{name}"] = gradients[name].flatten()[::STRIDE]
        tensors[f"norm_d{name}"] = gradients[name].norm().reshape(1)
    for decay in ("matrices", "all"):
        tensors[f"losses_{decay}"] = torch.tensor(ten_losses(model, x, y, decay, **STEEP), dtype=torch.float64)
    dims = vars(config) | dict(Vp=config.Vp, B=3, seed=SEED, stride=STRIDE, T=17)
    yield "wide", dims | STEEP, tensors


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes llmts' test fixtures.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    out: Path = parser.parse_args().out
    (out / "models").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    families = FAMILIES | {"random": random, "initialize": initialize, "models/wide": wide_model}
    for name, cases in families.items():
        torch.manual_seed(zlib.crc32(name.encode()))  # a family's numbers do not depend on the others
        save(out / f"{name}.safetensors", cases())
    torch.manual_seed(zlib.crc32(b"models/odd"))
    odd_model(out / "models")


if __name__ == "__main__":
    main()
