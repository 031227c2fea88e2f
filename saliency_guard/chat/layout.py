"""Which position of a sequence belongs to which source: image k, text, a named span, the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig

from saliency_guard.chat.pictures import holds_pixels, picture_pieces, picture_token, runs
from saliency_guard.errors import InputError, UnsupportedModelError

OUTPUT = "output"
TEXT = "text"


@dataclass(frozen=True, slots=True)
class Span:
    """Positions ``start`` to ``stop - 1`` of the prompt, and whose they are."""

    source: str
    start: int
    stop: int

    @property
    def is_visual(self) -> bool:
        """Whether it is an image or a video, not a named text."""
        kind, _, number = self.source.partition("_")
        return kind in {"image", "video"} and number.isdigit()


@dataclass(frozen=True, slots=True)
class PromptLayout:
    """The sources of a prompt of ``length`` positions; what is in no span is text.

    Attributes:
        length: positions of the prompt.
        spans: whose they are.
        unlocated: named texts that are in no span because it is not known where they stand, and why.
        across: whose each of the keys is that cross-attention sees beside the positions of the sequence.
        shown: where the text goes on after the last picture that is only seen across (0 without one).
    """

    length: int
    spans: tuple[Span, ...] = field(default=())
    unlocated: tuple[tuple[str, str], ...] = field(default=())
    across: tuple[Span, ...] = field(default=())
    shown: int = 0

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source a share is given for, in order of appearance; the output is last."""
        return (*dict.fromkeys([*(span.source for span in (*self.across, *self.spans)), TEXT]), OUTPUT)

    @property
    def visual_sources(self) -> frozenset[str]:
        """Those of the sources that are images or videos."""
        return frozenset(span.source for span in (*self.across, *self.spans) if span.is_visual)

    @property
    def beside(self) -> int:
        """How many keys cross-attention sees; in a row they stand before those of the sequence."""
        return max((span.stop for span in self.across), default=0)

    @property
    def after_image(self) -> int:
        """The first position after the last image (0 without one)."""
        return max((span.stop for span in self.spans if span.is_visual), default=self.shown)

    @property
    def image_positions(self) -> Tensor:
        """``[I]`` positions of all pictures."""
        spans = [torch.arange(span.start, span.stop) for span in self.spans if span.is_visual]
        return torch.cat(spans) if spans else torch.empty(0, dtype=torch.long)

    @property
    def picture_owners(self) -> list[str]:
        """The picture of each of ``image_positions``."""
        return owners_of([span for span in self.spans if span.is_visual])

    def masks(self, length: int) -> Tensor:
        """Which key is whose, for a row of ``length`` keys: ``[sources, length]`` bool."""
        names, first = self.sources, self.beside
        owner = torch.full((length,), names.index(TEXT))
        for span in self.across:
            owner[span.start : span.stop] = names.index(span.source)
        for span in self.spans:
            owner[first + span.start : first + span.stop] = names.index(span.source)
        owner[first + self.length :] = names.index(OUTPUT)
        return owner == torch.arange(len(names))[:, None]

    def for_images(self, count: int) -> PromptLayout:
        """The same prompt, known to hold so many images.

        Raises:
            UnsupportedModelError: if the prompt shows none of them, or they cannot be told apart.
        """
        seen = (*self.across, *self.spans)
        images = [span for span in seen if span.is_visual and span.source.startswith("image_")]
        if len({span.source for span in images}) == count:
            return self
        if images and count == 1:  # Rows or tiles of one picture.
            spans = [replace(span, source="image_0") if span in images else span for span in self.spans]
            return replace(self, spans=tuple(spans))
        msg = (
            f"{count} images were given and {len(images)} are found in the prompt: they cannot be told apart"
            if images
            else f"{count} images were given and none is found in the prompt: is the processor the model's own?"
        )
        raise UnsupportedModelError(msg)

    def named(self, spans: Mapping[str, list[tuple[int, int]]]) -> PromptLayout:
        """The same prompt with further named spans of text.

        Raises:
            InputError: if a span lies outside the prompt or over another one.
        """
        added = [Span(name, start, stop) for name, ranges in spans.items() for start, stop in ranges]
        ordered = sorted([*self.spans, *added], key=lambda span: span.start)
        for span in ordered:
            if not 0 <= span.start < span.stop <= self.length:
                where = f"{span.start} to {span.stop}"
                msg = f"span {span.source!r} ({where}) is empty or outside the prompt of {self.length} positions"
                raise InputError(msg)
        for left, right in pairwise(ordered):
            if right.start < left.stop:
                msg = f"spans {left.source!r} and {right.source!r} overlap at position {right.start}"
                raise InputError(msg)
        return replace(self, spans=tuple(ordered))

    def with_unlocated(self, reasons: Mapping[str, str]) -> PromptLayout:
        """The same prompt with named texts of which it is not known where they stand."""
        return replace(self, unlocated=tuple(reasons.items()))


