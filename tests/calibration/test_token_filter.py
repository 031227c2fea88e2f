"""Which tokens count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saliency_guard import LVLM, ConfigError, TokenFilter
from saliency_guard.chat import detokenize as text_module


def words(filter_: TokenFilter, text: str, size: int = 3) -> list[str]:
    """What is counted, with the text cut into pieces of a few characters."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    return [pieces[index] for index in filter_.counted(pieces)]


def test_content_words_and_numbers_count_and_articles_do_not() -> None:
    text = "The image shows two cats and a red apple."
    assert words(TokenFilter(), text, 100) == [text]
    pieces = ["The", " image", " shows", " two", " ca", "ts", " and", " a", " red", " app", "le", "."]
    assert TokenFilter().counted(pieces) == (3, 4, 8, 9)


def test_answers_to_yes_no_questions_count() -> None:
    assert TokenFilter().counted(["No", ",", " there", " is", " no", " dog", "."]) == (0, 4, 5)
    assert TokenFilter().counted(["Yes", "."]) == (0,)


def test_chosen_words_and_all_tokens() -> None:
    pieces = ["A", " CAT", " sees", " a", " cat", "."]
    assert TokenFilter(count="words", words=frozenset({"cat"})).counted(pieces) == (1, 4)
    assert TokenFilter(count="all").counted(pieces) == tuple(range(6))


def test_scripts_without_spaces_count_by_character() -> None:
    assert TokenFilter().counted(["两", "只", "猫"]) == (0, 1, 2)
    assert len(TokenFilter().counted(["zwei ", "Katzen"])) == 2


def test_unknown_settings_are_refused() -> None:
    for values in ({"count": "nouns"}, {"words": {"cat"}}, {"count": "words"}, {"count": "words", "words": {"a b"}}):
        with pytest.raises(ConfigError, match="TokenFilter"):
            TokenFilter(**values)


@given(st.text(max_size=60), st.integers(1, 7))
def test_every_counted_token_is_one_of_them(text: str, size: int) -> None:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    for chosen in (TokenFilter(), TokenFilter(count="all")):
        counted = chosen.counted(pieces)
        assert list(counted) == sorted(set(counted))
        assert set(counted) <= set(range(len(pieces)))
    assert TokenFilter(count="all").counted(pieces) == tuple(range(len(pieces)))


def test_the_embedded_models_tokens(lvlm: LVLM) -> None:
    text = "The image shows two cats. The apple is on the left."
    encoded = text_module.encode(lvlm.tokenizer, text)
    counted = [encoded.pieces[index].strip() for index in TokenFilter().counted(encoded.pieces)]
    assert len(counted) == 4
    assert all(word.startswith(begun) for begun, word in zip(counted, ["two", "cats", "apple", "left"], strict=True))
