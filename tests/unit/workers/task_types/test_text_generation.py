"""Texts that go on: how a version writes, whatever its base says of writing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tests.language import writer_base
from upkeep.predictors import open_predictor
from workers.task_types.text_generation import TextGeneration
from workers.training.errors import RecipeError

WORDS = ["red", "green", "blue", "dark", "light"]
N_POSITIONS = 16


def version(directory: Path, **writing: Any) -> Path:
    """Write a version of a base that has weights, and says this of how it writes."""
    base = writer_base(directory / "base", WORDS, n_positions=N_POSITIONS, initializer_range=0.5)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)).save_pretrained(base)
    (base / "generation_config.json").write_text(json.dumps(writing))
    TextGeneration().create(str(base), [], directory / "version", seed=0)
    return directory / "version"


def written(directory: Path, texts: list[str]) -> list[str]:
    return TextGeneration().load(directory).write([{"text": text} for text in texts])


@pytest.mark.parametrize(
    "writing",
    [
        {"num_beams": 4, "early_stopping": True, "length_penalty": 2.0},
        {"num_beams": 4, "num_return_sequences": 2},
        {"do_sample": True, "temperature": 0.7, "top_k": 20, "min_p": 0.1},
        {"do_sample": True, "typical_p": 0.9, "return_dict_in_generate": True},
        {"penalty_alpha": 0.6, "top_k": 4, "stop_strings": ["red"], "max_length": 20},
    ],
)
def test_a_version_writes_greedily_however_its_base_writes(
    tmp_path: Path, writing: dict[str, Any]
) -> None:
    texts = ["red green", "", "dark"]
    plain = written(version(tmp_path / "plain"), texts)
    assert written(version(tmp_path / "other", **writing), texts) == plain
    assert any(plain)


def test_a_version_avoids_what_its_base_avoids(tmp_path: Path) -> None:
    word = written(version(tmp_path / "plain"), ["red"])[0].split()[0]
    place = AutoTokenizer.from_pretrained(tmp_path / "plain" / "version")(word)["input_ids"]
    (said,) = written(version(tmp_path / "other", bad_words_ids=[place]), ["red"])
    assert said
    assert word not in said.split()


def test_a_prompt_that_is_too_long_loses_its_beginning_but_not_the_start_token(
    tmp_path: Path,
) -> None:
    directory, long = version(tmp_path), [*WORDS * 5, "dark", "red"]
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory)
    n_new = model.generation_config.max_new_tokens
    read = tokenizer(" ".join(long[-(N_POSITIONS - n_new - 1) :]))["input_ids"]
    ids = torch.tensor([[tokenizer.eos_token_id, *read]])
    plain = tokenizer.decode(model.generate(ids)[0, ids.shape[1] :], skip_special_tokens=True)

    prompts = [" ".join(long), "red"]
    assert written(directory, prompts)[0] == plain
    assert open_predictor(directory).texts(  # type: ignore[attr-defined]  # it answers with texts
        [{"text": text} for text in prompts]
    ) == written(directory, prompts)


def test_a_version_made_elsewhere_needs_neither_padding_nor_a_length_of_what_it_writes(
    tmp_path: Path,
) -> None:
    version(tmp_path)  # whose base is plain transformers': no token for padding, no max_new_tokens
    made = TextGeneration().load(tmp_path / "base")
    prompts = [{"text": "red"}, {"text": " ".join(WORDS * 5)}]
    said = made.write(prompts)
    assert len(said) == 2
    assert [one.n_tokens for one in made.said(prompts, ["blue", "green red"])] == [2, 3]
    assert open_predictor(tmp_path / "base").texts(prompts) == said  # type: ignore[attr-defined]  # it answers with texts
    made.learner.save(tmp_path / "saved")
    assert AutoModelForCausalLM.from_pretrained(
        tmp_path / "saved"
    ).generation_config.max_new_tokens == (N_POSITIONS // 2)


def test_texts_that_would_never_end_are_refused_in_words(tmp_path: Path) -> None:
    directory = version(tmp_path)
    path = directory / "tokenizer_config.json"
    stated = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in stated.items() if k != "eos_token"}))
    with pytest.raises(RecipeError, match="no end token"):
        TextGeneration().load(directory)
    with pytest.raises(ValueError, match="no end token"):
        open_predictor(directory)
