"""A PNG that is let in can be decoded; a damaged one is refused with the reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.domain.pictures import SIGNATURE, png_fault


def png(mode: str = "L", size: tuple[int, int] = (9, 7), seed: int = 0) -> bytes:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels, "RGBA").convert(mode).save(sink, "PNG")
    return sink.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def made(*, width=3, height=2, depth=8, colour=0, interlace=0, pixels=b"\0" * 8, extra=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    data = chunk(b"IDAT", zlib.compress(pixels))
    return SIGNATURE + chunk(b"IHDR", header) + extra + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (9, 7), (64, 3)])
def test_every_mode_and_size_is_taken(mode, size):
    source = "L" if mode.startswith("I") else mode
    sink = io.BytesIO()
    Image.open(io.BytesIO(png(source, size))).convert(mode).save(sink, "PNG")

    assert png_fault(sink.getvalue()) is None


def test_an_interlaced_picture_is_taken():
    n_bytes = 1 * 2 + 1 * 2 + 1 * 3 + 2 * 3 + 2 * 5 + 4 * 5 + 4 * 9

    data = made(width=8, height=8, interlace=1, pixels=b"\0" * n_bytes)

    assert png_fault(data) is None
    Image.open(io.BytesIO(data)).load()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GIF89a", "no PNG"),
        (png()[:-1], "truncated"),
        (png()[:40], "truncated"),
        (made(pixels=b"\0" * 7), "not as many pixels"),
        (made(pixels=b"\0" * 9), "not as many pixels"),
        (made(pixels=b"\5" + b"\0" * 7), "unknown filter"),
        (made(width=0), "no such pixels"),
        (made(depth=3), "no such pixels"),
        (made(colour=3), "palette"),
        (made(width=50_000, height=50_000), "at most 50000000"),
        (made(interlace=7), "unknown kind"),
        (SIGNATURE + chunk(b"IEND", b""), "IHDR"),
        (png().replace(b"IDAT", b"IDAX"), "checksum"),
    ],
)
def test_a_damaged_picture_is_refused_with_the_reason(data, said):
    assert said in png_fault(data)


@given(st.sampled_from(["1", "L", "P", "RGB", "RGBA"]), st.integers(0, 400), st.binary(min_size=1))
def test_what_is_taken_can_be_decoded_however_it_was_damaged(mode, place, noise):
    data = bytearray(png(mode))
    place %= len(data)
    data[place : place + len(noise)] = noise

    if png_fault(bytes(data)) is None:
        Image.open(io.BytesIO(bytes(data)), formats=("PNG",)).load()


@given(st.binary(max_size=100))
def test_whatever_the_bytes_there_is_an_answer(noise):
    assert png_fault(SIGNATURE + noise)
