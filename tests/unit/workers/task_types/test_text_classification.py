"""Signals of texts, and the pooler of a base that has none."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from workers.task_types.text_classification import (
    NoisyTokens,
    TextClassification,
    soften_missing_pooler,
)
from workers.training.row_file import RowFile
from workers.training.texts import TokenLists

KIND = TextClassification()


def signal(text: str, name: str, reference: str = "the cat sat") -> float:
    state = KIND.fit_signals([{"text": reference}])
    return float(KIND.signals([{"text": text}], state)[name][0])


def test_words_not_in_the_reference_are_counted_as_a_share() -> None:
    assert signal("The cat ran, CAT!", "unseen_word_share") == 0.25


def test_what_one_input_of_the_reference_alone_holds_is_unseen_in_it() -> None:
    reference = [{"text": "the cat sat"}, {"text": "the dog sat"}, {"text": "the the the"}]
    state = KIND.fit_signals(reference)
    own = KIND.signals(reference, state, of_reference=True)["unseen_word_share"]
    assert own == pytest.approx([1 / 3, 1 / 3, 0])
    assert KIND.signals(reference, state)["unseen_word_share"] == pytest.approx([0, 0, 0])


def test_digits_and_punctuation_are_shares_of_the_characters() -> None:
    assert signal("a1!?", "digit_share") == 0.25
    assert signal("a1!?", "punctuation_share") == 0.5
    assert signal("a1!?", "length_chars") == 4


def test_an_empty_text_has_a_length_and_no_shares() -> None:
    assert signal("", "length_chars") == 0
    assert signal("", "n_words") == 0
    assert np.isnan(signal("", "unseen_word_share"))


def test_without_a_reference_no_word_is_unseen_or_seen() -> None:
    assert np.isnan(KIND.signals([{"text": "a cat"}])["unseen_word_share"][0])


def test_a_missing_pooler_passes_on_what_it_gets() -> None:
    config = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = BertForSequenceClassification(config)
    soften_missing_pooler(model, ["bert.pooler.dense.weight", "bert.pooler.dense.bias"])
    hidden = torch.randn(2, 3, 8) / 4
    pooled = model.bert.pooler(hidden)
    assert pooled.detach().numpy() == pytest.approx(0.2 * hidden[:, 0].numpy(), abs=1e-2)


N_TOKENS = 400
FIXED = np.asarray([1, 2])
TEXTS = [np.asarray([1, *range(10 + 1000 * k, 10 + 1000 * k + N_TOKENS), 2]) for k in range(3)]


def noisy(epoch: int = 0, *, dropout: float = 0.0, swap: float = 0.0) -> NoisyTokens:
    ids = RowFile.of(TEXTS, np.int32)
    return NoisyTokens(TokenLists(ids, ids.lengths), (7, epoch), dropout, swap, 4, FIXED)


def test_a_share_of_the_tokens_is_hidden_and_the_ends_of_a_text_never() -> None:
    found = noisy(dropout=0.25).of(0)
    assert (found[0], found[-1]) == (1, 2)
    assert (found == 4).mean() == pytest.approx(0.25, abs=0.07)
    assert set(found.tolist()) <= {4, *TEXTS[0].tolist()}


def test_a_share_of_the_tokens_changes_places_and_none_is_lost() -> None:
    found = noisy(swap=0.2).of(1)
    assert sorted(found.tolist()) == sorted(TEXTS[1].tolist())
    assert (found[0], found[-1]) == (1, 2)
    assert 0.2 < (found != TEXTS[1]).mean() < 0.45


def test_noise_depends_on_the_row_and_the_epoch_alone() -> None:
    first, other = noisy(dropout=0.3, swap=0.3), noisy(1, dropout=0.3, swap=0.3)
    before = first.of(2)
    assert (first.of(0) != other.of(0)).any()
    assert (first.of(2) == before).all()
    assert ((first.of(0) == 4) != (first.of(1) == 4)).any()
