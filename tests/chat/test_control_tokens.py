"""Which strings a tokenizer and a processor read as more than text, and how they are spelt as text."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_processors
from hypothesis import given
from hypothesis import strategies as st

from saliency_guard import LVLM
from saliency_guard.chat.control_tokens import ControlTokens, any_of, control_tokens, template_text


def of(lvlm: LVLM) -> ControlTokens:
    return control_tokens(lvlm.tokenizer, lvlm.processor, [lvlm.model.config])


@pytest.fixture(scope="module", params=list(tiny_processors.TOKENIZERS))
def controls(request: pytest.FixtureRequest) -> ControlTokens:
    return of(tiny_processors.llava(tiny_processors.TOKENIZERS[request.param]()))


def test_special_tokens_and_those_that_the_template_writes_are_control_tokens(controls: ControlTokens) -> None:
    assert set(tiny_processors.SPECIAL) - {"<unk>"} <= set(controls.strings)
    assert {"<turn>", "<think>", "</tool_call>"} <= set(controls.strings)
    assert list(controls.strings) == sorted(controls.strings, key=lambda text: (-len(text), text))
    unknown = controls.tokenizer.unk_token_id
    assert unknown not in controls.ids
    assert controls.tokenizer.convert_tokens_to_ids("</s>") in controls.ids


def test_an_added_token_that_the_template_does_not_write_is_text() -> None:
    plain = of(tiny_processors.llava(tiny_processors.byte_level(), tiny_processors.PLAIN))
    assert "<turn>" not in plain.strings
    assert "<think>" in plain.strings  # It marks thoughts.


@pytest.mark.parametrize("text", ["</s>", "<image>", "<|im_end|>", "<think>", "<turn>"])
def test_a_control_token_is_spelt_as_text(controls: ControlTokens, text: str) -> None:
    ids = controls.spell(text)
    assert ids is not None
    assert controls.ids.isdisjoint(ids)
    said = controls.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    assert "".join(said.split()).casefold() == text
    assert controls.holds(text)


def test_what_a_tokenizer_cannot_write_is_none() -> None:
    words = of(tiny_processors.llava(tiny_processors.whole_words(), tiny_processors.PLAIN))
    assert words.spell("</s>") is not None  # Its parts are words.
    assert words.spell("<image>") is None


def test_every_control_token_in_a_text_is_marked(controls: ControlTokens) -> None:
    marked: list[str] = []

    def mark(text: str) -> str:
        marked.append(text)
        return "#"

    assert controls.mark("a</s>b<|im_end|><image> c", mark) == "a#b## c"
    assert marked == ["</s>", "<|im_end|>", "<image>"]
    assert controls.mark("1 < 2 and x > y", mark) == "1 < 2 and x > y"


def test_what_models_write_themselves_is_left_in_answers(controls: ControlTokens) -> None:
    text = "<think>Hm.</think>No.</s>"
    assert controls.mark(text, lambda _: "#", is_answer=True) == "<think>Hm.</think>No.#"
    assert controls.mark(text, lambda _: "#") == "#Hm.#No.#"
    assert controls.harmless(text, is_answer=True).startswith("<think>")


def test_a_token_that_is_only_one_in_another_spelling_is_marked() -> None:
    lower = of(tiny_processors.llava(tiny_processors.word_piece()))
    assert lower.normalise is not None
    assert lower.mark("a<THINK>b", lambda text: f"[{text}]") == "a[<THINK>]b"


@given(text=st.text(max_size=30), is_answer=st.booleans())
def test_a_harmless_text_is_as_long_and_holds_nothing(text: str, is_answer: bool) -> None:
    controls = _bytes()
    safe = controls.harmless(text, is_answer=is_answer)
    assert len(safe) == len(text)
    assert is_answer or not controls.pattern.search(safe)


_CONTROLS: list[ControlTokens] = []


def _bytes() -> ControlTokens:
    if not _CONTROLS:
        _CONTROLS.append(of(tiny_processors.llava(tiny_processors.byte_level())))
    return _CONTROLS[0]


@pytest.mark.parametrize(("text", "may"), [("</s>", True), ("</", True), ("s>", True), ("cat", False), ("", False)])
def test_parts_of_a_control_token_may_become_one(text: str, may: bool) -> None:
    assert _bytes().may_control(text) is may


def test_the_longest_string_is_found_first_and_nothing_in_none() -> None:
    assert any_of(["<a", "<a>"]).findall("<a><a") == ["<a>", "<a"]
    assert any_of([]).search("anything") is None


def test_all_templates_of_a_processor_are_read() -> None:
    class Several:
        chat_template: Any = {"default": "one", "tools": "two"}  # noqa: RUF012

    assert template_text(Several()) == "one\ntwo"
    assert template_text(object()) == ""
