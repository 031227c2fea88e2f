"""What a model makes of each picture: how it looks, how surely it is recognised, and what changes in a mirror.

All are read off the states at the pictures' positions, which are there once a prompt was read; the last two through the
logit lens (arXiv 2410.02762). A model that knows what it sees names the same things in a picture and in its mirror
image; in pictures of an unknown kind it takes the same drawing for one thing here and for another there, as surely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.chat.layout import PromptLayout, owners_of
from saliency_guard.models.lens import has_lens, lens_logits
from saliency_guard.models.session import Session

RECOGNITION = 10
"""How many numbers say how surely a picture is recognised: half of them of the states before the first layer."""
_POSITIONS = 64
_BEST = 8
_MOST_LOGITS = 2**24
"""Logits of several pictures are one product, up to so many numbers (64 MB)."""


@dataclass(frozen=True, slots=True, eq=False)
class Mirrored:
    """A prompt with the pictures of another one, each mirrored.

    Attributes:
        states: ``[I, D]`` what enters the first layer at the positions of its pictures.
        layout: of the prompt.
    """

    states: Tensor
    layout: PromptLayout


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """One picture's states.

    Attributes:
        pooled: ``[D]`` mean of what enters the first layer.
        first: some of that, `spread`; None where the picture is seen across: then it is no state of the decoder's.
        last: the same after the last layer.
        mirrored: as ``first``, of its mirror image; None where that is not known.
    """

    pooled: Tensor
    first: Tensor | None = None
    last: Tensor | None = None
    mirrored: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What the logit lens finds at one picture's positions.

    Attributes:
        words: ``[V]`` the largest probability of each token at any of them.
        recognition: ``[RECOGNITION / 2]`` mean and best of the largest probabilities; mean, largest and spread of the
            entropies.
    """

    words: Tensor
    recognition: Tensor


def spread(states: Tensor) -> Tensor:
    """``[at most 64, D]`` of the states ``[n, D]`` at a picture's positions, evenly spread over it.

    The logits at every position of a large picture would cost more than the picture itself.
    """
    return states[torch.linspace(0, len(states) - 1, min(len(states), _POSITIONS)).round().long()]


def shows_changes(model: PreTrainedModel, layout: PromptLayout) -> bool:
    """Whether it can be said how pictures change: the model has a lens, and does not see them across."""
    return has_lens(model) and not layout.across


def picture_features(sessions: Sequence[Session], mirrored: Sequence[Mirrored | None]) -> list[Tensor]:
    """``[pictures, D + RECOGNITION + 1]`` float32 of each of several prompts of one model.

    Of every picture the pooled vision features; how surely the model would name what stands at its positions, before
    the first layer and after the last (NaN where the decoder keeps no final norm under the usual name, or sees pictures
    across); and the sum of the absolute differences between the words that are found in it and in its mirror image (NaN
    where that is not known). Without rows where a prompt was read without the states at its pictures.

    Args:
        sessions: prompts that were read with the states at their pictures.
        mirrored: for each the same with its pictures mirrored, where there is that.
    """
    prompts = [_pictures(session, mirror) for session, mirror in zip(sessions, mirrored, strict=True)]
    pictures = [picture for prompt in prompts for picture in prompt]
    if not pictures:
        return [torch.empty(0, 0)] * len(prompts)
    model = sessions[0].model
    first = _through_lens(model, [picture.first for picture in pictures], normalised=False)
    last = _through_lens(model, [picture.last for picture in pictures], normalised=True)
    other = _through_lens(model, [picture.mirrored for picture in pictures], normalised=False)
    rows = iter([_row(*parts) for parts in zip(pictures, first, last, other, strict=True)])
    return [torch.stack([next(rows) for _ in prompt]) if prompt else torch.empty(0, 0) for prompt in prompts]


