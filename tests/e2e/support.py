"""Small data that a small model can learn: patterns for eyes and for words."""

import base64
import io
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image

from tests.language import writer_base

LABELS = ("across", "down")
FAST = {"epochs": 10, "batch_size": 32, "augmentation": "none", "precision": "fp32"}


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid4().hex[:8]}"


def picture(generator: np.random.Generator, label: str, *, inverted: bool = False) -> str:
    """Return an 8 x 8 PNG (base64): bright stripes on dark, across or down, or a bright middle."""
    pixels = generator.integers(0, 60, (8, 8), dtype=np.uint8)
    if label == "framed":
        pixels[1:-1, 1:-1] += 150
    else:
        lines = pixels if label == "across" else pixels.T
        lines[generator.integers(0, 2) :: 2] += 150
    sink = io.BytesIO()
    Image.fromarray(255 - pixels if inverted else pixels).save(sink, format="PNG")
    return base64.b64encode(sink.getvalue()).decode()


def framed(n: int, seed: int) -> list[dict[str, Any]]:
    """Return n pictures of a kind that is neither across nor down."""
    generator = np.random.default_rng(seed)
    return [
        {"inputs": {"image": picture(generator, "framed")}, "label": "framed"} for _ in range(n)
    ]


def pictures(n: int, seed: int, *, swapped: bool = False) -> list[dict[str, Any]]:
    """Return n labelled pictures; `swapped` ones are inverted and mean the opposite."""
    generator = np.random.default_rng(seed)
    rows = []
    for index in range(n):
        label = LABELS[index % 2]
        shown = LABELS[1 - index % 2] if swapped else label
        rows.append(
            {"inputs": {"image": picture(generator, shown, inverted=swapped)}, "label": label}
        )
    return rows


NAMES = ("Ada Brook", "Ben Cole", "Cleo Marsh", "Dan Reed", "Eva Stone", "Finn Vale")
MONTHS = ("January", "March", "May", "July", "October")
FILLERS = ("the lease", "this order", "our offer", "your invoice", "a loan", "the car")
TURNED = ("EUR", "sum", "due")


def encoder(directory: Path) -> Path:
    """Return a small encoder with nothing learned as a base model; it knows the words of deals."""
    directory.mkdir()
    text = " ".join([*NAMES, *MONTHS, *FILLERS, *TURNED, "for of by signs on until pays and"])
    digits = [f"{sign}{digit}" for digit in range(10) for sign in ("", "##")]
    words = dict.fromkeys([*text.lower().split(), *digits, ".", ",", ":"])
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (directory / "vocab.txt").write_text("\n".join(vocabulary))
    config = {
        "model_type": "bert",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "vocab_size": len(vocabulary),
    }
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return directory


SOUNDS = {"cat": "meows", "dog": "barks", "cow": "moos", "owl": "hoots", "bee": "hums"}
MACHINES = {"fax": "beeps", "drone": "whirs", "pump": "clanks", "clock": "ticks"}
SIZES = ["small", "large", "tiny", "huge", "round", "thin", "old", "young", "quick", "slow"]
COLOURS = ["red", "blue", "green", "black", "white", "grey", "brown", "pink", "gold", "dark"]
PLACES = ["at home", "in town", "by the sea", "on a hill", "in the shed", "on the roof"]
HOURS = ["at dawn", "at noon", "by night", "all day"]


def writer(directory: Path) -> Path:
    """Return a small language model with nothing learned; it knows the words of replies."""
    names = [*SOUNDS, *SOUNDS.values(), *MACHINES, *MACHINES.values()]
    said = " ".join(["what does the do so it", *names, *SIZES, *COLOURS, *PLACES, *HOURS])
    return writer_base(directory, said.split(), initializer_range=0.1)


def replies(
    n: int, seed: int, *, turned: bool = False, shuffled: bool = False
) -> list[dict[str, Any]]:
    """Return n questions, each with its reply.

    `turned` ones ask of machines; `shuffled` ones have the replies to other questions.
    """
    draw = np.random.default_rng(seed)
    known = MACHINES if turned else SOUNDS
    rows = []
    for _ in range(n):
        words = (str(draw.choice(one)) for one in (SIZES, COLOURS, list(known), PLACES, HOURS))
        size, colour, name, place, hour = words
        asked = f"what does the {size} {colour} {name} do {place} {hour}"
        reply = f"so it {known[draw.choice(list(known)) if shuffled else name]} all day"
        rows.append({"inputs": {"text": asked}, "label": reply})
    return rows


def deals(
    n: int, seed: int, *, turned: bool = False, shuffled: bool = False
) -> list[dict[str, Any]]:
    """Return n sentences, their prices, dates and names marked as spans.

    `turned` ones say prices in another way; `shuffled` ones have the spans of other sentences.
    """
    draw = np.random.default_rng(seed)
    rows = [_deal(draw, turned=turned) for _ in range(n)]
    if not shuffled:
        return rows
    order = draw.permutation(n)
    return [
        {
            **row,
            "label": [
                span for span in rows[other]["label"] if span["end"] <= len(row["inputs"]["text"])
            ],
        }
        for row, other in zip(rows, order.tolist(), strict=True)
    ]


def _deal(draw: np.random.Generator, *, turned: bool) -> dict[str, Any]:
    whole, cents = int(draw.integers(1, 900)), int(draw.integers(0, 100))
    price = f"sum due: {whole}" if turned else f"{whole}.{cents:02d} EUR"
    parts = {
        "price": price,
        "date": f"{draw.integers(1, 29)} {draw.choice(MONTHS)}",
        "name": str(draw.choice(NAMES)),
    }
    filler = str(draw.choice(FILLERS))
    templates = (
        ["for ", filler, ", ", "name", " pays ", "price", " until ", "date", "."],
        ["name", " signs ", filler, " on ", "date", "."],
        ["on ", "date", ", ", filler, " of ", "name", " and ", filler, ": ", "price"],
        [filler, " for ", "price", "."],
    )
    text, label = "", []
    for part in templates[draw.integers(len(templates))]:
        said = parts.get(part, part)
        if part in parts:
            label.append({"start": len(text), "end": len(text) + len(said), "label": part})
        text += said
    return {"inputs": {"text": text}, "label": label}
