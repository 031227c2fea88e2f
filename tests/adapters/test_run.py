"""One call as events: tokens, attempts and the end, under one time limit."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from PIL import Image

from saliency_guard import LVLM, Attempt, CancelledError, DeadlineError, GuardPolicy, TokenGrounding
from saliency_guard.adapters.prompt_memo import remember_prompts
from saliency_guard.adapters.run import Finished, run_events, run_request
from saliency_guard.adapters.scorer import LocalScorer
from saliency_guard.adapters.settings import Request
from saliency_guard.chat.messages import chat
from saliency_guard.scenes.language import DESCRIBE

OPTIONS: dict[str, Any] = {"max_new_tokens": 8}
STRICT = GuardPolicy(min_grounding=1.0, max_retries=2)


@pytest.fixture(scope="module")
def messages(picture: Image.Image) -> list[dict[str, Any]]:
    return chat(picture, DESCRIBE)


class Slow:
    """A logits processor that takes so many seconds for every token, and counts the tokens."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.tokens = 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.tokens += 1
        time.sleep(self.seconds)
        return scores


@pytest.fixture
def templated(lvlm: LVLM, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The prompts that the chat template was applied to, without those that verify claims or show mirrored pictures."""
    prompts: list[Any] = []
    original = type(lvlm.processor).apply_chat_template

    def counted(self: Any, conversation: Any, *args: Any, **settings: Any) -> Any:
        if "Is this true" not in str(conversation) and "'text': '?'" not in str(conversation):
            prompts.append(conversation)
        return original(self, conversation, *args, **settings)

    monkeypatch.setattr(type(lvlm.processor), "apply_chat_template", counted)
    return prompts


def test_tokens_then_the_end(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    *tokens, end = run_events(lvlm, messages, OPTIONS, cancel=threading.Event())
    answer = lvlm.generate(messages, **OPTIONS)
    assert all(isinstance(token, TokenGrounding) for token in tokens)
    assert isinstance(end, Finished)
    assert (end.text, end.outcome, end.usage) == (answer.text, None, answer.usage)


def test_attempts_then_the_end(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    *attempts, end = run_events(lvlm, messages, {**OPTIONS, "seed": 1}, cancel=threading.Event(), policy=STRICT)
    assert len(attempts) == 3
    assert all(isinstance(attempt, Attempt) for attempt in attempts)
    assert isinstance(end, Finished)
    assert end.outcome is not None
    assert end.outcome.attempts == tuple(attempts)
    assert end.usage.completion_tokens == sum(len(answer.tokens) for answer in end.considered)


def test_attempts_share_the_timeout(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    """Each attempt alone is well within it."""
    slow = Slow(0.2)
    options = {"max_new_tokens": 2, "logits_processor": slow, "timeout": 1.0, "seed": 1}
    many = STRICT.model_copy(update={"max_retries": 20})
    events = run_events(lvlm, messages, options, cancel=threading.Event(), policy=many)
    assert isinstance(next(events), Attempt)
    with pytest.raises(DeadlineError, match="timeout=1 s"):
        list(events)
    assert slow.tokens <= 6  # Each takes 0.2 s: no more fit into 1 s, and the one that is written at its end.


def test_cancelling_stops_between_two_tokens(lvlm: LVLM, messages: list[dict[str, Any]]) -> None:
    for policy in (None, STRICT):
        cancel = threading.Event()
        events = run_events(lvlm, messages, OPTIONS, cancel=cancel, policy=policy)
        next(events)
        cancel.set()
        with pytest.raises(CancelledError):
            next(events)


def test_a_retry_does_not_prepare_its_prompt_again(
    lvlm: LVLM, messages: list[dict[str, Any]], templated: list[Any]
) -> None:
    *attempts, _ = run_events(lvlm, messages, {**OPTIONS, "seed": 1}, cancel=threading.Event(), policy=STRICT)
    assert len(attempts) == 3
    assert len(templated) == 1


class Chat:
    """Messages of a framework, and how often they were converted."""

    def __init__(self, picture: Image.Image) -> None:
        self.messages = [("user", DESCRIBE)]
        self.picture = picture
        self.conversions = 0

    def convert(self, given: Any) -> list[dict[str, Any]]:
        self.conversions += 1
        return chat(self.picture, given[-1][1])


@pytest.fixture
def framework_chat(picture: Image.Image) -> Chat:
    return Chat(picture)


def test_calls_of_a_guarded_call_share_their_prompt(lvlm: LVLM, framework_chat: Chat, templated: list[Any]) -> None:
    request = Request(model="embedded", generation=OPTIONS, policy=None)

    def called(**settings: Any) -> Finished:
        given = list(framework_chat.messages)  # Equal, and not the same list.
        *_, end = run_request(lvlm, request, given, framework_chat.convert, cancel=threading.Event(), **settings)
        assert isinstance(end, Finished)
        return end

    with remember_prompts() as prompts:
        first, second = called(), called()
        shared = prompts.messages(framework_chat.messages, framework_chat.convert)
        scored = LocalScorer(lvlm).score(prompts.prompt(lvlm, shared), first.text)
        assert (framework_chat.conversions, len(templated)) == (1, 1)
        named = called(addition="Look again.")
        assert (framework_chat.conversions, len(templated)) == (1, 2)
    assert first.answer == second.answer
    assert scored.text == first.text
    assert named.usage.prompt_tokens > first.usage.prompt_tokens
    called()
    assert (framework_chat.conversions, len(templated)) == (2, 3)  # Outside nothing is remembered.
