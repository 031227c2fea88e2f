"""Where named texts stand in a prompt, position by position; or why that is not known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saliency_guard.chat.detokenize import aligned_offsets
from saliency_guard.chat.encode import EncodedPrompt
from saliency_guard.chat.layout import PromptLayout, text_spans
from saliency_guard.chat.messages import TextPart


def with_texts(layout: PromptLayout, encoded: EncodedPrompt, texts: Sequence[TextPart], tokenizer: Any) -> PromptLayout:
    """A prompt's layout with its named texts.

    A source of which one text cannot be found gets no span at all, as its share would be too small.

    Args:
        layout: the prompt's images.
        encoded: the prompt.
        texts: all its texts, in order.
        tokenizer: its tokenizer.
    """
    named = [(number, text.source) for number, text in enumerate(texts) if text.source and text.text]
    if not named:
        return layout
    row, reason = encoded.row, encoded.reason
    offsets = None
    if row is not None:
        offsets = row.offsets or aligned_offsets(tokenizer, row.ids, row.text)
        reason = "the tokenizer does not tell where its tokens stand"
    if row is None or offsets is None:
        return layout.with_unlocated({source: reason for _, source in named})
    changed = {source for number, source in named if number in row.cut or number not in row.ranges}
    places: dict[str, list[tuple[int, int]]] = {}
    for number, source in named:
        if source not in changed:
            places.setdefault(source, []).extend(row.ranges[number])
    spans = text_spans(layout, offsets, places)
    without_tokens = [source for source in places if source not in spans]
    return layout.named(spans).with_unlocated(
        dict.fromkeys(sorted(changed), "the chat template leaves out a text of it, or a part of one")
        | dict.fromkeys(without_tokens, "a text of it has no token of its own")
    )
