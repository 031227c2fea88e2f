"""Pictures loaded safely: from every form they come in, to RGB, within limits on their bytes and pixels.

Only formats that Pillow reads by itself are opened, whatever a file is called: never one that has another program
look at it, as EPS has Ghostscript. Nothing is ever fetched from the network.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from saliency_guard.chat.fetch import fetched, scheme_of
from saliency_guard.errors import ImageError, InputError, shown
from saliency_guard.storage import read_file

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""The formats that are read."""

MAX_IMAGE_PIXELS = 50_000_000
"""Images with more pixels are refused before they are decoded."""

MAX_IMAGE_SIDE = 65_535
"""Images with a longer side are refused: that is JPEG's limit, and resizing a line of many millions takes minutes."""

MAX_IMAGE_BYTES = 200_000_000
"""Images of more bytes, as a file or encoded in any way, are refused before they are read."""

_OPENED_AS = {*FORMATS, "MPO"}  # What Pillow calls a JPEG with several pictures.
_DATA_HEADER = re.compile(r"data:[^,]*;base64", re.IGNORECASE)
_LONGEST_HEADER = 1024
_LONGEST_PATH = 1024
_STEPS = {"L;2": 85, "L;4": 17}  # Pillow scales such greys to 8 bits, and not the one that is transparent.


@dataclass(frozen=True, slots=True, eq=False)
class LoadedImage:
    """A picture that `load_image` returned, for other messages that show it: it is neither checked nor copied again."""

    image: Image.Image


