"""GPT-2 from Hugging Face: a folder, or a name on the hub."""

import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

from model import GPT2, Config

# Their names of our modules; {l} runs over the layers. True: a Conv1D, which stores (in, out).
MODULES = {
    "wte": ("wte", False),
    "wpe": ("wpe", False),
    "blocks.{l}.ln1": ("h.{l}.ln_1", False),
    "blocks.{l}.qkv": ("h.{l}.attn.c_attn", True),
    "blocks.{l}.attproj": ("h.{l}.attn.c_proj", True),
    "blocks.{l}.ln2": ("h.{l}.ln_2", False),
    "blocks.{l}.fc": ("h.{l}.mlp.c_fc", True),
    "blocks.{l}.fcproj": ("h.{l}.mlp.c_proj", True),
    "lnf": ("ln_f", False),
}


def load_model(source: str) -> GPT2:
    """The model in float32. Refuses what GPT2 can't compute, and checks its logits against transformers' own."""
    theirs = GPT2LMHeadModel.from_pretrained(source, dtype=torch.float32).eval()
    c = theirs.config
    expected = {
        "activation_function": ["gelu_new"],
        "n_inner": [None, 4 * c.n_embd],
        "layer_norm_epsilon": [1e-5],
        "scale_attn_weights": [True],
        "scale_attn_by_inverse_layer_idx": [False],
        "tie_word_embeddings": [True],
    }
    for field, values in expected.items():
        if getattr(c, field) not in values:
            raise SystemExit(f"{source}: {field} is {getattr(c, field)}, expected {values[-1]}")

    model = GPT2(Config(maxT=c.n_positions, V=c.vocab_size, L=c.n_layer, NH=c.n_head, C=c.n_embd))
    weights = dict(theirs.transformer.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            module, kind = name.rsplit(".", 1)
            layer = module.split(".")[1] if module.startswith("blocks.") else ""
            their_module, conv1d = MODULES[module.replace(f".{layer}.", ".{l}.") if layer else module]
            weight = weights.pop(f"{their_module.format(l=layer)}.{kind}")
            parameter.copy_(weight.T if conv1d and kind == "weight" else weight)
        if weights:
            raise SystemExit(f"{source}: weights without a place: {', '.join(weights)}")
        ids = torch.arange(min(16, c.n_positions)).remainder(c.vocab_size)[None]
        difference = (model(ids)[0] - theirs(ids).logits).abs().max().item()
    if not difference < 1e-3:
        raise SystemExit(f"{source}: logits differ from transformers' by {difference}")
    return model


def byte_alphabet() -> dict[str, int]:
    """The printable characters that stand for the 256 bytes in GPT-2's vocabulary: the printable ones of Latin-1 for
    themselves, the others, in order, for the characters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def load_tokenizer(source: str) -> tuple[list[bytes], int]:
    """The bytes of each token in order of id, and the id of end-of-text."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    alphabet, added = byte_alphabet(), tokenizer.get_added_vocab()
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = [text.encode() if text in added else bytes(alphabet[c] for c in text) for text, _ in vocabulary]
    return tokens, tokenizer.eos_token_id
