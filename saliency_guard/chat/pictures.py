"""Which positions of a prompt are which picture's: rows, tiles and pictures that touch are told apart."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import PretrainedConfig

from saliency_guard.errors import UnsupportedModelError

Piece = tuple[int, int, int]
"""Number of a picture, start and stop of one of its pieces."""

_BEGINNING = ("boi_token_id", "boi_token_index", "vision_start_token_id")
"""What configs call a token that stands before every picture, and nowhere inside of one."""

_MARKED = frozenset({"idefics3", "smolvlm", "aya_vision"})
"""Families that write a mark before every tile of a picture; that of its last tile is the same for all pictures."""

_PARTED = frozenset({"cohere2_vision", "fuyu", "lfm2_vl", "lfm3_vl"})
"""Families that part tiles or rows of a picture by a single token, and pictures by several."""

_UNCLEAR = frozenset({"idefics2"})
"""Families that may part the tiles of a picture, and two pictures, by the same single token."""


PIXELS = ("pixel_values", "image_pixel_values", "image_patches", "flattened_patches")
"""What the names of pictures among a processor's outputs begin with."""


def holds_pixels(name: str) -> bool:
    """Whether an output of a processor, by its name, holds pictures."""
    return name.startswith(PIXELS)


def picture_token(config: Any, kind: str = "image") -> int | None:
    """The token that stands for a picture's positions, as configs call it; some leave it to that of the tower."""
    for part in (config, getattr(config, "vision_config", None)):
        for name in (f"{kind}_token_id", f"{kind}_token_index"):
            token = getattr(part, name, None)
            if isinstance(token, int):
                return token
    return None


Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture, from 0 to 1."""


class PictureMemo:
    """What a processor made of pictures, for other prompts that show the same ones."""

    def __init__(self) -> None:
        self._images: tuple[Image.Image, ...] = ()
        self._made: tuple[Any, ...] | None = None

    def show(self, images: Sequence[Image.Image]) -> None:
        """Say what the next prompt shows; what was made of other pictures is forgotten."""
        same = len(images) == len(self._images) and all(map(_same_picture, images, self._images))
        if not same:
            self._images, self._made = tuple(images), None

    def made(self, make: Callable[[], Any]) -> Any:
        """What the processor makes of the pictures shown, made once."""
        if self._made is None:
            self._made = tuple(make())
        return tuple(copy.copy(each) for each in self._made)  # The processor takes entries out.


def _same_picture(image: Image.Image, other: Image.Image) -> bool:
    return image is other or (
        (image.size, image.mode) == (other.size, other.mode) and image.tobytes() == other.tobytes()
    )


class PictureCounter:
    """Notes how many positions the processor gives each picture.

    Args:
        processor: left as it is.
        memo: keeps what it makes of the pictures; None makes them anew.

    Attributes:
        processor: to be used in its place.
    """

    def __init__(self, processor: Any, memo: PictureMemo | None = None) -> None:
        self.processor = processor
        # Not asked of self below: a ring of references would keep the pictures until the garbage is collected.
        self._replacements = replacements = list[str]()
        process = getattr(processor, "_process_images", None)
        if process is None:
            return

        def noted(*arguments: Any, **named: Any) -> Any:
            made = process(*arguments, **named) if memo is None else memo.made(lambda: process(*arguments, **named))
            replacements[:] = [text for text in made[1] if isinstance(text, str)]
            return made

        self.processor = copy.copy(processor)
        self.processor._process_images = noted

    def sizes(self, token: str, total: int) -> list[int] | None:
        """Positions of each picture; None where the processor did not tell, or not of all ``total``.

        Args:
            token: that stands for a picture's positions.
            total: how many of them are in the prompt.
        """
        counts = [text.count(token) for text in self._replacements]
        return counts if counts and all(counts) and sum(counts) == total else None


def picture_pieces(
    config: PretrainedConfig, inputs: Mapping[str, Any], kind: str, marked: Tensor, sizes: Sequence[int] | None = None
) -> list[Piece]:
    """The pieces of each picture: several of one run of its token, or several runs of one.

    Args:
        config: the model's.
        inputs: what the processor returned for one prompt.
        kind: ``"image"`` or ``"video"``.
        marked: ``[P]`` which positions have the token of that kind.
        sizes: how many positions each picture takes, where that is known.

    Raises:
        UnsupportedModelError: if nothing tells the pictures apart.
    """
    spans = runs(marked)
    known = sizes or _sizes(config, inputs, kind, spans)
    if known is not None:
        return _split(spans, known)
    pieces = [
        (number, *run) for number, run in zip(_numbers(config, inputs["input_ids"][0], spans), spans, strict=True)
    ]
    given = inputs.get("image_sizes") if kind == "image" else None
    if given is not None and pieces and pieces[-1][0] + 1 != len(given.view(-1, 2)):
        if given.numel() == 2:
            return [(0, *run) for run in spans]
        msg = f"{given.numel() // 2} pictures cannot be told apart in the prompt: {_WITH_LAYOUT}"
        raise UnsupportedModelError(msg)
    return pieces


_WITH_LAYOUT = "use LVLM, which asks the processor, or pass layout=PromptLayout(...)"


def runs(marked: Tensor) -> list[tuple[int, int]]:
    """Start and stop of each unbroken run of True."""
    padded = torch.nn.functional.pad(marked.to(torch.int8), (1, 1))
    change = padded.diff().nonzero().flatten().tolist()
    return list(zip(change[::2], change[1::2], strict=True))


def _numbers(config: PretrainedConfig, ids: Tensor, spans: list[tuple[int, int]]) -> list[int]:
    """Which picture each run belongs to, by what stands between the runs."""
    gaps = [start - stop for (_, stop), (start, _) in pairwise(spans)]
    if config.model_type in _MARKED:
        before = [int(ids[start - 1]) if start else -1 for start, _ in spans]
        return _counted([mark == before[-1] for mark in before[:-1]])
    if config.model_type in _PARTED:
        return _counted([gap > 1 for gap in gaps])
    if config.model_type in _UNCLEAR and 1 in gaps:
        msg = f"a single token is between two runs of picture tokens, and may part tiles or pictures: {_WITH_LAYOUT}"
        raise UnsupportedModelError(msg)
    token = _beginning(config)
    begins = (ids == token).nonzero().flatten().tolist() if token is not None else []
    if spans and any(place < spans[0][0] for place in begins):
        return _counted([any(stop <= place < start for place in begins) for (_, stop), (start, _) in pairwise(spans)])
    return list(range(len(spans)))


def _counted(ends: Sequence[bool]) -> list[int]:
    """Numbers from 0 on, each but the first given by whether a new picture begins there."""
    numbers = [0]
    for ended in ends:
        numbers.append(numbers[-1] + ended)
    return numbers


def _beginning(config: Any) -> int | None:
    indicators = getattr(config, "visual_indicator_token_ids", None)
    if indicators:  # Ovis2: the first of them stands before a picture.
        return int(indicators[0])
    return next((token for name in _BEGINNING if (token := getattr(config, name, None)) is not None), None)


def _sizes(
    config: PretrainedConfig, inputs: Mapping[str, Any], kind: str, spans: list[tuple[int, int]]
) -> list[int] | None:
    """How many positions each picture takes, where the processor's outputs tell."""
    total = sum(stop - start for start, stop in spans)
    for sizes in (_of_grid(config, inputs, kind), _of_pixels(config, inputs, kind)):
        if sizes is not None:
            return sizes if sum(sizes) == total else None
    # `generate` encodes pictures before anything else, and hands on their features, picture by picture.
    encoded = (inputs.get("mm_encoder_outputs") or {}).get(kind)
    pooled = getattr(encoded, "pooler_output", None)
    if isinstance(pooled, (list, tuple)):
        sizes = [len(features) for features in pooled]
        # Fewer features than runs: the rows of a picture, or the frames of a video, are runs of their own.
        has_all_sizes = len(sizes) >= len(spans) or kind == "video" or _takes_all_sizes(config)
        return sizes if sum(sizes) == total and has_all_sizes else None
    pixels = inputs.get("pixel_values", pooled)
    if kind == "image" and pixels is not None and pixels.ndim in {3, 4} and total % pixels.shape[0] == 0:
        each = total // pixels.shape[0]
        # Only a longer run than one image is a question; where tiles of one image are counted, runs are right.
        if len(spans) < pixels.shape[0] and getattr(config, "model_type", "") in {"llava", "vipllava"}:
            return [each] * pixels.shape[0]
    return None


