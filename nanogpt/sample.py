"""Loads a model that a training has saved, and lets it continue a text.

    python nanogpt/sample.py MODEL TEXT [--tokens 100] [--temperature 0.8] [--seed 1337]

It prints a line `---` and then the continuation. Beside MODEL lie the tokenizer.json and meta.json of the
data that it was trained on. saving.py tells what MODEL is, and whom that trusts.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from machine import device
from saving import load
from tokenizers import Tokenizer


def continuation(
    model: torch.nn.Module, tokens: list[int], length: int, temperature: float, seed: int, bos: int
) -> Iterator[int]:
    """Give the tokens that the model puts after `tokens`, one by one, until it begins a new document.

    The model sees BOS and as many of the last tokens as fit in a row of `length`. With temperature 0 it gives
    the most likely token; else it draws one, and the same seed draws the same again.
    """
    device = next(model.parameters()).device
    chance = torch.Generator().manual_seed(seed)
    tokens = list(tokens)
    while True:
        row = [bos, *tokens[max(0, len(tokens) - length + 1) :]]
        with torch.inference_mode():
            logits = model(torch.tensor([row], device=device))[0, -1].float().cpu()
        if temperature > 0:
            token = int(torch.multinomial(torch.softmax(logits / temperature, 0), 1, generator=chance))
        else:
            token = int(logits.argmax())
        if token == bos:
            return
        tokens.append(token)
        yield token


def main() -> None:
    """Print how the model on the command line continues the text there."""
    parser = argparse.ArgumentParser(description="Let a saved model continue a text.")
    parser.add_argument("model", type=Path, help="the file that a training wrote its model to")
    parser.add_argument("text", help="what the model continues")
    parser.add_argument("--tokens", type=int, default=100, help="the most tokens to add")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: always the most likely token")
    parser.add_argument("--seed", type=int, default=1337)
    options = parser.parse_args()
    meta = json.loads(options.model.with_name("meta.json").read_text())
    tokenizer = Tokenizer.from_file(str(options.model.with_name("tokenizer.json")))
    model = load(options.model, device())
    prompt = tokenizer.encode(options.text, add_special_tokens=False).ids
    found = continuation(model, prompt, meta["sequence"], options.temperature, options.seed, meta["bos"])
    print(f"---\n{tokenizer.decode(list(itertools.islice(found, options.tokens)))}", flush=True)


if __name__ == "__main__":
    main()
