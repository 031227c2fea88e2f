"""GroundingGuard: answers of other models."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from PIL import Image

from langchain_saliency_guard import GroundingGuard, RetrievalGuard, SaliencyGuardedLVLM
from saliency_guard import LVLM, ConfigError, GuardPolicy, LowGroundingError

Says = Callable[..., GenericFakeChatModel]
POLICY = GuardPolicy(min_grounding=0.5)
FALSE = "The image shows a zebra."


def decision(message: AIMessage) -> str:
    found: str = message.response_metadata["grounding"]["decision"]
    return found


@pytest.fixture
def true(lvlm: LVLM, picture: Image.Image, model: SaliencyGuardedLVLM, ask: Any) -> str:
    return str(model.invoke([ask()]).content)


def test_an_answer_of_another_model_is_judged(says: Says, ask: Any, true: str) -> None:
    guard = GroundingGuard(POLICY)
    good = guard.around(says(true)).invoke([ask()])
    bad = guard.around(says(FALSE)).invoke([ask()])
    assert (decision(good), good.content) == ("accepted", true)
    assert (decision(bad), bad.content) == ("flagged", FALSE)
    assert json.loads(json.dumps(bad.response_metadata)) == bad.response_metadata


async def test_it_is_a_runnable_in_every_way(says: Says, ask: Any, true: str) -> None:
    guard = GroundingGuard(POLICY)
    given = {"messages": [ask()], "answer": true}
    said = guard.invoke(given)
    assert (await guard.ainvoke(given)).response_metadata == said.response_metadata
    pieces = list(guard.stream(given))
    assert len(pieces) > 3
    assert "".join(str(piece.content) for piece in pieces) == true
    assert pieces[-1].response_metadata == said.response_metadata
    assert "".join([str(piece.content) async for piece in guard.astream(given)]) == true
    assert [item.content for item in guard.batch([given, {**given, "answer": FALSE}])] == [true, FALSE]
    chain = ChatPromptTemplate.from_messages([("placeholder", "{asked}")]) | RunnableLambda(lambda value: value)
    assert decision((chain | guard.around(says(FALSE))).invoke({"asked": [ask()]})) == "flagged"
    assert "".join(str(piece.content) for piece in guard.around(says(true)).stream([ask()])) == true


def test_a_stream_that_is_refused_gives_no_text(says: Says, ask: Any) -> None:
    guard = GroundingGuard(POLICY.model_copy(update={"on_low": "raise"}))
    pieces = guard.around(says(FALSE)).stream([ask()])
    with pytest.raises(LowGroundingError) as raised:
        next(pieces)
    assert raised.value.answer.text == FALSE
    assert raised.value.threshold == 0.5


def test_chains_fall_back_and_retry(says: Says, ask: Any, true: str) -> None:
    guard = GroundingGuard(POLICY.model_copy(update={"on_low": "raise"}))
    safe = guard.around(says(FALSE)).with_fallbacks([says("I do not know.")], exceptions_to_handle=(LowGroundingError,))
    assert safe.invoke([ask()]).content == "I do not know."
    again = guard.around(says(FALSE, true)).with_retry(
        retry_if_exception_type=(LowGroundingError,), wait_exponential_jitter=False, stop_after_attempt=2
    )
    assert again.invoke([ask()]).content == true
    told = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=lambda *_: "Look again.")
    assert GroundingGuard(told).around(says(FALSE)).invoke([ask()]).content == "Look again."


def test_a_repaired_answer_is_what_is_left(says: Says, ask: Any) -> None:
    guard = GroundingGuard(GuardPolicy(min_grounding=0.5, on_low="repair"))
    left = guard.around(says("There is a zebra. There is a cup.")).invoke([ask()])
    assert (left.text, decision(left)) == ("There is a cup.", "repaired")
    assert [claim["text"] for claim in left.response_metadata["grounding"]["claims"]] == ["cup"]
    nothing = guard.around(says(FALSE)).invoke([ask()])
    assert (nothing.text, decision(nothing)) == ("", "repaired")
    assert nothing.response_metadata["grounding"]["reason"]
    pieces = list(guard.around(says("There is a zebra. There is a cup.")).stream([ask()]))
    assert "".join(piece.text for piece in pieces) == "There is a cup."
    assert "zebra" not in repr(left) + repr(nothing) + repr(pieces)


@pytest.mark.parametrize("low", ["repair", "fallback"])
def test_metadata_hold_nothing_of_a_replaced_answer(ask: Any, low: Any) -> None:
    metadata = {"logprobs": {"content": [{"token": " zebra"}]}, "model_name": "another"}
    tells: Any = (lambda *_: "Look again.") if low == "fallback" else None
    guard = GroundingGuard(GuardPolicy(min_grounding=0.5, on_low=low, fallback=tells))
    answer = AIMessage(FALSE, response_metadata=metadata, additional_kwargs={"parsed": FALSE})
    message = guard.invoke({"messages": [ask()], "answer": answer})
    assert message.response_metadata["model_name"] == "another"
    assert "zebra" not in repr(message)
    kept = GroundingGuard(GuardPolicy(min_grounding=0.5)).invoke({"messages": [ask()], "answer": answer})
    assert kept.response_metadata["logprobs"] == metadata["logprobs"]


def test_a_call_that_nothing_is_left_of_is_not_made(ask: Any) -> None:
    guard = GroundingGuard(GuardPolicy(min_grounding=0.5, on_low="repair"))
    call = {"name": "note", "args": {"what": "There is a zebra."}, "id": "1"}
    message = guard.invoke({"messages": [ask()], "answer": AIMessage("", tool_calls=[call])})
    assert decision(message) == "repaired"
    assert message.tool_calls == []
    assert "zebra" not in repr(message)


def is_at_work(thread: threading.Thread) -> bool:
    """Whether it is one of the package's, and not the one that waits to start others."""
    return thread.name.startswith("saliency-guard") and "starter" not in thread.name


