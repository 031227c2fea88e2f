"""Many conversations answered in batches, for evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from saliency_guard.chat.tools import in_words
from saliency_guard.evaluation.world import batches
from saliency_guard.lvlm import LVLM

Conversation = Sequence[Mapping[str, Any]]

_TOKENS = 12_000


def picture(image: Any) -> dict[str, Any]:
    """A picture as a part of a message."""
    return {"type": "image", "image": image}


def text(said: str) -> dict[str, Any]:
    """A text as a part of a message."""
    return {"type": "text", "text": said}


def user(*parts: Mapping[str, Any] | str) -> dict[str, Any]:
    """A message of the user."""
    return {"role": "user", "content": [text(part) if isinstance(part, str) else dict(part) for part in parts]}


def assistant(said: str) -> dict[str, Any]:
    """A message of the assistant."""
    return {"role": "assistant", "content": [text(said)]}


def system(said: str) -> dict[str, Any]:
    """The system message."""
    return {"role": "system", "content": [text(said)]}


def answers(
    lvlm: LVLM,
    conversations: Sequence[Conversation],
    *,
    max_new_tokens: int = 64,
    tools: Sequence[Sequence[Mapping[str, Any]]] | None = None,
) -> list[str]:
    """Greedy answers without guard, in order; tools are described in the prompt.

    Args:
        lvlm: whose model writes.
        conversations: messages, each with any number of pictures.
        max_new_tokens: the most tokens of each answer.
        tools: of every conversation.
    """
    prepared = [
        in_words(list(messages), list(tools[number]) if tools else []) for number, messages in enumerate(conversations)
    ]
    prompts = [
        lvlm.processor.apply_chat_template([messages], add_generation_prompt=True, tokenize=False)[0]
        for messages in prepared
    ]
    images = [_images(messages) for messages in prepared]
    lengths = [len(lvlm.tokenizer.encode(prompt)) for prompt in prompts]
    # A batch holds prompts of similar length with the same number of pictures.
    order = sorted(range(len(prompts)), key=lambda number: (len(images[number]), lengths[number]))
    written: dict[int, str] = {}
    for count in sorted({len(shown) for shown in images}):
        same = [number for number in order if len(images[number]) == count]
        longest = max(lengths[number] for number in same) + 64 * count + max_new_tokens
        for batch in batches(same, max(1, min(64, _TOKENS // longest))):
            said = _batch(lvlm, [prompts[k] for k in batch], [images[k] for k in batch], max_new_tokens)
            written |= dict(zip(batch, said, strict=True))
    return [written[number] for number in range(len(prompts))]


def _images(messages: Conversation) -> list[Any]:
    parts = [part for message in messages if not isinstance(message["content"], str) for part in message["content"]]
    return [part["image"] for part in parts if part["type"] == "image"]


def _batch(lvlm: LVLM, prompts: list[str], images: list[list[Any]], max_new_tokens: int) -> list[str]:
    shown = {"images": images} if images[0] else {}
    # The template has written the beginning already.
    encoded = lvlm.processor(
        text=prompts, **shown, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False
    )
    inputs = {name: value for name, value in encoded.items() if isinstance(value, torch.Tensor)}
    with torch.inference_mode():
        model: Any = lvlm.model
        ids = model.generate(
            **inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, repetition_penalty=1.0
        )
    answered: list[str] = lvlm.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answered
