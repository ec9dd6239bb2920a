"""Which knobs does a training run have, and what are they when nobody turns them?"""

import copy
from collections.abc import Mapping
from typing import Any

import jsonschema

from workers.training.errors import RecipeError

RUNGS = ("centroid", "probe", "top")
"""Those that are climbed unless a recipe says otherwise."""

COMMON: dict[str, dict[str, Any]] = {
    "epochs": {
        "type": "integer",
        "minimum": 0,
        "maximum": 1000,
        "description": "Passes over the rows; 0 fits the head alone.",
    },
    "learning_rate": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 10,
        "description": "Peak step size of AdamW, below the head.",
    },
    "head_learning_rate": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 10,
        "description": "Peak step size of AdamW for the head.",
    },
    "trainable_layers": {
        "type": ["integer", "null"],
        "minimum": 0,
        "description": "How many of the top layers learn besides the head; null is all.",
    },
    "head": {
        "enum": ["auto", "probe", "keep", "random"],
        "default": "auto",
        "description": (
            "Where the head starts: a linear probe on the features, the start's own head, or "
            "random. auto probes whenever the layers below have learned anything before."
        ),
    },
    "rungs": {
        "type": "array",
        "items": {"enum": ["prior", *RUNGS]},
        "minItems": 1,
        "uniqueItems": True,
        "default": list(RUNGS),
        "description": (
            "Which rungs may be climbed: the head's bias fitted to the newest rows where no class "
            "is new (prior), new classes from their centroids, a head fitted to all rows, training "
            "of the layers below it. The first that suffices is the last."
        ),
    },
    "sufficient": {
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": 1,
        "default": None,
        "description": (
            "Accuracy on the newest rows, one standard error taken off, at which no further rung "
            "is climbed; null is what the champion is held to, 1 climbs them all."
        ),
    },
    "budget_seconds": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
        "description": "CPU time after which no further rung or epoch is begun.",
    },
    "start_share": {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
        "default": 0.0,
        "description": (
            "Share of the start, with its fitted head, in the weights of the version; the rest is "
            "what training made of them."
        ),
    },
    "weight_decay": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.01},
    "warmup_share": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": 0.06,
        "description": "Share of the steps over which the step size rises; then it falls to 0.",
    },
    "clip_norm": {"type": "number", "exclusiveMinimum": 0, "default": 1.0},
    "dropout": {
        "type": ["number", "null"],
        "minimum": 0,
        "exclusiveMaximum": 1,
        "default": None,
        "description": "Share of units dropped while training; null is the architecture's own.",
    },
    "label_smoothing": {"type": "number", "minimum": 0, "maximum": 0.5, "default": 0.0},
    "class_weight_power": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": 0.0,
        "description": "Weight of a class is (1 / its share) to this power; 0 is none.",
    },
    "sampling": {
        "enum": ["none", "oversample", "undersample"],
        "default": "none",
        "description": (
            "As many rows of each class in an epoch, drawn anew for each: of the commonest, rows "
            "repeated; or of the rarest, rows left out. The head's probe sees all rows once."
        ),
    },
    "mixup": {
        "type": "number",
        "minimum": 0,
        "maximum": 10,
        "default": 0.0,
        "description": (
            "Blends each row with another and their labels likewise, by a share drawn from "
            "Beta(mixup, mixup): pictures themselves, of texts what the head sees; 0 is none."
        ),
    },
    "average_share": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": 0.0,
        "description": (
            "Share of the steps, the last ones, whose weights are averaged into the version; 0 "
            "takes those of the last step alone."
        ),
    },
    "validation_share": {
        "type": "number",
        "minimum": 0,
        "maximum": 0.5,
        "default": 0.0,
        "description": (
            "Share of the newest rows (of all, where those are few) that is not learned from: the "
            "head and each epoch are judged on them, and the best becomes the version; 0 keeps the "
            "last."
        ),
    },
    "accumulation": {
        "type": "integer",
        "minimum": 1,
        "maximum": 65_536,
        "default": 1,
        "description": (
            "Parts of a batch that are computed one after another for one step. Doubled by "
            "itself when the memory runs out."
        ),
    },
    "processes": {
        "type": "integer",
        "minimum": 1,
        "maximum": 64,
        "default": 1,
        "description": (
            "How many processes share each batch, on a GPU each, or on the cores; the result is "
            "that of as many parts (accumulation) in one."
        ),
    },
    "precision": {
        "enum": ["auto", "fp32", "bf16"],
        "default": "auto",
        "description": "auto measures whether bf16 is faster on this machine.",
    },
    "patience": {
        "type": ["integer", "null"],
        "minimum": 1,
        "default": None,
        "description": (
            "Stop after this many epochs without a better validation score; needs "
            "validation_share. null never stops early."
        ),
    },
}

