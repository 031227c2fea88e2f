from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from saliency_guard import ImageError, MessageError
from saliency_guard.chat.messages import load_image, parse_messages


def png(size: tuple[int, int] = (6, 4), mode: str = "RGB", colour: Any = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a picture.png"
    file.write_bytes(png())
    return file


def test_images_in_every_form(path: Path) -> None:
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    forms = [
        {"type": "image", "image": Image.new("L", (6, 4))},
        {"type": "image", "image": np.zeros((4, 6, 3), dtype=np.uint8)},
        {"type": "image", "image": path},
        {"type": "image", "image": str(path)},
        {"type": "image", "path": str(path)},
        {"type": "image", "url": path.as_uri()},
        {"type": "image", "image": png()},
        {"type": "image", "image": bytearray(png())},
        {"type": "image", "image": url},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": url},
    ]
    found = parse_messages(user(*forms))
    assert [image.size for image in found.images] == [(6, 4)] * len(forms)
    assert {image.mode for image in found.images} == {"RGB"}


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
        ("no/such/file.png", "no image file"),
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


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "empty"),
        ("hello", "list of"),
        ([{"role": "robot", "content": "x"}], "role 'robot'"),
        ([{"role": "user"}], "no content"),
        ([{"role": "user", "content": []}], "no content"),
        ([{"content": "x"}], "role None"),
        (["x"], "role None"),
        (user({"type": "sound"}), "unknown type 'sound'"),
        (user({"type": "text"}), "unknown type|text"),
        (user({"type": "text", "text": "x", "source": "output"}), "cannot name a source"),
        (user({"type": "text", "text": "x", "source": "image_0"}), "cannot name a source"),
    ],
)
def test_malformed_messages_are_refused(messages: Any, complaint: str) -> None:
    with pytest.raises(MessageError, match=complaint):
        parse_messages(messages, require_image=False)


def test_no_image_is_refused_unless_text_alone_is_allowed() -> None:
    with pytest.raises(ImageError, match="no image in the messages"):
        parse_messages([{"role": "user", "content": "hello"}])
    assert parse_messages([{"role": "user", "content": "hello"}], require_image=False).images == ()
    with pytest.raises(ImageError, match="without an image"):
        parse_messages(user({"type": "image"}))


def test_named_texts_are_told(path: Path) -> None:
    found = parse_messages(
        [
            {"role": "system", "content": "Be brief."},
            *user({"type": "image", "image": path}, {"type": "text", "text": "D", "source": "document_1"}, "Q?"),
        ]
    )
    assert [(n.source, n.text) for n in found.texts] == [("system", "Be brief."), ("document_1", "D"), (None, "Q?")]
    assert [part["type"] for part in found.messages[1]["content"]] == ["image", "text", "text"]


def test_wide_greys_are_scaled_and_floats_refused() -> None:
    ramp = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG")
    found = np.asarray(load_image(buffer.getvalue()))[..., 0]
    assert np.abs(found - (ramp >> 8)).max() <= 1
    with pytest.raises(ImageError, match="8 bits"):
        load_image(Image.new("F", (4, 4)))


def test_base64_under_its_key() -> None:
    part = {"type": "image", "base64": base64.b64encode(png()).decode()}
    assert parse_messages(user(part)).images[0].size == (6, 4)
    url = f"data:image/png;charset=utf-8;base64,{part['base64']}"
    assert load_image(url).size == (6, 4)
    with pytest.raises(ImageError, match=r"damaged|format"):
        parse_messages(user({"type": "image", "base64": "a"}))
