"""Pictures of random and damaged bytes: a picture or an `ImageError`, within bounds of time and memory."""

from __future__ import annotations

import base64
import functools
import io
import time
import tracemalloc
import warnings
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from saliency_guard import ImageError
from saliency_guard.chat.images import FORMATS, load_image

EACH = timedelta(seconds=60)  # Of the clock: other work may hold a machine up.
SECONDS = 3
"""That the processor may be busy with one picture."""

MANY = settings(max_examples=3_000, deadline=EACH, suppress_health_check=list(HealthCheck))
MOST = 100_000
"""Pixels."""

MEMORY = 20_000_000
"""Bytes that Python may take for one picture: far more than the pixels of one need."""


@functools.cache
def file(kind: str, mode: str, size: tuple[int, int]) -> bytes:
    """A picture with all that its format may hold beside the pixels."""
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(noise).convert("RGB").convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    extras: dict[str, Any] = {"exif": exif} if kind in {"PNG", "JPEG", "WEBP"} else {}
    if kind == "GIF":
        extras = {"save_all": True, "append_images": [image.rotate(90)], "transparency": 1, "comment": b"x"}
    if kind == "PNG" and mode in {"P", "L"}:
        extras["transparency"] = 1
    if kind == "JPEG":
        extras |= {"progressive": True, "icc_profile": b"profile", "comment": b"x"}
    if kind == "TIFF":
        extras |= {"compression": "tiff_lzw"}
    buffer = io.BytesIO()
    image.save(buffer, kind, **extras)
    return buffer.getvalue()


MODES = {"JPEG": ["RGB", "L", "CMYK"], "GIF": ["P", "L"], "WEBP": ["RGB", "RGBA"], "PPM": ["RGB", "L"]}
KINDS = [(kind, mode) for kind in FORMATS for mode in MODES.get(kind, ["RGB", "L", "P", "1"])]
files = st.builds(
    lambda kind, size: file(*kind, size), st.sampled_from(KINDS), st.sampled_from([(1, 1), (7, 5), (40, 33)])
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A picture's file with a few bytes changed, taken out, put in or cut off; more often in its headers."""
    content = bytearray(draw(files))
    for _ in range(draw(st.integers(0, 8))):
        end = draw(st.sampled_from([32, 128, len(content)]))
        at = draw(st.integers(0, max(0, min(end, len(content)) - 1)))
        how = draw(st.sampled_from(["set", "extreme", "delete", "insert", "repeat", "cut"]))
        if how == "set":
            content[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif how == "extreme":
            content[at : at + 4] = draw(
                st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
            )
        elif how == "delete":
            del content[at : at + draw(st.integers(1, 16))]
        elif how == "insert":
            content[at:at] = draw(st.binary(max_size=16))
        elif how == "repeat":
            content[at:at] = content[at : at + 64]
        else:
            del content[draw(st.integers(0, len(content))) :]
    return bytes(content)


def check(source: Any) -> None:
    """A picture, or an error of ours that is short."""
    complaint = ""
    began = time.process_time()
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # As in production: what Pillow warns of is looked at all the same.
            image = load_image(source, max_pixels=MOST, max_bytes=1_000_000)
        assert image.mode == "RGB"
        assert 0 < image.width * image.height <= MOST
        image.tobytes()
    except ImageError as error:
        complaint = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.process_time() - began < SECONDS
    assert peak < MEMORY
    assert len(complaint) < 2_000


@given(damaged())
@MANY
def test_damaged_files(content: bytes) -> None:
    check(content)


@given(damaged())
@settings(MANY, max_examples=500)
def test_damaged_files_in_base64(content: bytes) -> None:
    b64 = base64.b64encode(content).decode()
    check(f"data:image/png;base64,{b64}")
    check(b64 + "\n" * 1_025)


@given(st.binary(max_size=4_000))
@settings(MANY, max_examples=1_000)
def test_random_bytes(content: bytes) -> None:
    check(content)


MAGIC = [
    *[b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xe1\0\x20Exif\0\0", b"GIF89a", b"BM"],
    *[b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0", b"RIFF\xff\xff\0\0WEBPVP8 ", b"P6 ", b"P3 ", b"Pf\n"],
    *[b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\xc5\xd0\xd3\xc6", b"8BPS", b"\0\0\1\0\1\0"],
]


@given(st.sampled_from(MAGIC), st.binary(max_size=2_000))
@MANY
def test_random_bytes_behind_a_format_s_first_ones(magic: bytes, content: bytes) -> None:
    check(magic + content)


@given(st.text(max_size=3_000), st.sampled_from(["", "data:", "data:image/png;base64,", "file:", "file:///", "http:"]))
@settings(MANY, max_examples=2_000)
def test_random_texts(text: str, before: str) -> None:
    check(before + text)


DTYPES = ["u1", "i1", "?", "u2", ">u2", "i2", "i4", "u4", "i8", "f2", "f4", "f8", "c8", "O", "U3", "S3", "M8[s]", "V4"]


@given(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=5), st.booleans())
@settings(MANY, max_examples=2_000)
def test_arrays(dtype: str, shape: list[int], turned: bool) -> None:
    array = np.zeros(shape, dtype)
    if array.dtype.kind == "f":
        array += np.nan
    check(array.T if turned else array)
    if array.size:
        check(np.broadcast_to(array.reshape(-1)[:1].reshape(1, 1), (10**5, 10**5)))


IMAGE_MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "RGBa", "La", "I;16"]


@given(
    st.sampled_from(IMAGE_MODES),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.one_of(st.none(), st.integers(-5, 10**6), st.binary(max_size=800), st.tuples(st.integers(), st.integers())),
    st.one_of(st.none(), st.binary(max_size=60)),
)
@settings(MANY, max_examples=2_000)
def test_pictures_of_every_mode(mode: str, size: tuple[int, int], clear: Any, exif: bytes | None) -> None:
    image = Image.new(mode, size)
    if clear is not None:
        image.info["transparency"] = clear
    if exif is not None:
        image.info["exif"] = exif
    check(image)


@given(damaged())
@settings(MANY, max_examples=1_000)
def test_files_that_somebody_else_opened(content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(content))
        except Exception:  # noqa: BLE001 - what Pillow does alone is not looked at here
            return
    check(image)
    image.close()
    check(image)


@pytest.mark.parametrize("kind", KINDS)
def test_every_length_of_a_file(kind: tuple[str, str]) -> None:
    content = file(*kind, (7, 5))
    for size in range(0, len(content), max(1, len(content) // 300)):
        check(content[:size])
