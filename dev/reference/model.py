"""GPT-2 (Radford et al. 2019) in plain PyTorch: what llmts is compared with.

Letters as everywhere in llmts: B sequences, T positions, C channels, NH heads, L layers, V vocabulary, Vp padded.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEPTHS = {2: (128, 2), 4: (256, 4), 6: (384, 6), 12: (768, 12), 24: (1024, 16), 36: (1280, 20), 48: (1600, 25)}
ALIASES = {"gpt2": 12, "gpt2-medium": 24, "gpt2-large": 36, "gpt2-xl": 48}
PRESETS = [*(f"d{depth}" for depth in DEPTHS), *ALIASES]


@dataclass(frozen=True)
class Config:
    maxT: int
    V: int
    L: int
    NH: int
    C: int

    @property
    def Vp(self) -> int:
        """V rounded up to a multiple of 128, as llm.c pads it."""
        return -(-self.V // 128) * 128


def preset(name: str, **changes: int) -> Config:
    """The config of a preset name, with some fields changed."""
    L = ALIASES[name] if name in ALIASES else int(name[1:])
    C, NH = DEPTHS[L]
    return replace(Config(maxT=1024, V=50257, L=L, NH=NH, C=C), **changes)


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def attention(qkv: Tensor, NH: int) -> tuple[Tensor, Tensor]:
    """Causal attention written out: (B,T,3C) -> (B,T,C), and the log-sum-exp (B,NH,T) of the scaled scores."""
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    q, k, v = (part.view(B, T, NH, C // NH).transpose(1, 2) for part in qkv.split(C, dim=2))
    scores = (q @ k.transpose(2, 3)) / math.sqrt(C // NH)
    scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -math.inf)
    out = scores.softmax(dim=-1) @ v
    return out.transpose(1, 2).reshape(B, T, C), scores.logsumexp(dim=-1)


def fused_attention(qkv: Tensor, NH: int) -> Tensor:
    """The same by PyTorch's own kernel: for speed."""
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    q, k, v = (part.view(B, T, NH, C // NH).transpose(1, 2) for part in qkv.split(C, dim=2))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return out.transpose(1, 2).reshape(B, T, C)


class Block(nn.Module):
    def __init__(self, config: Config, fused: bool) -> None:
        super().__init__()
        C = config.C
        self.NH, self.fused = config.NH, fused
        self.ln1 = nn.LayerNorm(C, eps=1e-5)
        self.qkv = nn.Linear(C, 3 * C)
        self.attproj = nn.Linear(C, C)
        self.ln2 = nn.LayerNorm(C, eps=1e-5)
        self.fc = nn.Linear(C, 4 * C)
        self.fcproj = nn.Linear(4 * C, C)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.ln1(x))
        mixed = fused_attention(qkv, self.NH) if self.fused else attention(qkv, self.NH)[0]
        x = x + self.attproj(mixed)
        return x + self.fcproj(gelu(self.fc(self.ln2(x))))


class GPT2(nn.Module):
    """Token ids (B,T) -> logits (B,T,V), and the mean cross-entropy where targets (B,T) are given.

    `fused` uses PyTorch's attention kernel instead of the one written out.
    """

    def __init__(self, config: Config, fused: bool = False) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):  # no memory and no random numbers yet: initialize() or a loader fills it
            self.wte = nn.Embedding(config.V, config.C)
            self.wpe = nn.Embedding(config.maxT, config.C)
            self.blocks = nn.ModuleList(Block(config, fused) for _ in range(config.L))
            self.lnf = nn.LayerNorm(config.C, eps=1e-5)
        self.to_empty(device="cpu")

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.lnf(x), self.wte.weight)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def initialize(self, seed: int) -> "GPT2":
        """Draws the weights as llm.c's PyTorch script does: one generator, modules in order, normal(0, 0.02), the two
        projections into the residual stream scaled by 1/sqrt(2L)."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif ".ln" in f".{name}":
                parameter.fill_(1)
            else:
                residual = "proj" in name
                std = 0.02 / math.sqrt(2 * self.config.L) if residual else 0.02
                parameter.normal_(0, std, generator=generator)
        return self


def adamw(model: GPT2, learning_rate: float, weight_decay: float, decay: str) -> torch.optim.AdamW:
    """AdamW with betas 0.9 0.999 and eps 1e-8. `decay` is "matrices" (llmts, nanoGPT) or "all" (llm.c's test)."""
    groups = [
        {"params": [p for p in model.parameters() if decay == "all" or p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in model.parameters() if decay != "all" and p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True)
