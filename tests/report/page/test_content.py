"""What the page says: the verdict first, honest about what is not known; plain values of an answer's plain values."""

from __future__ import annotations

from typing import Any

import pytest

from saliency_guard import GroundedAnswer
from saliency_guard.answer import Claim, TokenGrounding, Usage
from saliency_guard.answer_view import Alternative, AnswerView, HeatMap, PictureView
from saliency_guard.report.page.content import (
    AttemptContent,
    PageContent,
    level,
    probability,
    script_data,
    template_values,
    tokens_of,
    verdict,
)

PIECES = ["A", " cat", " on", " the", " left", "."]


def claim(text: str, start: int, grounding: float | None, **values: Any) -> Claim:
    return Claim(
        text=text, kind="object", span=(start, start + len(text)), statement=text, grounding=grounding, **values
    )


def answer(**values: Any) -> GroundedAnswer:
    tokens = tuple(
        TokenGrounding(
            text=piece, token_id=index, position=index, logprob=-0.1 * index, saliency=0.2 if index else None
        )
        for index, piece in enumerate(PIECES)
    )
    usage = Usage(prompt_tokens=9, completion_tokens=6, total_tokens=15)
    filled = {"text": "".join(PIECES), "tokens": tokens, "finish_reason": "stop", "usage": usage, "model_id": "m"}
    return GroundedAnswer(**{**filled, **values})


def content(**values: Any) -> PageContent:
    return PageContent(answer(**values).to_dict())


def test_the_verdict_is_the_number_or_the_reason() -> None:
    good = content(grounding=0.93, calibrated=True, claims=(claim("cat", 2, 0.95), claim("left", 13, 0.4)))
    assert verdict(good)["level"] == "high"
    assert verdict(good)["sentence"] == "With probability 0.93, all of its 2 claims are true."
    assert "1 of 2 claims is more likely wrong than right." in verdict(good)["more"]
    unknown = content(grounding_reason="the picture is unlike those the calibration was fitted on")
    assert verdict(unknown)["level"] == "none"
    assert verdict(unknown)["sentence"].startswith("No grounding: the picture is unlike")
    foreign = content(grounding=0.93, claims=(claim("cat", 2, 0.95),))
    assert "fitted for another model" in verdict(foreign)["more"]
    part = content(grounding_reason="why", claims=(claim("cat", 2, 0.95), claim("left", 13, None)))
    assert "1 of 2 claims have one of their own" in verdict(part)["more"]


def test_a_policy_s_decision_is_told_with_its_threshold() -> None:
    decided = PageContent(answer().to_dict(), threshold=0.8, decision="not_applicable")
    assert "decision: not applicable (threshold 0.800)" in verdict(decided)["more"]


@pytest.mark.parametrize(
    ("grounding", "word"), [(None, "none"), (float("nan"), "none"), (0.49, "low"), (0.5, "middle"), (0.9, "high")]
)
def test_groundings_have_words(grounding: float | None, word: str) -> None:
    assert level(grounding) == word


def test_a_span_is_its_tokens() -> None:
    plain = answer().to_dict()
    assert tokens_of(plain, (2, 5)) == [1]
    assert tokens_of(plain, (2, 17)) == [1, 2, 3, 4]
    assert tokens_of(plain, (0, 0)) == []


def view(*maps: HeatMap) -> AnswerView:
    picture = PictureView(
        source="image_0", width=840, height=420, jpeg=b"jpeg", positions=2, patches=((0.0, 0.0, 0.5, 1.0), None)
    )
    return AnswerView(question="What?", pictures=(picture,), maps=maps)


def test_boxes_are_in_pixels_and_labels_inside() -> None:
    boxed = claim("cat", 2, 0.95, box=(0.25, 0.0, 0.5, 0.5), source="image_0", noun="cat")
    elsewhere = claim("cat", 2, 0.95, box=(0.25, 0.0, 0.5, 0.5), source="image_1")
    values = template_values(PageContent(answer(claims=(boxed, elsewhere)).to_dict(), view()))
    (box,) = values["pictures"][0]["boxes"]
    assert (box["x"], box["y"], box["width"], box["height"]) == (210.0, 0.0, 210.0, 210.0)
    assert 0.0 < box["label_y"] < 210.0
    assert box["label"] == "cat 0.95"


