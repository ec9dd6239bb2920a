"""Pictures become numbers the way transformers does it, and their signals mean what they say."""

import base64
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from workers.training.errors import DataError, RecipeError
from workers.training.files import write_json
from workers.training.pictures import SIGNALS, Preprocessing, augment, decode, picture_signals


def encoded(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def signals(pixels: np.ndarray) -> dict[str, float]:
    return dict(zip(SIGNALS, picture_signals({"image": encoded(pixels)}), strict=True))


@pytest.mark.parametrize(("n_channels", "mode"), [(1, "L"), (3, "RGB")])
def test_pixels_are_what_the_library_makes_of_the_same_file(
    tmp_path: Path, n_channels: int, mode: str
) -> None:
    draw = np.random.default_rng(0)
    picture = Image.fromarray(draw.integers(0, 255, (11, 17, 3), dtype=np.uint8)).convert(mode)
    config = SimpleNamespace(num_channels=n_channels)
    ours = Preprocessing.suited(config, {"image_mean": [0.4, 0.5, 0.6]}, default_size=24)
    ours.write(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "vit", "num_channels": n_channels})
    theirs = AutoImageProcessor.from_pretrained(tmp_path)([picture], return_tensors="pt")
    pixels = torch.tensor(ours.pixels(picture))[None].float()
    assert torch.allclose(ours.normalise(pixels), theirs["pixel_values"], atol=1e-5)
    assert Preprocessing.read(tmp_path) == ours


def test_a_base_that_crops_gets_a_plain_resize() -> None:
    made = Preprocessing.suited(
        SimpleNamespace(num_channels=3), {"size": {"shortest_edge": 64}}, default_size=32
    )
    assert made.shape == (3, 64, 64)


@pytest.mark.parametrize("stated", [None, {"size": {"shortest_edge": 9}}, {"do_center_crop": True}])
def test_a_version_with_other_steps_is_refused(tmp_path: Path, stated: Any) -> None:
    write_json(tmp_path / "preprocessor_config.json", stated)
    with pytest.raises(RecipeError):
        Preprocessing.read(tmp_path)


@pytest.mark.parametrize("value", [None, 3, "", "AAAA", "not base64 at all!"])
def test_what_is_no_picture_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="base64"):
        decode(value)


def test_a_picture_of_too_many_pixels_is_refused() -> None:
    file = io.BytesIO()
    Image.new("1", (9000, 9000)).save(file, "PNG")
    with pytest.raises(DataError, match="pixels"):
        decode(base64.b64encode(file.getvalue()).decode())


def test_a_half_white_picture_has_half_brightness() -> None:
    pixels = np.zeros((8, 8), dtype=np.uint8)
    pixels[:, 4:] = 255
    found = signals(pixels)
    assert found["brightness"] == 0.5
    assert found["contrast"] == 0.5
    assert (found["width"], found["height"]) == (8, 8)


def test_ink_is_what_differs_from_the_border() -> None:
    pixels = np.full((10, 10), 255, dtype=np.uint8)
    pixels[4:6, 4:9] = 0
    assert signals(pixels)["ink_share"] == pytest.approx(0.1)


def test_a_blurred_picture_is_less_sharp() -> None:
    draw = np.random.default_rng(0)
    sharp = draw.integers(0, 255, (16, 16), dtype=np.uint8)
    blurred = np.asarray(Image.fromarray(sharp).resize((4, 4)).resize((16, 16)))
    assert signals(blurred)["sharpness"] < signals(sharp)["sharpness"]


def test_augmentation_depends_on_the_draw_alone_and_none_changes_nothing() -> None:
    pixels = torch.rand(4, 1, 12, 12)
    once, again = (augment(pixels, "shift-rotate", np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(once, again)
    assert not torch.equal(once, pixels)
    assert augment(pixels, "none", np.random.default_rng(5)) is pixels
