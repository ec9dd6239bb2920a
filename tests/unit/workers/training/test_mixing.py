"""Rows are blended, and their labels by the same share."""

import numpy as np
import torch
from torch import nn

from workers.training.mixing import Mix, drawn, mixed_features, mixed_inputs, mixes_inputs

MIX = Mix(0.75, np.asarray([1, 0]))


def test_pictures_are_blended_and_rows_with_a_category_are_not() -> None:
    batch = {"pixel_values": torch.tensor([[0.0], [8.0]])}

    found = mixed_inputs(batch, MIX)

    assert mixes_inputs(batch)
    assert found["pixel_values"].tolist() == [[2.0], [6.0]]
    assert not mixes_inputs({"numbers": batch["pixel_values"], "places": torch.tensor([1, 0])})


def test_of_tokens_what_the_head_sees_is_blended_until_the_batch_is_over() -> None:
    head = nn.Linear(1, 1)
    rows = torch.tensor([[0.0], [8.0]])
    assert not mixes_inputs({"input_ids": torch.tensor([[1]])})

    with mixed_features(head, MIX):
        blended = head(rows)

    assert torch.allclose(blended, head(torch.tensor([[2.0], [6.0]])))
    assert not torch.allclose(head(rows), blended)


def test_the_loss_is_that_of_both_labels_by_their_shares() -> None:
    criterion = nn.CrossEntropyLoss()
    logits, truth = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])

    loss = MIX.loss(criterion, logits, truth)

    soft = torch.tensor([[0.75, 0.25], [0.25, 0.75]])
    assert torch.allclose(loss, criterion(logits, soft))


def test_a_weak_mix_is_nearly_none_and_a_strong_one_about_half() -> None:
    def shares(strength: float) -> np.ndarray:
        source = np.random.default_rng(0)
        return np.asarray([drawn(4, strength, source).share for _ in range(400)])

    assert np.mean(np.abs(shares(0.05) - 0.5) > 0.45) > 0.7
    assert np.abs(shares(10.0) - 0.5).mean() < 0.12
