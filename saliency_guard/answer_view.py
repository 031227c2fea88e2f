"""What a person is shown beside an answer: its pictures, where each token looks in them, what else it could have been.

Kept small: pictures as JPEG of at most `MAX_EDGE` pixels, maps as one byte for each token and position.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from saliency_guard.settings import Frozen, Probability

MAX_EDGE = 768
"""Pixels along the longer side of a picture that is shown."""

MapSource = Literal["combined", "saliency", "attention", "lens"]
"""What a map is made of: saliency and logit lens together (what points best at an object), Eq. 4 and 5, attention, or
the token's probability under the logit lens."""

PatchBox = tuple[Probability, Probability, Probability, Probability]


class PictureView(Frozen):
    """A picture as it is shown.

    Attributes:
        source: its name among the sources.
        width: of the picture itself, in pixels.
        height: of the picture itself, in pixels.
        jpeg: what is shown of it, smaller.
        positions: how many positions of the prompt it takes.
        patches: the part of the picture that each of them shows (left, top, right and bottom from 0 to 1), None for one
            that shows none; empty where that is not known: then there is no map of it.
    """

    source: str
    width: int
    height: int
    jpeg: bytes = Field(repr=False)
    positions: int
    patches: tuple[PatchBox | None, ...] = Field(default=(), repr=False)


class HeatMap(Frozen):
    """Where every token of an answer looks in the pictures, by one measure.

    Attributes:
        source: the measure.
        layer: of which layer; None for all of them together: of saliency the mean over the target layers, of attention
            over all layers, of the lens the largest of any layer.
        peaks: the largest value of each token.
        values: for each token one byte for every position of all pictures, in order; 255 is the token's largest value.
    """

    source: MapSource
    layer: int | None
    peaks: tuple[Annotated[float, Field(ge=0.0, allow_inf_nan=False)], ...] = Field(repr=False)
    values: bytes = Field(repr=False)


class Alternative(NamedTuple):
    """A token that could have stood at a position; a tuple, since an answer holds five for every token.

    Attributes:
        text: its own text.
        token_id: its id.
        logprob: its natural log-probability under the model.
    """

    text: str
    token_id: int
    logprob: float


class AnswerView(Frozen):
    """What is shown beside an answer.

    Attributes:
        question: what was asked.
        pictures: in order.
        maps: the first is the one to show first.
        alternatives: the most probable tokens at each position, the likeliest first.
        note: why there are no maps, in a sentence; empty where there are.
    """

    question: str = ""
    pictures: tuple[PictureView, ...] = ()
    maps: tuple[HeatMap, ...] = ()
    alternatives: tuple[tuple[Alternative, ...], ...] = ()
    note: str = ""