def load_image(source: Any, *, max_pixels: int = MAX_IMAGE_PIXELS, max_bytes: int = MAX_IMAGE_BYTES) -> Image.Image:
    """An RGB picture from a PIL picture, an array, a path, bytes, a base64 string, a data URL or a `LoadedImage`.

    Turned as its EXIF orientation says; transparency is laid on white.

    Args:
        source: the picture.
        max_pixels: the most it may have.
        max_bytes: the most it may take as a file.

    Raises:
        ImageError: if the source is none of these, cannot be read, is of no format in `FORMATS`, or is too large.
    """
    if isinstance(source, LoadedImage):
        return source.image
    try:
        picture = _open(source, max_pixels, max_bytes)
        _require_size(*picture.size, max_pixels)
        return _rgb(picture)
    except ImageError:
        raise
    except InputError as error:
        raise ImageError(str(error)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        msg = f"image is over the limit of {max_pixels} pixels: {error}"
        raise ImageError(msg) from error
    except UnidentifiedImageError as error:
        msg = f"{_named(source)} is no image in a format that is read: {', '.join(FORMATS)}"
        raise ImageError(msg) from error
    except Exception as error:  # Decoders raise whatever a damaged file leads them to.
        msg = f"{_named(source)} cannot be read as an image: {error or type(error).__name__}"
        raise ImageError(msg) from error


def _open(source: Any, max_pixels: int, max_bytes: int) -> Image.Image:
    if isinstance(source, Image.Image):
        return _require_format(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        _require_bytes(source.nbytes if isinstance(source, memoryview) else len(source), max_bytes)
        return _of_bytes(bytes(source))
    if isinstance(source, Path):
        return _of_bytes(_read(source, max_bytes))
    if isinstance(source, str):
        return _of_bytes(_bytes_of(source, max_bytes))
    if hasattr(source, "__array_interface__"):
        return _of_array(np.asarray(source), max_pixels)
    msg = f"an image cannot be made of {type(source).__name__}: give a PIL picture, a path, bytes or a data URL"
    raise ImageError(msg)


def _of_bytes(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _of_array(array: np.ndarray[Any, Any], max_pixels: int) -> Image.Image:
    if array.ndim not in {2, 3}:
        msg = f"an array of shape {array.shape} is no image: give height x width, or height x width x 3"
        raise ImageError(msg)
    _require_size(array.shape[1], array.shape[0], max_pixels)
    return Image.fromarray(array)


def _require_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        msg = f"image of {width} x {height} pixels is over the limit of {max_pixels}: scale it down first"
        raise ImageError(msg)
    if max(width, height) > MAX_IMAGE_SIDE:
        msg = f"image of {width} x {height} pixels has a side over the limit of {MAX_IMAGE_SIDE}: scale it down first"
        raise ImageError(msg)
    if width <= 0 or height <= 0:
        msg = f"image of {width} x {height} pixels is empty"
        raise ImageError(msg)


def _require_format(picture: Image.Image) -> Image.Image:
    """Refuse a picture of another format that is not decoded yet: decoding would happen here."""
    if isinstance(picture, ImageFile.ImageFile) and picture.format not in _OPENED_AS:
        msg = (
            f"a picture from a {picture.format} file is not decoded here: only {', '.join(FORMATS)} are; where the "
            "file is trusted, pass picture.convert('RGB')"
        )
        raise ImageError(msg)
    return picture


def _bytes_of(source: str, max_bytes: int) -> bytes:
    """What a text stands for: a data URL, a file's URL or path, or base64."""
    _require_bytes(len(source) * 3 // 4 - _LONGEST_HEADER, max_bytes)
    scheme = scheme_of(source)
    if scheme == "data":
        return data_url_bytes(source, max_bytes=max_bytes)
    if scheme in {"http", "https"}:
        return fetched(source, None)
    if scheme == "file":
        return _read(file_of_url(source), max_bytes)
    if scheme and "://" in source[:_LONGEST_HEADER]:
        msg = f"{_named(source)} is not fetched: pass the image's bytes or path"
        raise ImageError(msg)
    if len(source) > _LONGEST_PATH:
        return decoded_base64(source, max_bytes=max_bytes)
    return _read(Path(source), max_bytes)


def data_url_bytes(url: str, *, max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    """What a data URL in base64 holds.

    Raises:
        ImageError: if it is none, damaged, or too large.
    """
    text = url.strip()
    comma = text.find(",", 0, _LONGEST_HEADER)
    if comma < 0 or not _DATA_HEADER.fullmatch(text[:comma]):
        msg = "the data URL holds no base64 image: data:image/png;base64,..."
        raise ImageError(msg)
    return decoded_base64(text[comma + 1 :], max_bytes=max_bytes)


def decoded_base64(data: str | bytes, *, max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    """What base64 says.

    Raises:
        ImageError: if it is damaged, or too large.
    """
    _require_bytes(len(data) * 3 // 4 - 2, max_bytes)
    try:
        return base64.b64decode(data, validate=False)
    except (binascii.Error, ValueError) as error:
        msg = f"the image's base64 data is damaged: {error}"
        raise ImageError(msg) from error


def file_of_url(url: str) -> Path:
    """The file of this machine that a ``file:`` URL names.

    Raises:
        ImageError: if it names one of another machine.
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError as error:
        msg = f"{_named(url)} is no URL of a file: {error}"
        raise ImageError(msg) from error
    if parts.netloc.casefold() not in {"", "localhost"}:
        msg = f"{_named(url)} is a file of another machine: pass the image's bytes or path"
        raise ImageError(msg)
    return Path(unquote(parts.path))


def _read(path: Path, max_bytes: int) -> bytes:
    # Read whole, so that no file stays open behind a picture that is decoded later.
    return read_file(path, max_bytes=max_bytes, name="an image")


def _require_bytes(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        msg = f"image of {size} bytes is over the limit of {max_bytes}: scale it down, or compress it, first"
        raise ImageError(msg)


def _rgb(picture: Image.Image) -> Image.Image:
    tiles = getattr(picture, "tile", None)
    raw_mode = tiles[0][3] if tiles and picture.format == "PNG" else picture.mode
    turned = _eight_bits(ImageOps.exif_transpose(picture), raw_mode)
    if turned.has_transparency_data:
        rgba = turned.convert("RGBA")
        turned = Image.new("RGB", rgba.size, "white")
        turned.paste(rgba, mask=rgba.getchannel("A"))
    return turned.convert("RGB")


def _eight_bits(picture: Image.Image, raw_mode: Any) -> Image.Image:
    """Pillow clips wider pixels to 255 instead of scaling them: scale 16 bits, refuse what has no known range.

    Args:
        picture: a copy of what was opened.
        raw_mode: of the pixels in a PNG file.
    """
    clear = picture.info.get("transparency")
    if picture.mode.startswith("I;16") or raw_mode == "I;16B":
        wide = np.asarray(picture)
        grey = Image.fromarray((wide >> 8).astype(np.uint8))
        if isinstance(clear, int):
            grey.putalpha(Image.fromarray(np.where(wide == clear, 0, 255).astype(np.uint8)))
        return grey
    if picture.mode in {"I", "F"}:
        msg = f"image has {picture.mode!r} pixels of unknown range: convert it to 8 bits first"
        raise ImageError(msg)
    if raw_mode == "RGB;16B" and clear is not None:
        msg = "image has 16 bits a colour and a transparent one, of which 8 bits are lost: convert it to 8 bits first"
        raise ImageError(msg)
    if raw_mode in _STEPS and isinstance(clear, int):
        picture.info["transparency"] = clear * _STEPS[raw_mode]
    return picture


def _named(source: Any) -> str:
    return shown(str(source)[:300]) if isinstance(source, (str, Path)) else "the image"