def test_maps_come_source_by_source() -> None:
    def heat(source: Any, layer: int | None) -> HeatMap:
        return HeatMap(source=source, layer=layer, peaks=(1.0,) * 6, values=bytes(12))

    shown = PageContent(answer().to_dict(), view(heat("attention", None), heat("saliency", None), heat("attention", 2)))
    maps = script_data(shown)["maps"]
    assert [(each["source"], each["layer"]) for each in maps] == [
        ("saliency", None),
        ("attention", None),
        ("attention", 2),
    ]
    assert [source["name"] for source in template_values(shown)["sources"]] == ["saliency", "attention"]


def test_numbers_that_json_does_not_have_are_left_out() -> None:
    tokens = (TokenGrounding(text="x", token_id=0, position=0, logprob=float("-inf"), saliency=None),)
    data = script_data(content(tokens=tokens, text="x"))
    assert data["tokens"][0]["logprob"] is None
    assert data["answer"]["tokens"][0]["logprob"] is None


def test_attempts_without_a_score_say_so() -> None:
    attempts = (AttemptContent("Attempt 1", "A cat.", "unscored", None, "why"),)
    values = template_values(PageContent(answer().to_dict(), attempts=attempts))
    assert values["attempts"][0]["score"] == "none"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (0.004, "<0.01"), (0.006, "0.01"), (0.5, "0.50"), (0.994, "0.99"), (0.996, ">0.99"), (1.0, "1.00")],
)
def test_what_is_not_certain_is_not_written_as_if_it_were(value: float, text: str) -> None:
    assert probability(value) == text


def test_a_grounding_close_to_one_is_not_said_to_be_one() -> None:
    sure = content(grounding=0.9991, calibrated=True, claims=(claim("cat", 2, 0.9991),))
    assert verdict(sure)["sentence"] == "With probability above 0.99, its claim is true."
    assert template_values(sure)["claims"][0]["grounding"] == ">0.99"
    low = content(grounding=0.02, calibrated=True, claims=(claim("cat", 2, 0.02),))
    assert verdict(low)["more"] == ""


def test_numbers_of_files_that_lie_make_no_error() -> None:
    tokens = (
        TokenGrounding(text="x", token_id=0, position=0, logprob=1e9, saliency=None),
        TokenGrounding(text="y", token_id=0, position=0, logprob=float("nan"), saliency=None),
    )
    turned = claim("x", 0, 0.5, box=(0.75, 0.5, 0.25, 0.0), source="image_0")
    other = Alternative(text="z", token_id=1, logprob=float("-inf"))
    shown = PageContent(
        answer(tokens=tokens, text="xy", claims=(turned,)).to_dict(),
        view().model_copy(update={"alternatives": ((other,),)}),
        threshold=float("nan"),
    )
    values = template_values(shown)
    assert [token["spoken"] for token in values["tokens"]] == ["x, probability 1.00", "y"]
    (box,) = values["pictures"][0]["boxes"]
    assert (box["x"], box["y"], box["width"], box["height"]) == (210.0, 0.0, 420.0, 210.0)
    data = script_data(shown)
    assert data["alternatives"] == [[{"text": "z", "logprob": None}]]
    assert data["threshold"] is None


def test_a_sign_that_turns_the_direction_turns_its_own_token_only() -> None:
    tokens = tuple(
        TokenGrounding(text=text, token_id=0, position=0, logprob=-1.0, saliency=None) for text in ("a\u202eb", " c")
    )
    values = template_values(content(tokens=tokens, text="a\u202eb c"))
    assert [token["level"] for token in values["tokens"]] == [" apart", ""]
