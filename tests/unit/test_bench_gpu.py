"""What the bench of a GPU measures with, tried on the CPU with models of a few weights."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from bench import gpu
from workers.training.device import Device

CPU = Device("cpu", 1, "fp32")
TINY: Mapping[str, Mapping[str, Any]] = {
    "BERT": {
        **gpu.SIZES["BERT base"],
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 105,
    },
    "GPT-2": {**gpu.SIZES["GPT-2"], "n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 105},
}


@pytest.mark.parametrize("name", TINY)
def test_our_loop_is_measured_on_each_size(name: str) -> None:
    rows = gpu.texts(24, n_words=100, words_of_a_row=(3, 9))
    (row,) = gpu.measured(name, rows, CPU, 1e9, config=TINY[name], token_budget=64, rivals={})
    assert (row["model"], row["arm"]) == (name, "ours")
    assert row["tokens_per_second"] > 0
    assert row["utilisation"] > 0
    assert row["over_trainer"] == 1.0


def test_trainer_is_measured_on_the_same_rows() -> None:
    pytest.importorskip("accelerate")
    rows = gpu.texts(24, n_words=100, words_of_a_row=(3, 9))
    rivals = {"Trainer": {}, "Trainer, best": {**gpu.RIVALS["Trainer, best"], "bf16": False}}
    found = gpu.measured(
        "BERT", rows, CPU, 1e9, config=TINY["BERT"], token_budget=64, rivals=rivals
    )
    assert [row["arm"] for row in found] == ["ours", *rivals]
    assert all(row["tokens_per_second"] > 0 for row in found)


def test_an_epoch_is_told_as_tokens_a_second_and_as_a_share_of_the_peak() -> None:
    epoch = gpu.Epoch(n_tokens=1000, seconds=2.0, operations_per_token=6e6)
    assert epoch.tokens_per_second == 500
    assert epoch.share_of(12e9) == 0.25


def test_embedding_tables_and_biases_are_no_useful_operations() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(50, 4), torch.nn.Linear(4, 3))
    assert gpu.operations_per_token(model) == 6 * 12


def test_the_peak_is_a_speed() -> None:
    assert gpu.multiplications_per_second("cpu", torch.float32, shape=(16, 16, 16), seconds=0.0) > 0


def test_without_a_gpu_it_says_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main()
    assert "no GPU" in capsys.readouterr().out
