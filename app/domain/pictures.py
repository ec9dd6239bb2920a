"""Is this a whole PNG, which whoever decodes it later will be able to decode?"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAXIMUM_PIXELS: Final = 50_000_000
_PALETTE: Final = 3
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS: Final = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_PASSES: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Adam7: column and row of each pass's first pixel, and its steps."""


Chunk = tuple[bytes, bytes, int]
"""Type, content and checksum."""


def png_fault(data: bytes) -> str | None:
    """Return what is wrong with a PNG file (ISO/IEC 15948); None when nothing is.

    Checked are the chunks, their checksums, the size of the picture, and that its compressed
    pixels are whole.
    """
    if not data.startswith(SIGNATURE):
        return "is no PNG"
    chunks = list(_chunks(data))
    fault = _chunks_fault(chunks)
    if fault is not None:
        return fault
    width, height, depth, colour, *kinds = struct.unpack(">IIBBBBB", chunks[0][1])
    fault = _header_fault(width, height, depth, colour, kinds)
    if fault is not None:
        return fault
    if colour == _PALETTE and not any(kind == b"PLTE" for kind, _, _ in chunks):
        return "is a damaged PNG: its palette is missing"
    rows = _row_lengths(width, height, depth * _CHANNELS[colour], is_interlaced=kinds[2] == 1)
    pixels = b"".join(body for kind, body, _ in chunks if kind == b"IDAT")
    return _pixels_fault(pixels, list(rows))


def _chunks_fault(chunks: Sequence[Chunk]) -> str | None:
    if not chunks or chunks[-1][0] != b"IEND":
        return "is a truncated PNG: its IEND chunk is missing"
    if any(zlib.crc32(kind + body) != crc for kind, body, crc in chunks):
        return "is a damaged PNG: a checksum is wrong"
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        return "is a damaged PNG: its IHDR chunk is not the first"
    return None


def _header_fault(
    width: int, height: int, depth: int, colour: int, kinds: Sequence[int]
) -> str | None:
    """Say what is wrong with a header; `kinds` are of compression, filtering and interlacing."""
    if not width or not height or depth not in _DEPTHS.get(colour, ()):
        return "is a damaged PNG: there are no such pixels"
    if tuple(kinds) not in {(0, 0, 0), (0, 0, 1)}:
        return "is a PNG of an unknown kind"
    if width * height > MAXIMUM_PIXELS:
        return f"has {width} x {height} pixels; at most {MAXIMUM_PIXELS} are allowed"
    return None


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Yield each chunk up to IEND, as far as they are whole."""
    place = len(SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 12 + length
        if end > len(data):
            return
        kind = data[place + 4 : place + 8]
        yield kind, data[place + 8 : end - 4], int.from_bytes(data[end - 4 : end])
        if kind == b"IEND":
            return
        place = end


def _row_lengths(
    width: int, height: int, bits: int, *, is_interlaced: bool
) -> Iterator[tuple[int, int]]:
    """Yield (number of rows, bytes of each with its filter) of each pass."""
    for column, row, across, down in _PASSES if is_interlaced else ((0, 0, 1, 1),):
        n_columns = -(-(width - column) // across) if width > column else 0
        n_rows = -(-(height - row) // down) if height > row else 0
        if n_columns and n_rows:
            yield n_rows, 1 + (n_columns * bits + 7) // 8


def _pixels_fault(compressed: bytes, passes: list[tuple[int, int]]) -> str | None:
    expected = sum(n_rows * length for n_rows, length in passes)
    reader = zlib.decompressobj()
    try:
        pixels = reader.decompress(compressed, expected + 1)
    except zlib.error:
        return "is a damaged PNG: its pixels cannot be decompressed"
    if len(pixels) != expected or not reader.eof:
        return "is a damaged PNG: it has not as many pixels as it says"
    place = 0
    for n_rows, length in passes:
        if max(pixels[place : place + n_rows * length : length]) > 4:
            return "is a damaged PNG: a row has an unknown filter"
        place += n_rows * length
    return None
