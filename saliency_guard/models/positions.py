"""What a model makes of its prompt's positions, and how they go on after it.

Families count in their own ways: from zero or from one, in one row or in several (multimodal rotary
positions, where a picture takes fewer positions than tokens), looking back only or both ways. What the
decoder is called with is the one place where all of them show it, so that is what is read here.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from saliency_guard.errors import UnsupportedModelError
from saliency_guard.models.compile_stance import uncompiled


@dataclass(frozen=True, slots=True, eq=False)
class PromptPositions:
    """What the decoder was told about the positions of a prompt.

    Attributes:
        ahead: ``[1, 1]``, or ``[R, 1, 1]`` where positions have R rows: how far the positions after the prompt
            are ahead of their places in the cache; None where the decoder was told none and counts places.
        both_ways: whether positions of the prompt look at its last one, as those of a prefix do.
    """

    ahead: Tensor | None
    both_ways: bool

    def following(self, first: int, count: int, device: torch.device) -> Tensor:
        """Positions of the places ``first`` to ``first + count - 1``: ``[1, count]`` or ``[R, 1, count]``."""
        places = torch.arange(first, first + count, device=device)[None]
        return places if self.ahead is None else places + self.ahead.to(device)


@contextmanager
def watching(model: PreTrainedModel) -> Iterator[list[Mapping[str, Any]]]:
    """Collect the arguments that the decoder is called with by this thread."""
    decoder = model.get_decoder()
    thread = threading.get_ident()
    calls: list[Mapping[str, Any]] = []
    signature = inspect.signature(decoder.forward)

    def look(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if threading.get_ident() == thread:
            calls.append({**signature.bind_partial(*arguments).arguments, **named})

    handle = decoder.register_forward_pre_hook(look, with_kwargs=True)
    try:
        # A compiled model would not notice the hook.
        with uncompiled(model):
            yield calls
    finally:
        handle.remove()


def counts_places(model: PreTrainedModel) -> bool:
    """Whether some layer counts places in the cache, padding among them (Llama 4's temperature), not positions."""
    return bool(getattr(model.config.get_text_config(), "attn_temperature_tuning", False))


def prompt_positions(
    model: PreTrainedModel, calls: Sequence[Mapping[str, Any]], length: int, *, ends_with_picture: bool = False
) -> PromptPositions:
    """Read off the decoder's call for a prompt how its positions go on.

    Args:
        model: whose decoder it is.
        calls: as collected by `watching` while the prompt was read.
        length: how many tokens were read.
        ends_with_picture: whether the last of them belongs to a picture.

    Raises:
        UnsupportedModelError: if the decoder was not called, or with positions of something else.
    """
    if not calls:
        msg = f"{type(model).__name__} does not call its decoder as a module: its positions cannot be continued"
        raise UnsupportedModelError(msg)
    return PromptPositions(
        ahead=_ahead(model, calls[0].get("position_ids"), length, ends_with_picture=ends_with_picture),
        both_ways=_seen_from_before(calls[0].get("attention_mask"), length - 1),
    )


def _ahead(model: PreTrainedModel, positions: Any, length: int, *, ends_with_picture: bool) -> Tensor | None:
    if positions is None:
        return _counted_by_embedding(model)
    if not isinstance(positions, Tensor) or positions.ndim not in {1, 2, 3} or positions.shape[-1] != length:
        shape = tuple(getattr(positions, "shape", ()))
        msg = f"{type(model).__name__} gives {length} tokens positions of shape {shape}: they cannot be continued"
        raise UnsupportedModelError(msg)
    last = positions[None, -1:] if positions.ndim == 1 else positions[..., -1:]
    if ends_with_picture and last.ndim == 3:
        # What follows a picture counts on from its longer side; the row for text, if there is one, just counts.
        last = torch.cat([last[:-3], last[-3:].amax(dim=0, keepdim=True).expand_as(last[-3:])])
    return last - (length - 1)


def _counted_by_embedding(model: PreTrainedModel) -> Tensor | None:
    """Some learned or sinusoidal embeddings count by themselves, on from the number of the padding token."""
    for module in model.get_decoder().modules():
        if hasattr(module, "create_position_ids_from_input_ids"):
            return torch.tensor([[int(module.padding_idx) + 1]])
    return None


def _seen_from_before(mask: Any, place: int) -> bool:
    """Whether a mask lets an earlier query look at a place; a causal model needs no mask, or one that does not."""
    if isinstance(mask, Mapping):
        return any(_seen_from_before(kind, place) for kind in mask.values())
    if not isinstance(mask, Tensor) or mask.ndim != 4 or mask.shape[-1] <= place:
        return False
    column = mask[..., :place, place]
    return bool(column.any() if column.dtype == torch.bool else (column == 0).any())