def _of_grid(config: Any, inputs: Mapping[str, Any], kind: str) -> list[int] | None:
    """From the number of patches along each side."""
    grid = inputs.get(f"{kind}_grid_thw")
    if grid is not None:
        merge = getattr(getattr(config, "vision_config", None), "spatial_merge_size", 1)
        return [int(size) // merge**2 for size in grid.prod(-1)]
    grids = inputs.get("image_grids") if kind == "image" else None
    if grids is not None:  # Molmo2: patches along the sides of the small picture, and of the large one.
        return [int(small + large) for small, large in zip(grids[:, :2].prod(-1), grids[:, 2:].prod(-1), strict=True)]
    return None


def _of_pixels(config: Any, inputs: Mapping[str, Any], kind: str) -> list[int] | None:
    """From the size of each picture, where the tower takes all sizes as they are."""
    sizes = inputs.get("image_sizes") if kind == "image" else None
    if sizes is None or not _takes_all_sizes(config):
        return None
    side = config.vision_config.patch_size * getattr(config, "spatial_merge_size", 1)
    return [int(height // side * (width // side)) for height, width in sizes.view(-1, 2)]


def _takes_all_sizes(config: Any) -> bool:
    return getattr(getattr(config, "vision_config", None), "model_type", "") == "pixtral"


def _split(spans: list[tuple[int, int]], sizes: Sequence[int]) -> list[Piece]:
    result: list[Piece] = []
    left = list(sizes)
    number = 0
    for start, stop in spans:
        at = start
        while at < stop and number < len(left):
            taken = min(left[number], stop - at)
            result.append((number, at, at + taken))
            at += taken
            left[number] -= taken
            number += left[number] == 0
    return result
