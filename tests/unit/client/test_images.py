"""How does a picture travel in JSON, and how is it read again?"""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from upkeep.images import PNG_SIGNATURE, decode, encode, encoded

gray = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12))
colour = array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(
    lambda shape: arrays(np.uint8, (*shape, 3))
)


@given(pixels=st.one_of(gray, colour))
def test_no_pixel_changes_on_the_way(pixels):
    assert np.array_equal(np.asarray(decode(encode(pixels))), pixels)
    assert np.array_equal(np.asarray(decode(encode(Image.fromarray(pixels)))), pixels)


def _file(picture, kind):
    file = io.BytesIO()
    picture.save(file, format=kind)
    return file.getvalue()


@pytest.fixture
def picture():
    return Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))


def test_the_bytes_of_a_png_are_passed_on(picture):
    content = _file(picture, "PNG")
    assert base64.b64decode(encode(content)) == content


def test_another_kind_of_file_becomes_a_png(picture):
    assert base64.b64decode(encode(_file(picture, "JPEG"))).startswith(PNG_SIGNATURE)


def test_base64_is_passed_on():
    assert encode("aGVsbG8=") == "aGVsbG8="


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "F", "I"])
def test_every_mode_of_pillow_can_travel(picture, mode):
    assert decode(encode(picture.convert(mode))).size == (8, 6)


def test_values_of_arrays_and_tables_become_plain_and_nan_is_missing():
    row = {"n": np.int64(3), "x": np.float64("nan"), "y": float("nan"), "flag": np.bool_(True)}
    found = encoded(row)
    assert found == {"n": 3, "x": None, "y": None, "flag": True}
    assert {type(found["n"]), type(found["flag"])} == {int, bool}


def test_an_input_keeps_what_is_no_picture(picture):
    found = encoded({"image": picture, "camera": "north", "lux": 3.5})
    assert decode(found["image"]).size == (8, 6)
    assert (found["camera"], found["lux"]) == ("north", 3.5)


@pytest.mark.parametrize(
    "value",
    [
        "not base64!",
        base64.b64encode(b"no picture").decode(),
        b"no picture",
        np.zeros((4, 4), dtype=np.float32),
        np.zeros((4, 4, 2), dtype=np.uint8),
        np.zeros((0, 4), dtype=np.uint8),
    ],
)
def test_what_is_no_picture_is_refused_with_what_would_work(value):
    with pytest.raises(ValueError, match="pass"):
        decode(value)


def test_a_torn_file_is_refused(picture):
    with pytest.raises(ValueError, match="cannot be read"):
        decode(_file(picture, "PNG")[:-30])


def test_a_picture_too_large_for_memory_is_refused_before_it_is_unpacked():
    bomb = _file(Image.new("1", (12_000, 6_000)), "PNG")
    with pytest.raises(ValueError, match="12000 x 6000 pixels"):
        decode(bomb)