def _pictures(session: Session, mirror: Mirrored | None) -> list[_Picture]:
    states, layout = session.image_states, session.layout
    if not states or not layout.visual_sources:
        return []
    rows = picture_rows(layout, _shown_across(session) if layout.across else None)
    first, last = (states[depth].detach() for depth in (0, -1))
    pooled = [first[row.to(first.device)].float().mean(dim=0).cpu() for row in rows]
    if layout.across:
        return [_Picture(each) for each in pooled]
    others: list[Tensor | None] = [None] * len(rows)
    if mirror is not None and len(mirror.layout.visual_sources) == len(rows):
        others = [mirror.states[row.to(mirror.states.device)] for row in picture_rows(mirror.layout)]
    return [
        _Picture(
            mean,
            spread(first[row.to(first.device)]),
            spread(last[row.to(last.device)]),
            spread(other) if other is not None else None,
        )
        for mean, row, other in zip(pooled, rows, others, strict=True)
    ]


def _row(picture: _Picture, first: _Seen | None, last: _Seen | None, other: _Seen | None) -> Tensor:
    recognition = torch.full((RECOGNITION,), torch.nan)
    change = torch.full((1,), torch.nan)
    if first is not None and last is not None:
        recognition = torch.cat([first.recognition, last.recognition])
    if first is not None and other is not None:
        change = (first.words - other.words).abs().sum().view(1).cpu()
    return torch.cat([picture.pooled, recognition, change])


def _through_lens(model: PreTrainedModel, pictures: Sequence[Tensor | None], *, normalised: bool) -> list[_Seen | None]:
    """What the lens finds in each picture's states ``[n, D]``; several are one product."""
    known = [number for number, states in enumerate(pictures) if states is not None]
    seen: list[_Seen | None] = [None] * len(pictures)
    size = max(1, _MOST_LOGITS // (_POSITIONS * model.config.get_text_config().vocab_size))
    for start in range(0, len(known), size):
        group = known[start : start + size]
        states = [part for number in group if (part := pictures[number]) is not None]
        with torch.no_grad():
            logits = lens_logits(model, torch.cat(states).to(model.device), normalised=normalised)
            if logits is None:
                break
            for number, part in zip(group, logits.split([len(each) for each in states]), strict=True):
                seen[number] = _seen(part)
    return seen


def _seen(logits: Tensor) -> _Seen:
    logprobs = logits.log_softmax(dim=-1)
    probabilities = logprobs.exp()
    words = probabilities.amax(dim=0)
    largest = probabilities.amax(dim=-1)
    entropy = -logprobs.mul_(probabilities).sum(dim=-1)
    best = min(_BEST, len(largest))
    numbers = [
        largest.mean(),
        largest.topk(best).values.mean(),
        entropy.mean(),
        entropy.topk(best).values.mean(),
        entropy.std(correction=0),
    ]
    return _Seen(words, torch.stack(numbers).cpu())


def picture_rows(layout: PromptLayout, shown: Sequence[bool] | None = None) -> list[Tensor]:
    """For each picture which of the states at the pictures' positions are its own.

    Args:
        layout: of the prompt.
        shown: of each key that is seen across whether it counts; None where all of them do.
    """
    owners = owners_of(layout.across) if layout.across else layout.picture_owners
    kept = shown if shown is not None else [True] * len(owners)
    return [
        torch.tensor([index for index, owner in enumerate(owners) if owner == name and kept[index]])
        for name in sorted(layout.visual_sources, key=_number)
    ]


def _shown_across(session: Session) -> list[bool]:
    """Of each key that is seen across, whether it belongs to a tile that is there, and does not fill up the largest."""
    tiles = session.inputs.get("cross_attention_mask")
    count = session.layout.beside
    if tiles is None:
        return [True] * count
    seen = (tiles[0] != 0).any(dim=0).flatten().tolist()
    return [tile for tile in seen for _ in range(count // len(seen))]


def _number(source: str) -> tuple[str, int]:
    kind, _, number = source.partition("_")
    return kind, int(number)
