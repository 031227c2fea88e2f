"""Answers held to a JSON schema, on the embedded model: with drafts, rejections, sampling and batches."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from saliency_guard import LVLM, ConfigError, SGRSConfig
from saliency_guard.chat.messages import chat
from saliency_guard.decoding.json_schema import SchemaMask

ANIMALS = ["cat", "dog", "bird"]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "what": {"type": "string", "maxLength": 40},
        "animals": {"type": "array", "items": {"enum": ANIMALS}, "maxItems": 3},
        "count": {"type": "integer", "minimum": 0, "maximum": 20},
        "outside": {"type": "boolean"},
    },
    "required": ["what", "animals", "count", "outside"],
    "additionalProperties": False,
}
SETTINGS: list[dict[str, Any]] = [
    {"sgrs": None, "locore": None},
    {"sgrs": SGRSConfig(draft_length=1)},
    {"sgrs": SGRSConfig(alpha=0.99, draft_length=16)},
    {"sgrs": None, "temperature": 1.3, "seed": 5},
]


def check(text: str) -> None:
    form = json.loads(text)
    assert list(form) == SCHEMA["required"]
    assert isinstance(form["what"], str)
    assert set(form["animals"]) <= set(ANIMALS)
    assert 0 <= form["count"] <= 20
    assert isinstance(form["outside"], bool)


@pytest.mark.parametrize("how", SETTINGS)
def test_answers_are_json_of_the_schema(lvlm: LVLM, how: dict[str, Any]) -> None:
    messages = chat(Image.new("RGB", (64, 64), "teal"), "Describe the image.")
    answer = lvlm.generate(messages, json_schema=SCHEMA, max_new_tokens=250, **how)
    assert answer.finish_reason == "stop"
    check(answer.text)
    assert all(token.saliency is not None for token in answer.tokens[1:])


def test_draft_length_changes_nothing(lvlm: LVLM) -> None:
    messages = chat(Image.new("RGB", (64, 64), "teal"), "Describe the image.")
    texts = {
        lvlm.generate(
            messages,
            json_schema=SCHEMA,
            max_new_tokens=200,
            sgrs=SGRSConfig(alpha=0.95, draft_length=length),
            temperature=1.0,
            seed=1,
        ).text
        for length in (1, 3, 16)
    }
    assert len(texts) == 1


def test_a_batch_gives_what_each_gives_alone(lvlm: LVLM) -> None:
    batch = [
        chat(Image.new("RGB", (64, 64), colour), question)
        for colour, question in (("teal", "Describe the image."), ("red", "How many cats are there?"))
    ]
    together = lvlm.generate_batch(batch, json_schema=SCHEMA, max_new_tokens=200)
    alone = [lvlm.generate(messages, json_schema=SCHEMA, max_new_tokens=200) for messages in batch]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    for answer in together:
        check(answer.text)


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, "string", {"type": "object", "x": object()}])
def test_a_schema_that_cannot_be_used_is_said(lvlm: LVLM, schema: Any) -> None:
    with pytest.raises(ConfigError, match="json_schema"):
        lvlm.generate(chat(Image.new("RGB", (8, 8)), "Hi"), json_schema=schema)


def test_a_slow_tokenizer_is_said() -> None:
    class Slow:
        def convert_tokens_to_ids(self, token: str) -> int | None:
            return None

    mask = SchemaMask(SCHEMA, Slow(), frozenset({2}), 0)
    with pytest.raises(ConfigError, match="fast tokenizer"):
        mask(torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, 10))


@given(st.lists(st.integers(0, 60), max_size=4), st.data())
@settings(max_examples=20, deadline=None)
def test_what_was_taken_back_leaves_no_trace(lvlm: LVLM, cuts: list[int], data: st.DataObject) -> None:
    """A mask asked along detours says the same as a fresh one."""
    ids = lvlm.tokenizer(
        '{"what": "a cat", "animals": ["cat"], "count": 3, "outside": true}', add_special_tokens=False
    )["input_ids"]
    end = min(lvlm.end_tokens)
    vocabulary = len(lvlm.tokenizer)
    detoured = SchemaMask(SCHEMA, lvlm.tokenizer, lvlm.end_tokens, 0)
    for cut in [*cuts, len(ids)]:
        output = torch.tensor([[*ids[:cut], *([end] * data.draw(st.integers(0, 2)) if cut >= len(ids) else [])]])
        scores = torch.randn(1, vocabulary)
        fresh = SchemaMask(SCHEMA, lvlm.tokenizer, lvlm.end_tokens, 0)
        torch.testing.assert_close(detoured(output.long(), scores), fresh(output.long(), scores))
