"""What goes into a model: one prompt's inputs, checked, shortened and extended, and an answer's token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from saliency_guard.chat.pictures import picture_token
from saliency_guard.errors import InputError, ModelError


def unpadded(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """One prompt's inputs without left padding and without a mask that masks nothing.

    Raises:
        InputError: if there is no ``input_ids``, it is no single prompt, or it is padded on the right.
    """
    ids = inputs.get("input_ids") if isinstance(inputs, Mapping) else None
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.shape[1] == 0:
        msg = "inputs must hold input_ids of shape [1, P], as the processor returns them with return_tensors='pt'"
        raise InputError(msg)
    if ids.shape[0] != 1:
        msg = f"one prompt at a time: input_ids has batch size {ids.shape[0]}"
        raise InputError(msg)
    # Some processors add labels for training, which a model would want to see logits of every position for.
    kept = {name: value for name, value in inputs.items() if value is not None and name != "labels"}
    mask = kept.pop("attention_mask", None)
    if mask is None or bool((mask != 0).all()):
        return kept
    seen = (mask[0] != 0).to(torch.int8)
    if bool((seen.diff() < 0).any()):
        msg = "the prompt is padded on the right or masked inside: the answer has to follow it (padding_side='left')"
        raise InputError(msg)
    places = seen.nonzero()[:, 0].to(ids.device)
    return _selected(kept, places)


def shortened(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a prompt without its last token.

    Raises:
        InputError: if it has no other.
    """
    ids = inputs["input_ids"]
    if ids.shape[1] == 1:
        msg = "the prompt is a single token: there is nothing before the one that predicts the answer"
        raise InputError(msg)
    return _selected(inputs, torch.arange(ids.shape[1] - 1, device=ids.device))


def _selected(inputs: Mapping[str, Any], places: Tensor) -> dict[str, Any]:
    """The inputs of some of a prompt's positions."""
    axes = {name: position_axis(name, value, inputs["input_ids"]) for name, value in inputs.items()}
    return {
        name: value if axes[name] is None else value.index_select(axes[name], places.to(value.device))
        for name, value in inputs.items()
    }


ANSWER_KINDS = {"paligemma": 1}
"""What tells kinds of positions apart says 0 for text, and for PaliGemma's prefix, which an answer is not."""


def extended(inputs: Mapping[str, Any], tokens: Sequence[int], kind: int = 0) -> dict[str, Any]:
    """The inputs of prompt and tokens together; what tells kinds of positions apart says ``kind`` for the tokens."""
    ids = inputs["input_ids"]
    added = torch.tensor([list(tokens)], dtype=ids.dtype, device=ids.device)
    result = dict(inputs)
    for name, value in inputs.items():
        if name == "input_ids":
            result[name] = torch.cat([ids, added], dim=1)
        elif name == "position_ids":
            following = torch.arange(1, len(tokens) + 1, device=value.device)
            result[name] = torch.cat([value, value[..., -1:] + following], dim=-1)
        elif name in SEEN_PICTURES and position_axis(name, value, ids) is not None:
            result[name] = torch.cat([value, continued(value, len(tokens))], dim=1)
        elif position_axis(name, value, ids) is not None:
            result[name] = torch.cat([value, torch.full_like(added, kind, dtype=value.dtype)], dim=1)
    return result


SEEN_PICTURES = frozenset({"cross_attention_mask"})
"""Which pictures each position may look at, ``[1, P, ...]``; what follows a prompt sees what its last token does."""


def continued(seen: Tensor, count: int) -> Tensor:
    """One of `SEEN_PICTURES` for ``count`` positions after a prompt, or for its last one."""
    return seen[:, -1:].expand(-1, count, *seen.shape[2:])


def answer_tensor(answer_ids: Tensor | Sequence[int], model: PreTrainedModel) -> Tensor:
    """An answer's ids as ``[N]``, checked."""
    try:
        answer = torch.as_tensor(answer_ids)
    except (TypeError, ValueError, RuntimeError) as error:
        msg = f"answer_ids must be token ids (encode a text with the tokenizer, or use LVLM.score): {error}"
        raise InputError(msg) from error
    if answer.ndim == 2 and answer.shape[0] == 1:
        answer = answer[0]
    if answer.ndim != 1 or answer.numel() == 0 or answer.dtype == torch.bool or answer.is_floating_point():
        msg = f"answer_ids must be one answer's token ids, [N] or [1, N] with N > 0; got shape {tuple(answer.shape)}"
        raise InputError(msg)
    vocabulary = model.config.get_text_config().vocab_size
    if int(answer.min()) < 0 or int(answer.max()) >= vocabulary:
        msg = f"answer_ids holds ids outside the model's vocabulary of {vocabulary}: is it another model's answer?"
        raise InputError(msg)
    return answer.long()


_OF_PICTURES = (
    *("pixel", "flattened_patches", "patch_", "image_", "spatial_", "aspect_", "num_", "video_", "audio_"),
    "input_features",
)


def check_vocabulary(model: PreTrainedModel, ids: Tensor) -> None:
    """Raise `ModelError` for ids that the model has no embedding of; a GPU would be of no more use to the process."""
    table = getattr(model.get_input_embeddings(), "weight", None)
    if not isinstance(table, Tensor) or table.ndim != 2:
        return
    # Some pictures' tokens are outside of the vocabulary, and their embedding is never looked up.
    markers = {picture_token(model.config, kind) for kind in ("image", "video")}
    unknown = [token for token in ids.unique().tolist() if not 0 <= token < table.shape[0] and token not in markers]
    if unknown:
        msg = (
            f"the prompt holds the token id {unknown[0]}, and {type(model).__name__} knows {table.shape[0]}: is the "
            "processor the model's own?"
        )
        raise ModelError(msg)


def position_axis(name: str, value: Any, ids: Tensor) -> int | None:
    """The dimension along which an input has an entry for every position of a prompt; None where it has none.

    The shape alone does not tell: there may be as many patches as positions.
    """
    if not isinstance(value, Tensor):
        return None
    if name == "position_ids":  # There may be several rows of them: [R, 1, P].
        return value.ndim - 1 if value.shape[-1] == ids.shape[-1] else None
    if name in SEEN_PICTURES:
        return 1 if value.ndim > 2 and value.shape[1] == ids.shape[1] else None
    if name.startswith(_OF_PICTURES) and name != "image_embeds_position_mask":
        return None
    return 1 if value.shape == ids.shape else None


def check_no_image_token(model: PreTrainedModel, tokens: Sequence[int]) -> None:
    """Raise `InputError` for tokens that a whole-sequence pass would take for a picture."""
    if picture_token(model.config) in tokens:
        msg = "the answer holds the model's own image token: a whole-sequence pass would look for its picture"
        raise InputError(msg)