def owners_of(spans: Sequence[Span]) -> list[str]:
    """The source of each position of some spans."""
    return [span.source for span in spans for _ in range(span.stop - span.start)]


def prompt_layout(
    config: PretrainedConfig, inputs: Mapping[str, Any], sizes: Sequence[int] | None = None
) -> PromptLayout:
    """Find the images (and videos) of a prompt from the model's config and the processor's outputs.

    Which run of the image's token belongs to which image is told by ``sizes``, the processor's outputs (grids, sizes in
    pixels), or what stands between the runs (`pictures`).

    Args:
        config: the model's config; its ``image_token_id`` marks image positions.
        inputs: what the processor returned for one prompt.
        sizes: how many positions each image takes, where the processor said so.

    Raises:
        UnsupportedModelError: if nothing tells the images apart.
    """
    ids = inputs["input_ids"][0]
    if getattr(config.get_text_config(), "cross_attention_layers", None):
        return _seen_across(config, inputs, ids)
    spans: list[Span] = []
    known: set[int] = set()
    for kind in ("image", "video"):
        token = picture_token(config, kind)
        if token is None or token in known:  # Some have one token for both.
            continue
        known.add(token)
        pieces = picture_pieces(config, inputs, kind, ids == token, sizes if kind == "image" else None)
        spans += [Span(f"{kind}_{number}", start, stop) for number, start, stop in pieces]
    marked = inputs.get("image_embeds_position_mask")
    if marked is not None:  # Kosmos has no token of its own for pictures.
        spans += [Span(f"image_{k}", *run) for k, run in enumerate(runs(marked[0] != 0))]
    if not spans and any(holds_pixels(name) and inputs[name] is not None for name in inputs):
        msg = (
            f"pictures were given, and none is found in the prompt (the token of {config.model_type} for them is "
            f"{picture_token(config)}): is the processor the model's own?"
        )
        raise UnsupportedModelError(msg)
    return PromptLayout(len(ids), tuple(sorted(spans, key=lambda span: span.start)))


def _seen_across(config: PretrainedConfig, inputs: Mapping[str, Any], ids: Tensor) -> PromptLayout:
    """The layout of a prompt whose pictures take no positions: every picture has as many tiles as the largest."""
    if all(inputs.get(name) is None for name in ("pixel_values", "cross_attention_states")):
        return PromptLayout(len(ids))
    mask, ratios = inputs.get("cross_attention_mask"), inputs.get("aspect_ratio_mask")
    shape = mask.shape[2:] if mask is not None else ratios.shape[1:] if ratios is not None else None
    if shape is None:
        msg = "the pictures cannot be told apart: pass the cross_attention_mask or aspect_ratio_mask of the processor"
        raise InputError(msg)
    vision: Any = config.vision_config
    tile = (vision.image_size // vision.patch_size) ** 2 + 1
    images, tiles = shape
    spans = [Span(f"image_{number}", number * tiles * tile, (number + 1) * tiles * tile) for number in range(images)]
    markers = (ids == config.image_token_id).nonzero()
    return PromptLayout(len(ids), across=tuple(spans), shown=int(markers.max()) + 1 if len(markers) else 0)


def text_spans(
    layout: PromptLayout, offsets: Sequence[tuple[int, int]], texts: Mapping[str, Sequence[tuple[int, int]]]
) -> dict[str, list[tuple[int, int]]]:
    """Which positions named texts take.

    Args:
        layout: the prompt's images; their placeholders are part of no text.
        offsets: where each position stands in the prompt's text.
        texts: where the texts of each source stand in it.

    Returns:
        Position ranges by source. A token on the border of two texts belongs to the first. A source is missing if one
        of its texts has no token of its own.
    """
    starts, stops = np.array(offsets, dtype=int).reshape(-1, 2).T
    is_free = starts < stops
    for span in layout.spans:
        is_free[span.start : span.stop] = False
    spans: dict[str, list[tuple[int, int]]] = {source: [] for source in texts}
    incomplete: set[str] = set()
    for start, stop, source in sorted((*place, source) for source, places in texts.items() for place in places):
        inside = np.flatnonzero(is_free & (starts < stop) & (stops > start)).tolist()
        is_free[inside] = False
        if not inside:
            incomplete.add(source)
        # An image inside a text parts it.
        for _, run in groupby(enumerate(inside), key=lambda pair: pair[1] - pair[0]):
            positions = [position for _, position in run]
            spans[source].append((positions[0], positions[-1] + 1))
    return {source: ranges for source, ranges in spans.items() if source not in incomplete}
