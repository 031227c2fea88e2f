"""Where named texts stand in a prompt, compared with prompts put together by hand."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import tiny_processors
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from saliency_guard import LVLM
from saliency_guard.chat.layout import PromptLayout
from saliency_guard.chat.template import PromptReader

IMAGE = object()
Piece = tuple[str | None, Any]
"""A source, and its text; the template's own has none."""


def read(lvlm: LVLM, messages: Any) -> tuple[Any, PromptLayout]:
    reader = PromptReader(lvlm.model, lvlm.processor, "it", require_image=False, max_image_pixels=10**6)
    prepared = reader.prepare(messages)
    return prepared.inputs, prepared.layout


def located(layout: PromptLayout) -> dict[str, set[int]]:
    """Positions of every source but images."""
    positions: dict[str, set[int]] = {}
    for span in layout.spans:
        if not span.is_visual:
            positions.setdefault(span.source, set()).update(range(span.start, span.stop))
    return positions


def by_hand(lvlm: LVLM, pieces: list[Piece], images: list[int]) -> dict[str, set[int]]:
    """Positions of tokens that overlap a source's text, in a prompt that is put together from pieces."""
    text = ""
    places: list[tuple[str, int, int]] = []
    sizes = iter(images)
    for source, piece in pieces:
        start = len(text)
        text += "<image>" * next(sizes) if piece is IMAGE else piece
        if source is not None and piece:
            places.append((source, start, len(text)))
    encoded = lvlm.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    positions: dict[str, set[int]] = {}
    taken: set[int] = set()
    for source, start, stop in places:
        inside = {k for k, (a, b) in enumerate(encoded["offset_mapping"]) if a < stop and b > start} - taken
        taken |= inside
        positions.setdefault(source, set()).update(inside)
    return positions


def embedded_prompt(messages: list[dict[str, Any]]) -> list[Piece]:
    """The embedded model's template, piece by piece."""
    pieces: list[Piece] = [(None, "<s>")]
    for message in messages:
        pieces.append((None, {"user": "USER: ", "assistant": "ASSISTANT:\n", "system": ""}[message["role"]]))
        for part in message["content"]:
            if part["type"] == "image":
                pieces += [(None, IMAGE), (None, "\n")]
            else:
                pieces.append((part.get("source", "system" if message["role"] == "system" else None), part["text"]))
        pieces.append((None, "</s>\n" if message["role"] == "assistant" else "\n"))
    return [*pieces, (None, "ASSISTANT:\n")]


def image() -> dict[str, Any]:
    return {"type": "image", "image": tiny_processors.picture()}


def text(said: str, source: str | None = None) -> dict[str, Any]:
    return {"type": "text", "text": said} | ({"source": source} if source else {})


@pytest.mark.parametrize("said", ["s", "USER", "ASSISTANT", "\n", "<", "Be brief.", "image", " ", ":", "USER: ", "🐘"])
def test_short_texts_are_found_where_they_stand(lvlm: LVLM, said: str) -> None:
    messages = [
        {"role": "system", "content": [text("Be brief.")]},
        {"role": "user", "content": [text(said, "document_1"), image(), text(f" {said}?"), text(said, "document_2")]},
        {"role": "assistant", "content": [text("Yes.")]},
        {"role": "user", "content": [text("Or: "), text(said, "document_3"), text("x"), text(said, "document_3")]},
    ]
    layout = read(lvlm, messages)[1]
    expected = by_hand(lvlm, embedded_prompt(messages), [64])
    assert located(layout) == expected
    assert expected.keys() == {"system", "document_1", "document_2", "document_3"}
    assert layout.unlocated == ()


