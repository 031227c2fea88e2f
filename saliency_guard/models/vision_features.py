"""What a model makes of each picture of a prompt, in a few numbers: how it looks, and how surely it is recognised.

Both are read off the states at the picture's positions, which are there once the prompt was read.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.chat.layout import PromptLayout
from saliency_guard.models.lens import lens_logits
from saliency_guard.models.session import Session

RECOGNITION = 10
"""How many numbers `recognition` gives."""
_POSITIONS = 64
_BEST = 8


def spread(states: Tensor) -> Tensor:
    """``[at most 64, D]`` of the states ``[n, D]`` at a picture's positions, evenly spread over it.

    The logits at every position of a large picture would cost more than the picture itself.
    """
    return states[torch.linspace(0, len(states) - 1, min(len(states), _POSITIONS)).round().long()]


def picture_features(session: Session) -> Tensor:
    """``[pictures, D + RECOGNITION]`` float32: the pooled vision features of each picture, and `recognition`.

    Without rows where the prompt was read without the states at its pictures.

    Args:
        session: a prompt that was read with the states at its pictures.
    """
    states, layout = session.image_states, session.layout
    if not states or not layout.visual_sources:
        return torch.empty(0, 0)
    rows = picture_rows(layout, _shown_across(session) if layout.across else None)
    first, last = (states[depth].detach().cpu() for depth in (0, -1))
    if layout.across:  # They are no states of the decoder's: the logit lens does not read them.
        unknown = torch.full((RECOGNITION,), torch.nan)
        return torch.stack([torch.cat([first[row].float().mean(dim=0), unknown]) for row in rows])
    return torch.stack(
        [torch.cat([first[row].float().mean(dim=0), recognition(session.model, first[row], last[row])]) for row in rows]
    )


def picture_rows(layout: PromptLayout, shown: Sequence[bool] | None = None) -> list[Tensor]:
    """For each picture which of the states at the pictures' positions are its own.

    Args:
        layout: of the prompt.
        shown: of each key that is seen across whether it counts; None where all of them do.
    """
    spans = layout.across or [span for span in layout.spans if span.is_visual]
    owners = [span.source for span in spans for _ in range(span.stop - span.start)]
    kept = shown if shown is not None else [True] * len(owners)
    return [
        torch.tensor([index for index, owner in enumerate(owners) if owner == name and kept[index]])
        for name in sorted(layout.visual_sources, key=_number)
    ]


def recognition(model: PreTrainedModel, first: Tensor, last: Tensor) -> Tensor:
    """``[RECOGNITION]`` how surely the model would name what stands at a picture's positions, by the logit lens.

    Before the first layer and after the last: mean and best of the largest probabilities, mean, largest and spread of
    the entropies. NaN where the decoder keeps no final norm under the usual name. The logit lens over pictures: arXiv
    2410.02762.

    Args:
        model: whose lens it is.
        first: ``[I, D]`` states before the first layer.
        last: ``[I, D]`` states after the last, normalised.
    """
    numbers: list[Tensor] = []
    with torch.no_grad():
        for states, normalised in ((first, False), (last, True)):
            logits = lens_logits(model, spread(states).to(model.device), normalised=normalised)
            if logits is None:
                return torch.full((RECOGNITION,), torch.nan)
            logprobs = logits.log_softmax(dim=-1).cpu()
            probabilities = logprobs.exp()
            largest = probabilities.max(dim=-1).values
            entropy = -(probabilities * logprobs).sum(dim=-1)
            best = min(_BEST, len(largest))
            numbers += [
                largest.mean(),
                largest.topk(best).values.mean(),
                entropy.mean(),
                entropy.topk(best).values.mean(),
                entropy.std(correction=0),
            ]
    return torch.stack(numbers)


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