async def test_cancelling_stops_the_work(ask: Any, picture: Image.Image) -> None:
    pictures = [Document("", metadata={"image": picture}) for _ in range(2)]
    calls = [
        GroundingGuard(POLICY).ainvoke({"messages": [ask()], "answer": FALSE}),
        RetrievalGuard().ainvoke({"question": "Describe the image in detail.", "documents": pictures}),
    ]
    for call in calls:
        task = asyncio.ensure_future(call)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    until = time.monotonic() + 30
    while any(is_at_work(thread) for thread in threading.enumerate()):
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


def test_what_is_no_answer_to_a_picture_passes(ask: Any) -> None:
    guard = GroundingGuard(POLICY)
    call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1", "type": "tool_call"}])
    called = guard.invoke({"messages": [ask()], "answer": call})
    assert (called.tool_calls, decision(called)) == (call.tool_calls, "not_applicable")
    words = guard.invoke({"messages": [HumanMessage("Hello")], "answer": "Hello!"})
    assert words.content == "Hello!"
    assert decision(words) == "not_applicable"
    with pytest.raises(ConfigError, match="messages"):
        guard.invoke({"answer": "Hello!"})


def test_what_the_scorer_cannot_read_passes_where_nothing_is_scored() -> None:
    guard = GroundingGuard(POLICY)
    file = HumanMessage([{"type": "file", "base64": "aaaa", "mime_type": "application/pdf"}])
    assert guard.invoke({"messages": [file], "answer": "Three."}).content == "Three."
    url = HumanMessage([{"type": "image", "url": "https://example.com/a.png"}])
    call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1", "type": "tool_call"}])
    assert decision(guard.invoke({"messages": [url], "answer": call})) == "not_applicable"
    with pytest.raises(ConfigError, match="NoneType"):
        guard.invoke({"messages": [url], "answer": None})


def test_a_stream_adds_up_to_the_message(ask: Any) -> None:
    blocks: list[Any] = [{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "A cup."}]
    given = {"messages": [ask()], "answer": AIMessage(blocks, additional_kwargs={"signature": "x"})}
    pieces = list(GroundingGuard(POLICY).stream(given))
    whole: Any = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    said = GroundingGuard(POLICY).invoke(given)
    assert whole.text == said.text
    assert whole.additional_kwargs == said.additional_kwargs
    assert whole.response_metadata == said.response_metadata


def test_a_message_is_copied_before_it_is_marked(ask: Any) -> None:
    answer = AIMessage(FALSE, response_metadata={"model_name": "another"})
    marked = GroundingGuard(POLICY).invoke({"messages": [ask()], "answer": answer})
    assert marked is not answer
    assert answer.response_metadata == {"model_name": "another"}
    assert marked.response_metadata["model_name"] == "another"
