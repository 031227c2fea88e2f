"""Pictures are fetched and prompts prepared once for all attempts of a guarded call."""

from __future__ import annotations

import contextvars
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from saliency_guard import LVLM
from saliency_guard.adapters.prompt_memo import PromptMemo, current_prompts, remember_prompts
from saliency_guard.chat.messages import chat

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


class Converter:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, messages: Any) -> list[dict[str, Any]]:
        self.calls += 1
        return [{"role": "user", "content": str(message)} for message in messages]


def test_an_equal_chat_is_converted_once_and_gives_the_same_list() -> None:
    memo, convert = PromptMemo(), Converter()
    first = memo.messages(["What is it?"], convert)
    assert memo.messages(["What is it?"], convert) is first
    assert memo.messages(["What else?"], convert) is not first
    assert convert.calls == 2


def test_a_chat_that_is_changed_afterwards_is_another_one() -> None:
    memo, convert = PromptMemo(), Converter()
    messages = ["What is it?"]
    memo.messages(messages, convert)
    messages.append("And now?")
    assert len(memo.messages(messages, convert)) == 2


def test_chats_with_arrays_are_not_compared() -> None:
    memo, convert = PromptMemo(), Converter()
    memo.messages([np.zeros(2)], convert)
    memo.messages([np.zeros(2)], convert)
    assert convert.calls == 2


def test_a_prompt_is_prepared_once_for_each_model_and_its_tools(lvlm: LVLM, picture: Image.Image) -> None:
    memo = PromptMemo()
    messages = chat(picture, "What is it?")
    prepared = memo.prompt(lvlm, messages)
    assert memo.prompt(lvlm.with_calibrator(None), messages) is prepared  # The same model and processor.
    told = memo.prompt(lvlm, messages, [TOOL])
    assert told is not prepared
    assert memo.prompt(lvlm, messages, [dict(TOOL)]) is told
    assert told.inputs["input_ids"].shape[1] > prepared.inputs["input_ids"].shape[1]
    assert memo.prompt(lvlm, chat(picture, "What is it?")) is not prepared
    assert memo.prompt(LVLM.load(), messages) is not prepared


def test_the_memo_is_that_of_the_call_that_is_running() -> None:
    assert current_prompts() is not current_prompts()
    with remember_prompts() as outer:
        assert current_prompts() is outer
        with remember_prompts() as inner:
            assert current_prompts() is inner
        assert current_prompts() is outer
    with pytest.raises(KeyError), remember_prompts():
        raise KeyError
    assert current_prompts() is not outer


def test_a_thread_that_is_started_with_the_context_shares_the_memo() -> None:
    seen: list[PromptMemo] = []
    with remember_prompts() as memo:
        context = contextvars.copy_context()
        thread = Thread(target=lambda: context.run(lambda: seen.append(current_prompts())))
        thread.start()
        thread.join()
    assert seen == [memo]
