"""The maps that the pointing game is played with: each source, single layers, sets of layers, and combinations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from saliency_guard.calibration.features import Floats
from saliency_guard.chat.pictures import Box
from saliency_guard.models.layers import target_layers
from saliency_guard.models.lens import token_logits
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.signals.combined_map import word_map
from saliency_guard.signals.picture_maps import PictureMaps
from saliency_guard.signals.trace import AnswerTrace

CHANCE, CENTRE = "chance", "centre of the picture"
PLAIN, SALIENCY = "attention, all layers", "saliency, target layers"
LENS, WORD = "lens, largest of all layers", "word, all layers"
COMBINED = "combined: saliency x word"
"""Names of maps that the page tells of."""

MAX_LAYERS = 8
"""Single layers that are looked at, evenly spaced."""

_OWN, _SIMILARITY = "attention of the word itself, lower half", "similarity, all layers"
PRODUCTS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "saliency x attention": (SALIENCY, PLAIN),
        "saliency x lens": (SALIENCY, LENS),
        "attention x word": (PLAIN, WORD),
        "saliency x attention x word": (SALIENCY, PLAIN, WORD),
        "saliency x similarity x word": (SALIENCY, _SIMILARITY, WORD),
        "attention of the word itself x word": (_OWN, WORD),
        "saliency x attention of the word itself x word": (SALIENCY, _OWN, WORD),
    }
)
RANKED: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "mean rank: saliency, word": (SALIENCY, WORD),
        "mean rank: saliency, attention, word": (SALIENCY, PLAIN, WORD),
    }
)
FIRST, LAST = "first token: ", "last token: "
"""Before the names of maps of an object's first and last token; the others are of the one that begins its last word."""

_CENTRE_WIDTH = 0.25  # Standard deviation of the centre prior, as a part of the picture's side.


@dataclass(frozen=True, slots=True)
class MentionTokens:
    """Indices of a mention's tokens.

    Attributes:
        word: that begins its last word, which `Claim.box` is of.
        first: of all.
        last: of all.
    """

    word: int
    first: int
    last: int


def candidate_maps(
    maps: PictureMaps, trace: AnswerTrace, tokens: MentionTokens, patches: Sequence[Box | None]
) -> dict[str, Floats]:
    """All maps of one mention.

    Args:
        maps: of its answer.
        trace: of its answer.
        tokens: of the mention.
        patches: the part of the picture that each position shows.

    Returns:
        name -> ``[I]``; NaN where a map is not known: of a model without a lens, or of the row after the last token.
    """
    values = {CHANCE: torch.ones(len(patches)), CENTRE: centre_prior(patches)}
    values |= dict(_sources(maps, trace, tokens.word))
    for name, names in PRODUCTS.items():
        values[name] = torch.stack([values[part] for part in names]).prod(dim=0)
    for name, names in RANKED.items():
        values[name] = torch.stack([ranks(values[part]) for part in names]).mean(dim=0)
    values[COMBINED] = maps.combined[tokens.word]
    for before, token in ((FIRST, tokens.first), (LAST, tokens.last)):
        others = dict(_sources(maps, trace, token)) | {COMBINED: maps.combined[token]}
        values |= {f"{before}{name}": others[name] for name in (SALIENCY, PLAIN, LENS, WORD, COMBINED)}
    return {name: value.double().numpy() for name, value in values.items()}


def _sources(maps: PictureMaps, trace: AnswerTrace, token: int) -> Iterator[tuple[str, Tensor]]:
    """Each source: its single layers, then sets of them."""
    half = len(maps.layers) // 2 or 1
    targets = [
        index for index, layer in enumerate(maps.layers) if layer in target_layers(trace.model, SaliencyConfig().layers)
    ]
    own = maps.attention[token + 1] if token + 1 < len(maps.attention) else maps.attention[token] * torch.nan
    by_layer = {"saliency": maps.saliency[token], "attention": maps.attention[token], _OWN.partition(",")[0]: own}
    for name, values in by_layer.items():
        yield from _layers(name, maps.layers, values)
        yield f"{name}, target layers", values[targets].mean(dim=0)
        yield f"{name}, lower half", values[:half].mean(dim=0)
        yield f"{name}, all layers", values.mean(dim=0)
    yield from _layers("lens", maps.lens_layers, maps.lens[token])
    yield LENS, maps.lens[token].amax(dim=0)
    yield from _layers("word", maps.lens_layers, _words(trace, token))
    whole = word_map(trace, [token])
    yield WORD, whole[0] if whole is not None else torch.full_like(maps.mean_saliency[token], torch.nan)
    similar = _similarities(trace, token)
    yield from _layers("similarity", range(1, len(similar) + 1), similar)
    yield _SIMILARITY, similar.clamp_min(0.0).mean(dim=0)


def _layers(name: str, layers: Sequence[int], values: Tensor) -> Iterator[tuple[str, Tensor]]:
    for index in torch.linspace(0, len(layers) - 1, min(MAX_LAYERS, len(layers))).round().int().tolist():
        yield f"{name}, layer {layers[index]}", values[index]


def _words(trace: AnswerTrace, token: int) -> Tensor:
    """``[lens layers, I]`` `word_map` of single layers."""
    rows: list[Tensor] = []
    for depth in trace.lens_layers:
        states = trace.image_states[depth]
        with torch.no_grad():
            logits = token_logits(
                trace.model, states, trace.tokens[[token]], normalised=depth == len(trace.image_states) - 1
            )
        rows.append(torch.full((len(states),), torch.nan) if logits is None else logits[:, 0].cpu().softmax(dim=0))
    return torch.stack(rows)


def _similarities(trace: AnswerTrace, token: int) -> Tensor:
    """``[layers, I]`` cosine similarity of the token's own state with those of the picture, after each layer."""
    pairs = list(zip(trace.output_states[1:], trace.image_states[1:], strict=True))
    return torch.stack(
        [functional.cosine_similarity(own[token + 1].float()[None], seen.float(), dim=-1).cpu() for own, seen in pairs]
    )


def centre_prior(patches: Sequence[Box | None]) -> Tensor:
    """``[I]`` a Gaussian around the middle of each picture: photographers put things there."""
    values = [
        0.0 if box is None else ((box[0] + box[2]) / 2 - 0.5) ** 2 + ((box[1] + box[3]) / 2 - 0.5) ** 2
        for box in patches
    ]
    return torch.exp(-torch.tensor(values) / (2 * _CENTRE_WIDTH**2))


def ranks(values: Tensor) -> Tensor:
    """``[I]`` how many positions have less, as a part of all; equal values have equal ranks."""
    return (values[:, None] > values[None]).float().mean(dim=1) + values * 0.0  # What is not known stays NaN.
