"""Signals of texts, and the pooler of a base that has none."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from workers.task_types.text_classification import TextClassification, soften_missing_pooler

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
