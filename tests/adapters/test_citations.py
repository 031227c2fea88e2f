"""What rests on which document: pictures and texts side by side, with the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saliency_guard import LVLM, TokenFilter
from saliency_guard.adapters.citations import Documents, rests_on
from saliency_guard.adapters.settings import ServedLVLM

PICTURES = Path(__file__).parents[2] / "examples" / "pictures"
QUESTION = "Describe the image in detail."


def picture(name: str) -> dict[str, Any]:
    return {"type": "image", "image": PICTURES / f"{name}.png"}


def text(number: int, words: str) -> dict[str, Any]:
    return {"type": "text", "text": words, "source": Documents.text_source(number)}


@pytest.fixture(scope="module")
def engine() -> LVLM:
    return ServedLVLM().engine()


@pytest.fixture(scope="module")
def both() -> Documents:
    return Documents([[picture("dog")], [text(1, "A note. "), picture("bird"), text(1, "Of today.")]], QUESTION)


def test_messages(both: Documents) -> None:
    (message,) = both.messages
    assert [part["type"] for part in message["content"]] == ["image", "text", "image", "text", "text"]
    assert [len(one[0]["content"]) for one in both.alone()] == [2, 4]
    assert both.has_picture
    words = Documents([[text(0, "A cat.")], [picture("dog")]], QUESTION)
    assert [part["type"] for part in words.alone()[0][0]["content"]] == ["image", "text", "text"]
    assert not Documents([[text(0, "A cat.")]], QUESTION).has_picture
    assert len(Documents([[text(0, "A cat.")]], QUESTION).alone()[0][0]["content"]) == 2


def test_shares_add_up(engine: LVLM, both: Documents) -> None:
    scored = engine.score(both.messages, "The image shows a bird.")
    shares = both.shares(scored)
    counted = TokenFilter().counted([token.text for token in scored.tokens])
    own = [
        sum(scored.tokens[index].shares[name] for name in names) / len(counted)
        for names in (("image_0",), ("image_1", "document_2"))
        for index in counted
    ]
    assert len(counted) == 1
    assert shares == pytest.approx(own)
    assert 0.0 < sum(shares) < 1.0


@pytest.mark.parametrize(("name", "wanted"), [("dog", 0), ("bird", 1), ("zebra", None)])
def test_a_word_rests_on_the_document_that_shows_it(
    engine: LVLM, both: Documents, name: str, wanted: int | None
) -> None:
    scored = engine.score(both.messages, f"The image shows a {name}.")
    found = rests_on(both.gains(engine, scored), scored, least=1.0)
    assert [one for one in found if one is not None] == ([] if wanted is None else [wanted])
