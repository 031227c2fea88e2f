"""An answer in the terminal: its text, its sources, what was rejected."""

from __future__ import annotations

import pytest
from PIL import Image
from rich.console import Console, RenderableType

from saliency_guard import LVLM, GroundedAnswer, SGRSConfig
from saliency_guard.chat.messages import chat
from saliency_guard.report.terminal import answer_view, coloured, comparison_table, tokens_table
from saliency_guard.scenes.language import DESCRIBE


@pytest.fixture(scope="module")
def answer(lvlm: LVLM, picture: Image.Image) -> GroundedAnswer:
    return lvlm.generate(chat(picture, DESCRIBE), max_new_tokens=12, sgrs=SGRSConfig(alpha=0.95))


def printed(view: RenderableType) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_the_text_is_whole_and_coloured(answer: GroundedAnswer) -> None:
    text = coloured(answer)
    assert text.plain == answer.text
    assert len({span.style for span in text.spans}) > 2


def test_the_view_has_title_sources_and_rejections(answer: GroundedAnswer) -> None:
    rejected = [candidate for token in answer.tokens for candidate in token.rejected]
    assert rejected
    view = printed(answer_view(answer, "The [title]"))
    for part in ("The [title]", "image_0", "Rejected by SGRS", repr(rejected[0].text)):
        assert part in view


def test_every_token_has_a_row(answer: GroundedAnswer) -> None:
    assert tokens_table(answer).row_count == len(answer.tokens)
    assert f"{answer.tokens[1].saliency:.3f}" in printed(tokens_table(answer))


def test_answers_are_compared_side_by_side(answer: GroundedAnswer, lvlm: LVLM, picture: Image.Image) -> None:
    other = lvlm.score(chat(picture, DESCRIBE), "An elephant.")
    table = printed(comparison_table({"first": answer, "second": other}))
    for part in ("first", "second", f"{other.grounding:.3f}", "share on image_0"):
        assert part in table
