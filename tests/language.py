"""A small language model with nothing learned, for tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit


def writer_base(directory: Path, words: Sequence[str], **config: Any) -> Path:
    """Write a base model, GPT-2 in small, whose tokens are these words."""
    directory.mkdir(parents=True)
    vocabulary = {word: k for k, word in enumerate(dict.fromkeys(["<end>", "<unknown>", *words]))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(directory / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unknown>"}
    (directory / "tokenizer_config.json").write_text(json.dumps({**names, "eos_token": "<end>"}))
    shape = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": len(vocabulary),
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 64,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    (directory / "config.json").write_text(json.dumps({**shape, **config}))
    return directory
