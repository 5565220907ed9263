"""GPT-2 by Hugging Face's transformers, for transformers_test.ts. Prints JSON.

    make FOLDER         saves models to FOLDER/NAME; prints, by NAME, a prompt, its logits and 64 greedy tokens
    load IDS            by folder, from the JSON object {folder: ids}: the dtype a model loads as, its logits in float32
    tokens FOLDER TEXTS ids of TEXTS, a JSON list, by the tokenizer in FOLDER
"""

import json
import sys

import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

NEW_TOKENS = 64

# name: vocabulary, dtype, most bytes in a file
MODELS = {
    "characters": (65, torch.float32, "1GB"),
    "sharded": (65, torch.float32, "50KB"),
    "bfloat16": (65, torch.bfloat16, "1GB"),
    "half": (65, torch.float16, "1GB"),
    "gpt2": (50257, torch.float32, "1GB"),
}


def random_model(vocabulary: int, dtype: torch.dtype) -> GPT2LMHeadModel:
    """Every parameter random, biases too, and large enough that the tokens differ."""
    end = 50256 if vocabulary == 50257 else None
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=96, n_embd=48, n_layer=2, n_head=3, bos_token_id=end, eos_token_id=end
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model.to(dtype)


def logits_of(model: GPT2LMHeadModel, ids: list[int]) -> list[list[float]]:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].tolist()


def make(folder: str) -> dict:
    torch.manual_seed(1)
    made = {}
    for name, (vocabulary, dtype, shard) in MODELS.items():
        model = random_model(vocabulary, dtype)
        model.save_pretrained(f"{folder}/{name}", max_shard_size=shard)
        model.float()
        prompt = torch.randint(vocabulary, (16,)).tolist()
        model.generation_config.eos_token_id = None
        generated = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=NEW_TOKENS)
        made[name] = {
            "prompt": prompt,
            "logits": logits_of(model, prompt),
            "greedy": generated[0, len(prompt) :].tolist(),
        }
    return made


def load(requests: dict[str, list[int]]) -> dict:
    loaded = {}
    for folder, ids in requests.items():
        model, report = GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True)
        dtype, problems = str(model.dtype), {kind: list(names) for kind, names in report.items() if names}
        loaded[folder] = {"dtype": dtype, "problems": problems, "logits": logits_of(model.float().eval(), ids)}
    return loaded


def tokens(folder: str, texts: list[str]) -> dict:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text)["input_ids"] for text in texts]
    return {
        "ids": ids,
        "texts": [tokenizer.decode(each) for each in ids],
        "eos": tokenizer.eos_token_id,
        "special": tokenizer("<|endoftext|>")["input_ids"],
    }


def main() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    action, subject, *rest = sys.argv[1:]
    if action == "make":
        result = make(subject)
    elif action == "load":
        result = load(json.loads(subject))
    else:
        result = tokens(subject, json.loads(rest[0]))
    json.dump(result, sys.stdout)


main()
