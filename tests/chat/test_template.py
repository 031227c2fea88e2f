"""A processor that does not fit its model is an error of the model's, before anything is written or scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny_processors

from saliency_guard import LVLM, ModelError
from saliency_guard.chat.messages import chat

USES: dict[str, Callable[[LVLM, Any], Any]] = {
    "generate": lambda lvlm, messages: lvlm.generate(messages, max_new_tokens=2),
    "score": lambda lvlm, messages: lvlm.score(messages, "a cat"),
}


def larger_vocabulary() -> LVLM:
    return tiny_processors.llava(tiny_processors.byte_level())


def another_image_token() -> LVLM:
    lvlm = tiny_processors.llava(tiny_processors.whole_words())
    lvlm.model.config.image_token_id = 77
    return lvlm


def qwen2_vl_for_llava() -> LVLM:
    words = tiny_processors.whole_words()
    return LVLM(tiny_processors.llava(words).model, tiny_processors.qwen2_vl(words).processor)


def llava_for_qwen2_vl() -> LVLM:
    words = tiny_processors.whole_words()
    return LVLM(tiny_processors.qwen2_vl(words).model, tiny_processors.llava(words).processor)


@pytest.mark.parametrize("use", list(USES))
@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (larger_vocabulary, "knows 97"),
        (another_image_token, "none is found"),
        (qwen2_vl_for_llava, "the processor the model's own"),
        (llava_for_qwen2_vl, "the processor the model's own"),
    ],
)
def test_a_processor_that_does_not_fit_is_refused(build: Callable[[], LVLM], complaint: str, use: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        USES[use](build(), chat(tiny_processors.picture(), "Is there a cat"))


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_one_that_fits_is_not(family: str) -> None:
    lvlm = getattr(tiny_processors, family)(tiny_processors.whole_words())
    messages = chat(tiny_processors.picture(), "Is there a cat")
    assert [len(USES[use](lvlm, messages).tokens) for use in USES] == [2, 2]
