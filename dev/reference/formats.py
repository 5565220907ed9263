"""Writers of llm.c's binary files: 256 int32 of header, then arrays, all little-endian."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from model import GPT2

# Checkpoint order: (llm.c's name, where it is in the model; {l} runs over the layers).
TENSORS = [
    ("wte", "wte.weight"),
    ("wpe", "wpe.weight"),
    ("ln1w", "blocks.{l}.ln1.weight"),
    ("ln1b", "blocks.{l}.ln1.bias"),
    ("qkvw", "blocks.{l}.qkv.weight"),
    ("qkvb", "blocks.{l}.qkv.bias"),
    ("attprojw", "blocks.{l}.attproj.weight"),
    ("attprojb", "blocks.{l}.attproj.bias"),
    ("ln2w", "blocks.{l}.ln2.weight"),
    ("ln2b", "blocks.{l}.ln2.bias"),
    ("fcw", "blocks.{l}.fc.weight"),
    ("fcb", "blocks.{l}.fc.bias"),
    ("fcprojw", "blocks.{l}.fcproj.weight"),
    ("fcprojb", "blocks.{l}.fcproj.bias"),
    ("lnfw", "lnf.weight"),
    ("lnfb", "lnf.bias"),
]


def in_checkpoint_order(model: GPT2, value: Callable[[Tensor], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """(name, value of the parameter) tensor by tensor, layers stacked, wte padded with zero rows to Vp."""
    parameters = dict(model.named_parameters())
    for name, path in TENSORS:
        if "{l}" in path:
            layers = range(model.config.L)
            yield name, torch.stack([value(parameters[path.format(l=l)]).detach() for l in layers])
        elif name == "wte":
            rows = value(parameters[path]).detach()
            padding = rows.new_zeros(model.config.Vp - model.config.V, model.config.C)
            yield name, torch.cat([rows, padding])
        else:
            yield name, value(parameters[path]).detach()


def write_header(file: BinaryIO, *fields: int) -> None:
    header = np.zeros(256, dtype="<i4")
    header[: len(fields)] = fields
    file.write(header.tobytes())


def write_floats(file: BinaryIO, tensor: Tensor) -> None:
    file.write(tensor.detach().float().numpy().astype("<f4").tobytes())


def write_checkpoint(path: Path, model: GPT2, dtype: torch.dtype = torch.float32) -> None:
    """Version 3 for float32, 5 for bfloat16 (rounded to nearest even)."""
    c = model.config
    version = {torch.float32: 3, torch.bfloat16: 5}[dtype]
    with open(path, "wb") as file:
        write_header(file, 20240326, version, c.maxT, c.V, c.L, c.NH, c.C, c.Vp)
        for _, tensor in in_checkpoint_order(model, lambda parameter: parameter):
            if dtype == torch.float32:
                write_floats(file, tensor)
            else:
                file.write(tensor.to(dtype).view(torch.int16).numpy().astype("<i2").tobytes())


def write_debug_state(path: Path, model: GPT2, x: Tensor, y: Tensor, logits: Tensor, loss: Tensor) -> None:
    """The batch, its logits and loss, and the gradients that model.backward() left behind."""
    with open(path, "wb") as file:
        write_header(file, 20240327, 2, *x.shape)
        for ids in (x, y):
            file.write(ids.numpy().astype("<i4").tobytes())
        write_floats(file, logits)
        write_floats(file, loss)
        for _, gradient in in_checkpoint_order(model, lambda parameter: parameter.grad):
            write_floats(file, gradient)


def write_tokens(path: Path, ids: Tensor) -> None:
    """Token data, uint16: ids 0 … 65535."""
    if ids.min() < 0 or ids.max() > 65535:
        raise ValueError("token ids do not fit uint16")
    with open(path, "wb") as file:
        write_header(file, 20240520, 1, ids.numel())
        file.write(ids.numpy().astype("<u2").tobytes())


def write_tokenizer(path: Path, tokens: Iterable[bytes], end_of_text: int) -> None:
    """The bytes of each token, in order of id, each after one byte with its length."""
    tokens = list(tokens)
    with open(path, "wb") as file:
        write_header(file, 20240328, 2, len(tokens), end_of_text)
        for token in tokens:
            file.write(bytes([len(token)]) + token)
