"""Makes what is shown beside an answer: pictures, maps over them, alternatives."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from saliency_guard.answer import GroundedAnswer
from saliency_guard.answer_view import MAX_EDGE, Alternative, AnswerView, HeatMap, MapSource, PictureView
from saliency_guard.chat.layout import PromptLayout
from saliency_guard.chat.messages import Conversation
from saliency_guard.chat.template import PreparedPrompt, PromptReader
from saliency_guard.errors import InputError, shown
from saliency_guard.models.session import Session
from saliency_guard.signals.picture_maps import PictureMaps, picture_maps
from saliency_guard.signals.trace import AnswerTrace

ALTERNATIVES = 5
MAX_LAYERS = 8
MAX_MAP_BYTES = 800_000
"""Maps of single layers are left out where all of them would take more."""

NO_POSITIONS = "The model looks at pictures across, not along its sequence: there is no map of where a token looks."
NO_PATCHES = "It is not known how this model's positions lie in the picture: there is no map of where a token looks."


def require_explainable(answer: GroundedAnswer, model_id: str, prepared: PreparedPrompt) -> None:
    """Refuse an answer that a model cannot explain.

    Raises:
        InputError: if it is of another model or empty, or its prompt came without messages.
    """
    if not isinstance(answer, GroundedAnswer):
        msg = f"explain takes an answer of `generate` or `score`, not {shown(answer)}"
    elif answer.model_id != model_id:
        msg = f"the answer is of {answer.model_id!r}, not of {model_id!r}: score its text with this model first"
    elif not answer.tokens:
        msg = "the answer is empty: there is nothing to explain"
    elif prepared.conversation is None:
        msg = "the prompt was made without its messages: hand over the messages"
    else:
        return
    raise InputError(msg)


def first_view(reader: PromptReader, conversation: Conversation, trace: AnswerTrace, combined: Tensor) -> AnswerView:
    """What a trace alone shows: the pictures, the combined and the mean saliency map, the alternatives.

    Args:
        reader: of the model's prompts.
        conversation: the answer's prompt.
        trace: of the answer.
        combined: ``[N, I]`` `combined_map` of all its tokens.
    """
    positions = trace.layout.beside + trace.image_positions.to(trace.rows.device)
    maps: list[_Map] = []
    if len(positions):
        maps.append(("combined", None, combined))
        maps.append(("saliency", None, trace.rows[:, positions].float().cpu()))
    return _view(reader, conversation, trace, maps)


def whole_view(reader: PromptReader, conversation: Conversation, session: Session, trace: AnswerTrace) -> AnswerView:
    """The whole view: maps of every kind, and of single layers as far as there is room.

    Args:
        reader: of the model's prompts.
        conversation: the answer's prompt.
        session: the prompt, read.
        trace: of the answer.
    """
    maps = list(_chosen(picture_maps(session, trace))) if len(trace.image_positions) else []
    return _view(reader, conversation, trace, maps)


_Map = tuple[MapSource, int | None, Tensor]


def _chosen(maps: PictureMaps) -> Iterator[_Map]:
    """Means first, then single layers, spread evenly, until they take too much room."""
    has_lens = bool(torch.isfinite(maps.lens).all())
    yield "combined", None, maps.combined
    yield "saliency", None, maps.mean_saliency
    yield "attention", None, maps.mean_attention
    if has_lens:
        yield "lens", None, maps.best_lens
    each = maps.mean_saliency.numel()
    room = max(0, MAX_MAP_BYTES // each - 4)
    kinds: list[tuple[MapSource, tuple[int, ...], Tensor]] = [
        ("saliency", maps.layers, maps.saliency),
        ("attention", maps.layers, maps.attention),
    ]
    if has_lens:
        kinds.append(("lens", maps.lens_layers, maps.lens))
    for source, layers, values in kinds:
        count = min(MAX_LAYERS, len(layers), room // len(kinds))
        places = torch.linspace(0, len(layers) - 1, count).round().int().tolist() if count > 1 else []
        for place in places:
            yield source, layers[place], values[:, place]


def _view(reader: PromptReader, conversation: Conversation, trace: AnswerTrace, maps: Sequence[_Map]) -> AnswerView:
    pictures = tuple(_pictures(reader, conversation, trace.layout))
    is_mapped = any(picture.patches for picture in pictures)
    note = "" if is_mapped and maps else NO_PATCHES if maps else NO_POSITIONS
    return AnswerView(
        question=conversation.question,
        pictures=pictures,
        maps=tuple(_heat_map(*each) for each in maps) if is_mapped else (),
        alternatives=_alternatives(reader.tokenizer, trace.logits),
        note=note,
    )


def _pictures(reader: PromptReader, conversation: Conversation, layout: PromptLayout) -> Iterator[PictureView]:
    for number, image in enumerate(conversation.images):
        source = f"image_{number}"
        count = sum(span.stop - span.start for span in layout.spans if span.source == source)
        yield PictureView.model_construct(  # Checked, it would copy the patches of every answer.
            source=source,
            width=image.width,
            height=image.height,
            jpeg=small_jpeg(image),
            positions=count,
            patches=reader.patch_boxes(image, count) or (),
        )


def small_jpeg(image: Image.Image) -> bytes:
    """A picture to look at: at most `MAX_EDGE` pixels along its longer side."""
    scale = min(1.0, MAX_EDGE / max(image.size))
    if scale < 1.0:
        width, height = (max(1, round(length * scale)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=88)
    return file.getvalue()


def _heat_map(source: MapSource, layer: int | None, values: Tensor) -> HeatMap:
    """A map of ``[N, I]`` values, each token by its own largest; what is not finite counts as nothing."""
    known = values.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp_min(0.0)
    peaks = known.amax(dim=1)
    scaled = known / peaks.clamp_min(torch.finfo(known.dtype).tiny)[:, None]
    return HeatMap(
        source=source,
        layer=layer,
        peaks=tuple(peaks.tolist()),
        values=(scaled * 255.0).round().to(torch.uint8).numpy().tobytes(),
    )


def _alternatives(tokenizer: Any, logits: Tensor) -> tuple[tuple[Alternative, ...], ...]:
    best = logits.float().log_softmax(dim=-1).topk(min(ALTERNATIVES, logits.shape[-1]))
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    texts = {token_id: tokenizer.decode([token_id]) for token_id in sorted(set(best.indices.flatten().tolist()))}
    return tuple(
        tuple(
            Alternative(text=texts[token_id], token_id=token_id, logprob=logprob)
            for token_id, logprob in zip(ids, logprobs, strict=True)
        )
        for ids, logprobs in rows
    )
