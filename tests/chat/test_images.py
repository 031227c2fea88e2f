"""Pictures in every form: what is read, and what is refused before it is read, decoded or handed to a program."""

from __future__ import annotations

import base64
import io
import os
import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from saliency_guard import LVLM, ConfigError, ImageError
from saliency_guard.chat.images import FORMATS, MAX_IMAGE_BYTES, LoadedImage, data_url_bytes, load_image
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation.labelling import write_records
from saliency_guard.evaluation.questions import Question

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def png(size: tuple[int, int] = (6, 4), mode: str = "RGB", colour: Any = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_loaded_picture_is_taken_as_it_is() -> None:
    given = Image.new("RGB", (8, 8), "red")
    loaded = load_image(given)
    assert loaded is not given
    assert load_image(LoadedImage(loaded)) is loaded


def test_long_base64_is_read_as_such() -> None:
    buffer = io.BytesIO()
    Image.effect_noise((60, 60), 90).save(buffer, "PNG")
    assert load_image(base64.b64encode(buffer.getvalue()).decode()).size == (60, 60)


def test_transparency_is_laid_on_white() -> None:
    assert load_image(png(mode="RGBA", colour=(255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_exif_orientation_is_followed() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(buffer, "JPEG", exif=exif)
    assert load_image(buffer.getvalue()).size == (4, 8)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (b"not a picture", "no image in a format"),
        (png((90, 90))[:60], "cannot be read"),
        ("no/such/file.png", "No such file"),
        ("https://example.com/a.png", "not fetched"),
        ("data:text/plain,hello", "no base64 image"),
        (np.zeros((4, 6, 9)), "cannot be read"),
        (17, "cannot be made of int"),
        (None, "cannot be made of NoneType"),
    ],
)
def test_what_is_no_image_is_refused(source: Any, complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint):
        load_image(source)


def test_an_image_over_the_limit_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ImageError, match="limit of 20"):
        load_image(png((6, 4)), max_pixels=20)
    huge = Image.new("1", (15_000, 15_000))
    buffer = io.BytesIO()
    huge.save(buffer, "PNG")
    with pytest.raises(ImageError, match="limit"):
        load_image(buffer.getvalue())


def test_wide_greys_are_scaled_and_floats_refused() -> None:
    ramp = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG")
    found = np.asarray(load_image(buffer.getvalue()))[..., 0]
    assert np.abs(found - (ramp >> 8)).max() <= 1
    with pytest.raises(ImageError, match="8 bits"):
        load_image(Image.new("F", (4, 4)))


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Ghostscript that leaves a file where it was run."""
    trace = tmp_path / "ran"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho run >> {trace}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return trace


def eps_in_every_form(folder: Path) -> list[Any]:
    path = folder / "a.png"
    path.write_bytes(EPS)
    b64 = base64.b64encode(EPS).decode()
    return [
        EPS,
        path,
        str(path),
        path.as_uri(),
        f"data:image/png;base64,{b64}",
        f"data:application/postscript;base64,{b64}",
        b64 + "\n" * 1024,
        Image.open(io.BytesIO(EPS)),
    ]


def test_no_program_is_run_for_a_picture(ran: Path, tmp_path: Path, lvlm: LVLM) -> None:
    with pytest.raises(OSError, match=r"."):
        Image.open(io.BytesIO(EPS)).load()  # What Pillow does by itself.
    assert ran.exists()
    ran.unlink()
    for form in eps_in_every_form(tmp_path):
        with pytest.raises(ImageError, match="PNG, JPEG"):
            load_image(form)
        with pytest.raises(ImageError, match="PNG, JPEG"):
            lvlm.inputs(chat(form, "What is there?"))
    question = Question("a", (tmp_path / "a.png",), "What is there?", lambda _: None)
    with pytest.raises(ImageError, match="PNG, JPEG"):
        list(write_records(lvlm, [question]))
    assert not ran.exists()


@pytest.mark.parametrize("name", FORMATS)
def test_the_formats_that_are_read(name: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(buffer, name)
    assert load_image(buffer.getvalue()).size == (6, 4)
    assert load_image(Image.open(buffer)).size == (6, 4)


def test_other_formats_are_not(tmp_path: Path) -> None:
    for name in ("TGA", "ICO", "PCX"):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), "red").save(buffer, name)
        with pytest.raises(ImageError, match="PNG, JPEG"):
            load_image(buffer.getvalue())
        with pytest.raises(ImageError, match="convert"):
            load_image(Image.open(buffer))
        assert load_image(Image.open(buffer).convert("RGB")).size == (16, 16)


def test_a_jpeg_of_several_pictures_is_one() -> None:
    buffer = io.BytesIO()
    first = Image.new("RGB", (6, 4), "red")
    first.save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (6, 4), "blue")])
    opened = Image.open(buffer)
    assert opened.format == "MPO"
    assert load_image(buffer.getvalue()).size == load_image(opened).size == (6, 4)


@pytest.fixture
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


@pytest.mark.parametrize("size", [40 * 2**30, 3 * 2**30, MAX_IMAGE_BYTES + 1])
def test_files_over_the_limit_are_refused_unread(tmp_path: Path, size: int, little_memory: None) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    os.truncate(path, size)  # Sparse: it takes no room on the disk.
    began = time.monotonic()
    for form in (path, str(path), path.as_uri()):
        with pytest.raises(ImageError, match=f"limit of {MAX_IMAGE_BYTES}"):
            load_image(form)
    assert time.monotonic() - began < 2


def test_bytes_and_base64_over_the_limit_are_refused_undecoded(little_memory: None) -> None:
    content = png() + bytes(3_000_000)
    b64 = base64.b64encode(content).decode()
    del content
    forms = [bytearray(3_000_000), memoryview(bytes(3_000_000)), b64, f"data:image/png;base64,{b64}"]
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    for form in forms:
        with pytest.raises(ImageError, match="limit of 1000000"):
            load_image(form, max_bytes=1_000_000)
    assert tracemalloc.get_traced_memory()[1] - before < 100_000
    with pytest.raises(ImageError, match="limit of 1000000"):
        data_url_bytes(forms[-1], max_bytes=1_000_000)
    assert load_image(b64, max_bytes=4_000_000).size == (6, 4)


def test_a_model_s_own_limit_of_bytes(lvlm: LVLM) -> None:
    strict = LVLM(lvlm.model, lvlm.processor, max_image_bytes=50)
    for part in (
        {"type": "image", "image": png((90, 90))},
        {"type": "image", "base64": base64.b64encode(png((90, 90))).decode()},
    ):
        with pytest.raises(ImageError, match="limit of 50"):
            strict.inputs([{"role": "user", "content": [part, "What is there?"]}])
    for wrong in (0, -1, 1.5, "x", None):
        with pytest.raises(ConfigError, match="max_image_bytes"):
            LVLM(lvlm.model, lvlm.processor, max_image_bytes=wrong)  # type: ignore[arg-type]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    link = tmp_path / "link.png"
    link.symlink_to(fifo)
    for path in (fifo, link, Path("/dev/zero"), Path("/dev/tty"), tmp_path):
        for form in (path, str(path), path.as_uri()):
            with pytest.raises(ImageError, match="cannot read an image"):
                load_image(form)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("HTTP://127.0.0.1/a.png", "not fetched"),
        (" https://127.0.0.1/a.png", "not fetched"),
        ("ftp://127.0.0.1/a.png", "not fetched"),
        ("file://evil.net/a.png", "another machine"),
        ("file://[/a.png", "no URL"),
        ("a\0b.png", "cannot read"),
        ("x" * 900, "cannot read"),
        ("=" * 2000, "format"),
        ("data:image/png;base64,A", "damaged"),
        ("data:image/png,abc", "no base64 image"),
        ("data:image/png;base64", "no base64 image"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 0, 3), np.uint8), "empty"),
        (np.zeros((4,), np.uint8), "shape"),
        (np.uint8(7), "shape"),
        (np.zeros((1, 4, 4, 3), np.uint8), "shape"),
        (np.full((4, 4), np.nan, np.float32), "unknown range"),
        (np.full((4, 4, 3), np.nan), "cannot be read"),
        (np.zeros((4, 4, 3), np.complex64), "cannot be read"),
        (np.zeros((4, 4), "datetime64[s]"), "cannot be read"),
        (np.full((4, 4), None), "cannot be read"),
        (np.full((4, 4), "x"), "cannot be read"),
        (np.zeros((4, 4), [("a", "u1")]), "cannot be read"),
        (np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (10**6, 10**6, 3)), "limit of 50000000"),
        (Image.new("RGB", (0, 4)), "empty"),
        (Image.new("RGB", (0, 0)), "empty"),
        (Image.new("I", (4, 4)), "unknown range"),
        ([1, 2], "cannot be made of list"),
        ({"a": 1}, "cannot be made of dict"),
        (b"", "format"),
        (memoryview(b""), "format"),
    ],
)
def test_strange_sources_are_errors_of_ours(source: Any, complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint):
        load_image(source)


def test_a_closed_picture_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    closed = Image.open(path)
    closed.close()
    with pytest.raises(ImageError, match="cannot be read"):
        load_image(closed)


def test_what_raises_when_it_is_looked_at_is_an_error_of_ours() -> None:
    class Broken:
        @property
        def __array_interface__(self) -> Any:
            raise KeyError(self)

    with pytest.raises(ImageError, match="Broken"):
        load_image(Broken())


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(size: tuple[int, int], bits: int, kind: int, rows: bytes, clear: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, kind, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"tRNS", clear)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_a_transparent_grey_of_16_bits_is_laid_on_white() -> None:
    values = (0x1234, 0x1235, 0x8000, 0xFFFF)
    image = load_image(raw_png((4, 1), 16, 0, b"\0" + struct.pack(">4H", *values), struct.pack(">H", 0x1234)))
    assert np.asarray(image)[0, :, 0].tolist() == [255, 0x12, 0x80, 0xFF]


@pytest.mark.parametrize(("bits", "row", "step"), [(2, 0b00_01_10_11, 85), (4, 0x12, 17)])
def test_transparent_greys_of_few_bits_are_laid_on_white(bits: int, row: int, step: int) -> None:
    image = load_image(raw_png((8 // bits, 1), bits, 0, bytes([0, row]), struct.pack(">H", 1)))
    wanted = [255 if value == 1 else value * step for value in ((0, 1, 2, 3) if bits == 2 else (1, 2))]
    assert np.asarray(image)[0, :, 0].tolist() == wanted


def test_a_transparent_colour_of_16_bits_is_refused() -> None:
    row = b"\0" + struct.pack(">3H", 0x1234, 0x1111, 0xFFFF)
    with pytest.raises(ImageError, match="16 bits a colour"):
        load_image(raw_png((1, 1), 16, 2, row, struct.pack(">3H", 0x1234, 0x1111, 0xFFFE)))


@pytest.mark.parametrize("size", [(1, 65_536), (65_536, 1)])
def test_a_side_that_is_far_too_long_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="side over the limit of 65535"):
        load_image(Image.new("RGB", size))
    assert load_image(Image.new("RGB", (1, 65_535))).size == (1, 65_535)
