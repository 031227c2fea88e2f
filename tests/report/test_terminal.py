"""An answer in the terminal: its text, its sources, what was rejected."""

from __future__ import annotations

import pytest
from PIL import Image
from rich.console import Console, RenderableType

from saliency_guard import LVLM, GroundedAnswer, SGRSConfig
from saliency_guard.answer import Step
from saliency_guard.chat.messages import chat
from saliency_guard.report.terminal import StreamView, answer_view, coloured, comparison_table, tokens_table
from saliency_guard.scenes.language import DESCRIBE


@pytest.fixture(scope="module")
def answer(lvlm: LVLM, picture: Image.Image) -> GroundedAnswer:
    return lvlm.generate(chat(picture, DESCRIBE), max_new_tokens=40, sgrs=SGRSConfig(alpha=0.95, min_p=0.1))


def printed(view: RenderableType) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_the_text_is_whole_and_coloured(answer: GroundedAnswer) -> None:
    text = coloured(answer)
    assert text.plain == answer.text
    judged = [claim for claim in answer.claims if claim.grounding is not None]
    assert len(text.spans) == len(judged) > 0
    bare = answer.model_copy(
        update={"claims": tuple(claim.model_copy(update={"grounding": None}) for claim in answer.claims)}
    )
    assert coloured(bare).spans == []


def test_the_verdict_comes_first(lvlm: LVLM, picture: Image.Image) -> None:
    answer = lvlm.generate(chat(picture, DESCRIBE))
    assert printed(answer_view(answer, "Title")).startswith(f"Grounding  {answer.grounding:.2f}")
    unjudged = answer.model_copy(update={"grounding": None, "grounding_reason": "the picture is unlike the others"})
    assert printed(answer_view(unjudged, "Title")).startswith("No grounding: the picture is unlike the others")


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


def test_a_stream_is_plain_until_it_is_judged(lvlm: LVLM, picture: Image.Image) -> None:
    view = StreamView()
    assert "0 tokens" in printed(view)
    steps = list(lvlm.stream(chat(picture, DESCRIBE), max_new_tokens=12))
    for step in steps[:5]:
        view.take(step)
    text = "".join(step.token.text for step in steps[:5] if step.token is not None)
    assert text.strip() in printed(view)
    assert "not judged yet" in printed(view)
    assert "image_0" in printed(view)
    with pytest.raises(RuntimeError, match="not ended"):
        _ = view.whole
    for step in steps[5:]:
        view.take(step)
    assert view.whole is steps[-1].answer
    assert view.whole.text in " ".join(printed(view).split())
    assert "not judged yet" not in printed(view)


def test_names_and_texts_are_no_commands(answer: GroundedAnswer) -> None:
    token = answer.tokens[0].model_copy(update={"text": "A\x1b[2Jcat", "shares": {"[/red]": 1.0}})
    claims = tuple(claim.model_copy(update={"text": "\x9bcat", "source": "[/red]"}) for claim in answer.claims)
    hostile = answer.model_copy(update={"text": "A\x1b[2Jcat", "tokens": (token,), "claims": claims})
    stream = StreamView()
    stream.take(Step(token=token))
    views = [answer_view(hostile, "\x1b[2J"), stream, tokens_table(hostile), comparison_table({"one": hostile})]
    shown = [printed(view) for view in views]
    assert all("[/red]" in text for text in shown)
    assert "A\ufffd[2Jcat" in shown[0]
    assert not any(sign in text for text in shown for sign in "\x1b\x9b")
