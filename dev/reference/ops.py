"""Inputs and outputs of every op family of kernels/abi.h, forward and backward, at small odd sizes.

Each function returns cases: (name, dims, tensors). Tensors carry the parameter names of abi.h. Inputs are rounded to
float32 first; outputs are computed from them in float64, so that rounding of the reference itself does not count.
Gradients of parameters, to which kernels add, start at the constant START.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from model import attention, gelu

Case = tuple[str, dict[str, float], dict[str, Tensor]]
START = 0.5


def draw(*shape: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
    """Normal numbers that float32 holds exactly."""
    return (torch.randn(*shape, dtype=torch.float64) * scale + offset).float().double()


def draw_ids(high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape)


def gradients(out: Tensor, dout: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(out, inputs, dout, retain_graph=True)


def leaf(tensor: Tensor) -> Tensor:
    return tensor.clone().requires_grad_()


def embedding() -> Iterator[Case]:
    shapes = [(1, 1, 1, 1, 1, 0), (2, 5, 3, 7, 9, 0), (3, 4, 17, 65, 33, 29), (2, 33, 5, 11, 33, 0)]
    for B, T, C, V, maxT, position in shapes:
        tokens, wte, wpe, dout = draw_ids(V, B, T), leaf(draw(V, C)), leaf(draw(maxT, C)), draw(B, T, C)
        out = F.embedding(tokens, wte) + wpe[position : position + T]
        dims = dict(B=B, T=T, C=C, V=V, maxT=maxT, position=position, start=START)
        tensors = dict(tokens=tokens, wte=wte, wpe=wpe, out=out)
        if position == 0:  # backward is for training, where sequences begin at position 0
            dwte, dwpe = gradients(out, dout, wte, wpe)
            tensors |= dict(dout=dout, dwte=dwte + START, dwpe=dwpe + START)
        yield f"B{B} T{T} C{C} V{V} position {position}", dims, tensors


def layernorm() -> Iterator[Case]:
    for N, C, offset in [(1, 1, 0), (1, 8, 0), (5, 3, 0), (7, 48, 0), (3, 100, 10), (2, 257, 0)]:
        a, b = draw(N, C, offset=offset), draw(N, C)
        residual = leaf((a + b).float().double())
        weight, bias = leaf(draw(C, scale=0.3, offset=1)), leaf(draw(C))
        out = F.layer_norm(residual, (C,), weight, bias, eps=1e-5)
        dout, dresidual = draw(N, C), draw(N, C)
        dx, dweight, dbias = gradients(out, dout, residual, weight, bias)
        yield f"N{N} C{C} offset {offset}", dict(N=N, C=C, start=START), dict(
            a=a, b=b, x=residual, weight=weight, bias=bias, out=out,
            mean=residual.mean(1), rstd=1 / torch.sqrt(residual.var(1, unbiased=False) + 1e-5),
            dout=dout, dresidual=dresidual, dx=dx, dx_plus_dresidual=dx + dresidual,
            dweight=dweight + START, dbias=dbias + START,
        )  # fmt: skip


def matmul() -> Iterator[Case]:
    for N, C, OC in [(1, 1, 1), (5, 3, 7), (1, 48, 33), (19, 33, 35), (3, 259, 5), (9, 50, 49), (17, 16, 2)]:
        x, weight, bias, pre_input = leaf(draw(N, C)), leaf(draw(OC, C)), leaf(draw(OC)), leaf(draw(N, C))
        dout = draw(N, OC)
        pre = F.linear(x, weight, bias)
        dx, dweight, dbias = gradients(pre, dout, x, weight, bias)
        (dx_gelu,) = gradients(F.linear(gelu(pre_input), weight), dout, pre_input)
        yield f"N{N} C{C} OC{OC}", dict(N=N, C=C, OC=OC, start=START), dict(
            x=x, weight=weight, bias=bias, out=pre, out_no_bias=F.linear(x, weight), out_gelu=gelu(pre),
            dout=dout, dx=dx, dweight=dweight + START, dbias=dbias + START,
            pre_input=pre_input, dx_gelu=dx_gelu,
        )  # fmt: skip


def attention_cases() -> Iterator[Case]:
    shapes = [(1, 1, 1, 1), (2, 1, 2, 16), (2, 5, 3, 3), (1, 5, 1, 64), (1, 33, 4, 3), (2, 33, 2, 1), (1, 33, 1, 64)]
    shapes += [(1, 65, 1, 16), (2, 65, 2, 3)]
    for B, T, NH, HS in shapes:
        C = NH * HS
        qkv, dout = leaf(draw(B, T, 3 * C)), draw(B, T, C)
        out, lse = attention(qkv, NH)
        (dqkv,) = gradients(out, dout, qkv)
        tensors = dict(qkv=qkv, out=out, lse=lse, dout=dout, dqkv=dqkv)
        yield f"B{B} T{T} NH{NH} HS{HS}", dict(B=B, T=T, C=C, NH=NH), tensors
    # Scores in the hundreds: exp overflows unless the largest is subtracted first.
    qkv, dout = leaf(draw(1, 9, 12, scale=20)), draw(1, 9, 4)
    out, lse = attention(qkv, 2)
    (dqkv,) = gradients(out, dout, qkv)
    tensors = dict(qkv=qkv, out=out, lse=lse, dout=dout, dqkv=dqkv)
    yield "B1 T9 NH2 HS2 large scores", dict(B=1, T=9, C=4, NH=2), tensors


def gelu_cases() -> Iterator[Case]:
    special = torch.tensor([0, 1e-3, -1e-3, 10, -10, 50, -50, 100, -100, 1e-30, -3]).double().float().double()
    for name, values in [("special values", special), ("n131", draw(131, scale=3)), ("n1", draw(1))]:
        x, dout = leaf(values), draw(values.numel())
        out = gelu(x)
        (dx,) = gradients(out, dout, x)
        yield name, dict(n=x.numel()), dict(x=x, out=out, dout=dout, dx=dx)


def residual() -> Iterator[Case]:
    for n in [1, 15, 67]:
        a, b = draw(n), draw(n)
        yield f"n{n}", dict(n=n), dict(a=a, b=b, out=a + b)


def classifier_case(name: str, x: Tensor, wte: Tensor, targets: Tensor, V: int, scale: float) -> Case:
    N, C, Vp = x.shape[0], x.shape[1], wte.shape[0]
    x, wte = leaf(x), leaf(wte)
    losses = F.cross_entropy(F.linear(x, wte[:V]), targets, ignore_index=-1, reduction="none")
    dx, dwte = gradients(losses, torch.full((N,), scale).double(), x, wte)
    dims = dict(N=N, C=C, V=V, Vp=Vp, scale=scale, start=START)
    return name, dims, dict(x=x, wte=wte, targets=targets, losses=losses, dx=dx, dwte=dwte + START)


def classifier() -> Iterator[Case]:
    # Padding rows of wte are noise here: they must not count.
    for N, C, V, Vp in [(1, 1, 2, 2), (3, 5, 7, 16), (70, 3, 65, 128), (5, 17, 130, 256), (2, 4, 300, 384)]:
        targets = draw_ids(V, N)
        targets[-1] = V - 1
        if N > 1:
            targets[N // 2] = -1
        yield classifier_case(f"N{N} C{C} V{V} Vp{Vp}", draw(N, C), draw(Vp, C), targets, V, 1 / 2**5)
    x, wte = torch.ones(2, 1).double(), torch.tensor([[0.0], [200.0], [500.0]]).double()
    yield classifier_case("logits 0 and 200", x, wte, torch.tensor([0, 1]), 2, 0.5)
    yield classifier_case("every target -1", draw(3, 2), draw(4, 2), torch.full((3,), -1), 3, 0.25)


def global_norm() -> Iterator[Case]:
    for name, grads in [("n1", draw(1)), ("n1003", draw(1003)), ("large", draw(9, scale=1e30)), ("zero", draw(5) * 0)]:
        grads = grads.float().double()
        yield name, dict(n=grads.numel(), norm=grads.norm().item()), dict(grads=grads)


def adamw() -> Iterator[Case]:
    """params, m and v after each of the steps (steps, n). Hyper-parameters are numbers that float32 holds exactly."""
    for case, n, ranges, grad_scale in [
        ("one segment", 5, [(0, 5, 1)], 1.0),
        ("decay, none, a gap", 57, [(0, 17, 1), (17, 8, 0), (29, 28, 1)], 1.0),
        ("scaled gradients", 33, [(0, 1, 0), (1, 32, 1)], 0.25),
    ]:
        steps = 4
        hyper = dict(learning_rate=1e-2, beta1=0.9, beta2=0.999, eps=1e-8)
        exact = {name: torch.tensor(value).item() for name, value in hyper.items()}
        weight_decay = 0.125
        start, grads = draw(n), draw(steps, n)
        parts = [leaf(start[first : first + count]) for first, count, _ in ranges]
        optimizer = torch.optim.AdamW(
            [{"params": [p], "weight_decay": weight_decay * decays} for p, (_, _, decays) in zip(parts, ranges)],
            lr=exact["learning_rate"], betas=(exact["beta1"], exact["beta2"]), eps=exact["eps"],
        )  # fmt: skip
        after = {"params": start.repeat(steps, 1), "m": torch.zeros_like(grads), "v": torch.zeros_like(grads)}
        for step in range(steps):
            for part, (first, count, _) in zip(parts, ranges):
                part.grad = grads[step, first : first + count] * grad_scale
            optimizer.step()
            for part, (first, count, _) in zip(parts, ranges):
                state = optimizer.state[part]
                here = slice(first, first + count)
                after["params"][step, here] = part.detach()
                after["m"][step, here] = state["exp_avg"]
                after["v"][step, here] = state["exp_avg_sq"]
        dims = dict(n=n, steps=steps, S=len(ranges), weight_decay=weight_decay, grad_scale=grad_scale) | exact
        yield case, dims, dict(start=start, grads=grads, segments=torch.tensor(ranges), **after)


FAMILIES = {
    "embedding": embedding,
    "layernorm": layernorm,
    "matmul": matmul,
    "attention": attention_cases,
    "gelu": gelu_cases,
    "residual": residual,
    "classifier": classifier,
    "global_norm": global_norm,
    "adamw": adamw,
}
