"""Answers put into OpenAI's form, made by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from saliency_guard import LVLM, GroundedAnswer, TokenGrounding, Usage
from saliency_guard.adapters import finished
from saliency_guard.adapters.run import Finished
from saliency_guard.server.chat_body import ChatBody, chat_call
from saliency_guard.server.choices import ChoiceWriter
from saliency_guard.server.settings import ServerSettings

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALL = '<tool_call>{"name": "look", "arguments": {"a": 1}}</tool_call>'


@pytest.fixture
def written(lvlm: LVLM, settings: ServerSettings) -> Any:
    def write(text: str, **options: Any) -> tuple[ChoiceWriter, Finished]:
        body = ChatBody.model_validate({"messages": [{"role": "user", "content": "Look."}], **options})
        ids = lvlm.tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens = tuple(
            TokenGrounding(
                text=text if not index else "",
                token_id=token_id,
                position=index,
                logprob=-math.inf,
                saliency=None,
                signals={"ratio": math.inf},
            )
            for index, token_id in enumerate(ids)
        )
        usage = Usage(prompt_tokens=1, completion_tokens=len(ids), total_tokens=1 + len(ids))
        answer = GroundedAnswer(text=text, tokens=tokens, finish_reason="length", usage=usage, model_id="none")
        return ChoiceWriter(lvlm, chat_call(body, settings), 0), finished(answer)

    return write


def test_calls_are_read_out_of_an_answer(written: Any) -> None:
    writer, end = written(f"I look. {CALL} {CALL}", tools=[TOOL])
    choice = writer.choice(end)
    assert choice["finish_reason"] == "tool_calls"
    assert [call["function"] for call in choice["message"]["tool_calls"]] == [
        {"name": "look", "arguments": '{"a": 1}'}
    ] * 2
    assert choice["message"]["content"] == "I look."
    assert len({call["id"] for call in choice["message"]["tool_calls"]}) == 2


def test_one_call_alone_where_that_is_asked_for(written: Any) -> None:
    writer, end = written(f"{CALL} {CALL}", tools=[TOOL], parallel_tool_calls=False)
    choice = writer.choice(end)
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["message"]["content"] is None


def test_a_call_that_is_none_stays_text(written: Any) -> None:
    writer, end = written("<tool_call>{broken</tool_call>", tools=[TOOL], tool_choice="required")
    choice = writer.choice(end)
    assert "tool_calls" not in choice["message"]
    assert "{broken" in choice["message"]["content"]
    assert choice["finish_reason"] == "length"


def test_numbers_that_json_cannot_say(written: Any) -> None:
    writer, end = written("A cat.", logprobs=True, grounding_report="tokens", return_token_ids=True)
    choice = writer.choice(end)
    entry = choice["logprobs"]["content"][0]
    assert entry["logprob"] == -9999.0
    assert entry["grounding"]["signals"] == {"ratio": None}
    assert choice["grounding"]["tokens"][0]["logprob"] is None
    assert len(choice["token_ids"]) == len(choice["logprobs"]["content"])


def test_a_policy_s_own_text_has_no_tokens(written: Any) -> None:
    writer, end = written("A cat.", logprobs=True, grounding_policy={"min_grounding": 0.5}, stream=True)
    repaired = Finished("Nothing.", end.answer, None, end.considered)
    choice = writer.choice(repaired)
    assert choice["message"]["content"] == "Nothing."
    assert choice["logprobs"]["content"] == []
    first, last = writer.rest(repaired)
    assert first["delta"] == {"content": "Nothing."}
    assert first["logprobs"] is None
    assert last["finish_reason"] == "stop"
    assert last["grounding"] == choice["grounding"] == last["logprobs"]["grounding"]
