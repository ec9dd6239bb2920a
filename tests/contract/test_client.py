"""Does the client answer what the workers score, and refuse what the app refuses?"""

import base64
import io
import json

import lightgbm
import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from app.domain import training
from upkeep.artifacts import SAFE_SUFFIXES
from upkeep.predictors import open_predictor
from upkeep.steering import RUN_ENDS
from upkeep.tables import MODEL
from workers.task_types import task_types
from workers.task_types.image_classification import PRESETS, ImageClassification
from workers.task_types.tabular_classification import TabularClassification
from workers.task_types.text_classification import TextClassification
from workers.training.files import RUNNABLE_SUFFIXES

LABELS = ("ham", "spam", "maybe")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "free", "money", "now", "hello", "see", "you")


@pytest.fixture(scope="module")
def text_base(tmp_path_factory):
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("base")
    inner = Tokenizer(WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(directory)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(directory)
    return directory


def test_texts_are_answered_as_the_workers_score_them(text_base, tmp_path):
    TextClassification().create(str(text_base), LABELS, tmp_path / "v", seed=0)
    draw = np.random.default_rng(0)
    inputs = [
        {"text": " ".join(draw.choice(WORDS[4:], size=n))}
        for n in [*draw.integers(0, 100, 60), 0, 2000]
    ]
    scores = task_types.get("text-classification").load(tmp_path / "v").scores(inputs)
    predictor = open_predictor(tmp_path / "v", device="cpu")
    assert predictor.labels == LABELS
    assert np.allclose(predictor.scores(inputs), scores, atol=1e-6)
    assert np.ptp(scores[:, 0]) > 0.01


def test_columns_are_answered_as_the_workers_score_them(tmp_path):
    draw = np.random.default_rng(0)
    table = np.column_stack([draw.normal(size=600), draw.integers(0, 5, 600)])
    truth = (table[:, 0] > 0).astype(int) + (table[:, 1] == 3)
    settings = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    data = lightgbm.Dataset(table, truth, categorical_feature=[1])
    lightgbm.train(settings, data, 20).save_model(tmp_path / MODEL)
    columns = [
        {"name": "x", "type": "number"},
        {"name": "kind", "type": "category", "categories": list("abcde")},
    ]
    names = {str(place): label for place, label in enumerate(LABELS)}
    config = {"columns": columns, "id2label": names}
    (tmp_path / "config.json").write_text(json.dumps(config))
    inputs = [{"x": float(x), "kind": "abcdef"[n % 6]} for n, x in enumerate(draw.normal(size=60))]
    inputs += [{"x": None, "kind": "a"}, {"kind": "b"}]
    scores = TabularClassification().load(tmp_path).scores(inputs)
    predictor = open_predictor(tmp_path, device="cpu")
    assert predictor.labels == LABELS
    assert predictor.input_field is None
    assert np.array_equal(predictor.scores(inputs), scores)
    assert np.ptp(scores[:, 0]) > 0.1
    with pytest.raises(ValueError, match="input 0 has none of the columns kind, x"):
        predictor.scores([{"y": 1.0}])


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_pictures_are_answered_as_the_workers_score_them(preset, tmp_path):
    ImageClassification().create(f"preset:{preset}", LABELS, tmp_path / "v", seed=0)
    draw = np.random.default_rng(0)
    inputs = [
        {"image": _base64(Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)))}
        for shape in [(32, 32, 3), (28, 28), (50, 20, 3), (8, 8), (64, 48, 4)] * 15
    ]
    scores = task_types.get("image-classification").load(tmp_path / "v").scores(inputs)
    predictor = open_predictor(tmp_path / "v", device="cpu")
    assert predictor.labels == LABELS
    assert np.allclose(predictor.scores(inputs), scores, atol=1e-5)


def _base64(picture):
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_the_field_that_is_read_is_that_of_the_input_contract(text_base, tmp_path):
    contract = [{"name": "subject", "type": "text"}]
    TextClassification().create(
        str(text_base), LABELS, tmp_path / "v", seed=0, input_contract=contract
    )
    assert open_predictor(tmp_path / "v", device="cpu").input_field == "subject"


def test_no_file_that_the_workers_refuse_is_loaded_by_the_client():
    assert not SAFE_SUFFIXES & RUNNABLE_SUFFIXES


def test_a_wait_ends_in_exactly_the_states_that_a_run_never_leaves():
    assert set(RUN_ENDS) == {str(s) for s in training.RunState if s not in training.IN_FLIGHT}
