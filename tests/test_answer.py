"""An answer's numbers are probabilities and parts, or it is none."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from saliency_guard import GroundedAnswer, TokenGrounding, Usage

TOKEN: dict[str, Any] = {"text": "cat", "token_id": 1, "position": 0, "logprob": -1.0, "saliency": None}
ANSWER: dict[str, Any] = {
    "text": "cat",
    "tokens": (),
    "finish_reason": "stop",
    "usage": Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2),
    "model_id": "none",
}
NO_PROBABILITY = [float("nan"), float("inf"), -float("inf"), -1e-9, 1.0001]


@pytest.mark.parametrize("wrong", NO_PROBABILITY)
def test_a_grounding_is_a_probability(wrong: float) -> None:
    with pytest.raises(ValidationError, match="grounding"):
        GroundedAnswer(**ANSWER, grounding=wrong)
    with pytest.raises(ValidationError, match="grounding"):
        TokenGrounding(**TOKEN, grounding=wrong)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_share_is_a_part(wrong: float) -> None:
    with pytest.raises(ValidationError, match="shares"):
        TokenGrounding(**TOKEN, shares={"image_0": wrong})


@pytest.mark.parametrize("right", [None, 0.0, 0.5, 1.0])
def test_what_is_one_is_kept(right: float | None) -> None:
    assert GroundedAnswer(**ANSWER, grounding=right).grounding == right
    assert TokenGrounding(**TOKEN, grounding=right, shares={"text": 1.0000001}).grounding == right