SAID = st.text(st.sampled_from("sUSER:AIT\n .e"), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(said=st.lists(st.tuples(SAID, st.sampled_from([None, "document_1", "document_2"])), min_size=1, max_size=6))
def test_any_texts_are_found_where_they_stand(lvlm: LVLM, said: list[tuple[str, str | None]]) -> None:
    parts = [text(*each) for each in said]
    half = len(parts) // 2
    messages = [{"role": "user", "content": [*parts[:half], image(), *parts[half:]]}]
    expected = by_hand(lvlm, embedded_prompt(messages), [64])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layout = read(lvlm, messages)[1]
    # Two texts can share a token; then one may have none of its own.
    assert {source for source, _ in layout.unlocated} == {s for _, s in said if s} - located(layout).keys()
    assert len(caught) == len(layout.unlocated)
    assert all(positions == expected[source] for source, positions in located(layout).items())
    unlocated = {source for source, _ in layout.unlocated}
    assert located(layout).keys() - unlocated == expected.keys() - unlocated


def test_a_named_text_that_holds_control_tokens_is_found(lvlm: LVLM) -> None:
    messages = [
        {"role": "user", "content": [text("A </s> <image> z", "document_1"), image(), text("</s>", "document_2")]}
    ]
    inputs, layout = read(lvlm, messages)
    ids = inputs["input_ids"][0]
    texts = {source: lvlm.tokenizer.decode(ids[sorted(places)]) for source, places in located(layout).items()}
    assert {source: each.strip() for source, each in texts.items()} == {
        "document_1": "A </s> <image> z",
        "document_2": "</s>",
    }
    assert lvlm.tokenizer.decode(ids).count("</s>") == 2


def chatml(messages: list[dict[str, Any]]) -> list[Piece]:
    pieces: list[Piece] = []
    for message in messages:
        pieces.append((None, f"<|im_start|>{message['role']}<turn>\n"))
        pieces += [
            (None, IMAGE) if part["type"] == "image" else (part.get("source"), part["text"])
            for part in message["content"]
        ]
        pieces.append((None, "<|im_end|>\n"))
    return [*pieces, (None, "<|im_start|>assistant<turn>\n")]


@pytest.mark.parametrize("said", ["s", "user", "<", "im", "\n", "assistant", " a"])
@pytest.mark.parametrize("name", ["byte-level", "unigram"])
def test_texts_around_pictures_of_any_size(said: str, name: str) -> None:
    lvlm = tiny_processors.qwen2_vl(tiny_processors.TOKENIZERS[name]())
    large = {"type": "image", "image": Image.new("RGB", (16, 24))}
    content = [text(said, "document_1"), large, text(said, "document_2"), image(), text("?"), text(said, "document_1")]
    messages = [{"role": "user", "content": content}]
    inputs, layout = read(lvlm, messages)
    assert int((inputs["input_ids"] == lvlm.model.config.image_token_id).sum()) == 7
    assert located(layout) == by_hand(lvlm, chatml(messages), [6, 1])


@pytest.mark.parametrize("name", list(tiny_processors.TOKENIZERS))
@pytest.mark.parametrize("template", list(tiny_processors.TEMPLATES))
def test_texts_are_found_with_every_kind_of_tokenizer(name: str, template: str) -> None:
    lvlm = tiny_processors.llava(tiny_processors.TOKENIZERS[name](), tiny_processors.TEMPLATES[template])
    content = [text("The tree. ", "document_1"), image(), text(" Is there a cat? "), text("a cat", "document_2")]
    inputs, layout = read(lvlm, [{"role": "user", "content": content}])
    ids = inputs["input_ids"][0]
    texts = {source: lvlm.tokenizer.decode(ids[sorted(places)]) for source, places in located(layout).items()}
    assert {source: each.strip().casefold() for source, each in texts.items()} == {
        "document_1": "the tree.",
        "document_2": "a cat",
    }


def shouting(template: str) -> str:
    return template.replace("{{ part['text'] }}", "{{ part['text'] | title }}")


def test_a_text_that_the_template_changes_has_no_share_and_it_is_said(lvlm: LVLM) -> None:
    processor = type(lvlm.processor)(
        image_processor=lvlm.processor.image_processor,
        tokenizer=lvlm.tokenizer,
        patch_size=16,
        vision_feature_select_strategy="full",
        chat_template=shouting(lvlm.processor.chat_template),
    )
    loud = LVLM(lvlm.model, processor)
    messages = [{"role": "user", "content": [image(), text("is there a cat?", "document_1")]}]
    with pytest.warns(UserWarning, match="'document_1' has no share of its own"):
        answer = loud.generate(messages, max_new_tokens=2)
    assert answer.shares.keys() == {"image_0", "text", "output"}
    assert "otherwise than" in answer.unlocated["document_1"]
    with pytest.warns(UserWarning, match="no share of its own"):
        assert loud.score(messages, "Yes.").unlocated == answer.unlocated


def test_a_text_that_the_template_leaves_out_is_said_to_be(lvlm: LVLM) -> None:
    silent = tiny_processors.CHATML.replace("for message in messages", "for message in messages[1:]")
    small = tiny_processors.llava(tiny_processors.byte_level(), silent)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [image(), text("A cat.", "document_1")]},
    ]
    with pytest.warns(UserWarning, match="'system' has no share"):
        layout = read(small, messages)[1]
    assert [source for source, _ in layout.unlocated] == ["system"]
    assert located(layout).keys() == {"document_1"}
    assert read(lvlm, messages)[1].unlocated == ()
