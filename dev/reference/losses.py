"""The ten losses: what ten AdamW steps on one batch must give."""

import copy

import torch
from torch import Tensor

from model import GPT2, adamw


def ten_losses(
    model: GPT2,
    x: Tensor,
    y: Tensor,
    decay: str,
    learning_rate: float = 1e-4,
    weight_decay: float = 0.01,
    bf16: bool = False,
) -> list[float]:
    """The loss before each of ten steps; `decay` as for adamw(). The model is left as it was."""
    trained = copy.deepcopy(model)
    optimizer = adamw(trained, learning_rate, weight_decay, decay)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = trained(x, y)[1]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def losses_record(
    model: GPT2, x: Tensor, y: Tensor, learning_rate: float = 1e-4, weight_decay: float = 0.01
) -> dict[str, float | dict[str, list[float]]]:
    """Ten losses and their hyper-parameters, as the JSON beside a debug state holds them: with weight decay on
    "matrices" only (as llmts trains) and on "all" tensors (as llm.c's test does)."""
    hyper = {"learningRate": learning_rate, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weightDecay": weight_decay}
    losses = {decay: ten_losses(model, x, y, decay, learning_rate, weight_decay) for decay in ("matrices", "all")}
    return hyper | {"losses": losses}