CLIMBING: Mapping[str, Mapping[str, Any]] = {
    "rungs": {
        **COMMON["rungs"],
        "items": {"enum": ["prior", *RUNGS, "lora", "full"]},
        "description": (
            "Which rungs may be climbed: the head's bias fitted to the newest rows where no class "
            "is new (prior), new classes from their centroids, a head fitted to all rows, training "
            "of the layers that the recipe names, of all by narrow matrices, of all. The first "
            "that suffices is the last; of several that train, the best on the rows set apart "
            "(validation_share) becomes the version."
        ),
    },
    "keep_features": {
        "type": "boolean",
        "default": True,
        "description": (
            "Whether what the layers say of the rows is kept with the run, 2 bytes a feature, so "
            "that the next one need not compute it again to fit a head; and taken from the run "
            "that it goes on from."
        ),
    },
}
"""The knobs of a version that may be trained by more than one rung."""


OF_TOKENS: Mapping[str, Mapping[str, Any]] = {
    **{name: knob for name, knob in COMMON.items() if name not in {"sampling", "mixup"}},
    "rungs": {
        **COMMON["rungs"],
        "items": {"enum": ["probe", "top"]},
        "default": ["probe", "top"],
        "description": (
            "Which rungs may be climbed: a head fitted to the tokens of all rows, training of the "
            "layers below it. The first is where the second starts; alone it must be asked for."
        ),
    },
}
"""The knobs of a version that answers for tokens."""


OF_NUMBERS: Mapping[str, Mapping[str, Any]] = {
    **{
        name: knob
        for name, knob in COMMON.items()
        if name not in {"sampling", "class_weight_power", "label_smoothing", "sufficient"}
    },
    "head": {
        "enum": ["auto", "keep"],
        "default": "auto",
        "description": "Where the head starts: as the start has it. keep allows a run of no epoch.",
    },
    "rungs": {
        **COMMON["rungs"],
        "items": {"enum": ["top"]},
        "default": ["top"],
        "description": "Which rungs may be climbed; of numbers there is one.",
    },
}
"""The knobs of a version that answers with numbers."""
OF_WHOLE_TEXTS: Mapping[str, Mapping[str, Any]] = {
    **{
        name: knob
        for name, knob in COMMON.items()
        if name
        not in {
            "sampling",
            "mixup",
            "head",
            "head_learning_rate",
            "rungs",
            "sufficient",
            "class_weight_power",
            "start_share",
        }
    },
    "learning_rate": {**COMMON["learning_rate"], "description": "Peak step size of AdamW."},
    "trainable_layers": {
        **COMMON["trainable_layers"],
        "description": "How many of the top layers learn; null is the whole model.",
    },
}
"""The knobs of a version that answers with texts: it has no head of its own."""
ABSENT: Mapping[str, Any] = {
    "head": "keep",
    "rungs": ("top",),
    "sufficient": None,
    "sampling": "none",
    "mixup": 0.0,
    "class_weight_power": 0.0,
    "start_share": 0.0,
    "lora_rank": 0,
    "keep_features": False,
}
"""What the loop does about a knob that a task type has not."""


def recipe_schema(
    defaults: Mapping[str, Any],
    knobs: Mapping[str, Mapping[str, Any]],
    *,
    common: Mapping[str, Mapping[str, Any]] = COMMON,
    searched: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the JSON Schema of a task type's recipe.

    Args:
        defaults: value of every knob that has none in its schema; may replace one that has.
        knobs: schemas of the knobs that this task type alone has.
        common: those of all task types that the loop trains; another trainer has its own.
        searched: what a search tries of a knob unless it is told otherwise: `low`, `high` and
            `log`, or `choices`. Written into the knob's schema as `search`.
    """
    properties: dict[str, dict[str, Any]] = copy.deepcopy(
        {name: dict(knob) for name, knob in {**common, **knobs}.items()}
    )
    for name, value in defaults.items():
        properties[name]["default"] = value
    for name, space in (searched or {}).items():
        properties[name]["search"] = dict(space)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def complete(schema: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe with every missing knob at its default.

    Raises:
        RecipeError: a knob is unknown or out of its bounds; says which.
    """
    errors = sorted(
        jsonschema.Draft202012Validator(schema).iter_errors(dict(recipe)), key=lambda e: e.json_path
    )
    if errors:
        said = "; ".join(f"{error.json_path}: {error.message}" for error in errors[:5])
        raise RecipeError(f"{said}; the knobs are {', '.join(sorted(schema['properties']))}")
    defaults = {name: knob["default"] for name, knob in schema["properties"].items()}
    return {**defaults, **recipe}
