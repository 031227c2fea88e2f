"""The LLM: every way of calling it, its scores, events, tools and objects."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ImageBlock, TextBlock, ToolCallBlock
from llama_index.core.llms import LLM
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool

from llama_index.llms.saliency_guard import (
    GroundingRetryEvent,
    GroundingScoreEvent,
    SaliencyGuardedLVLM,
    collect_grounding,
)
from saliency_guard import (
    ConfigError,
    GuardPolicy,
    ImageError,
    LowGroundingError,
    shared_lvlm,
)
from saliency_guard.chat.messages import chat

Ask = Callable[..., list[ChatMessage]]
EXAMPLES = Path(__file__).parents[3] / "examples"
DESCRIBE = "Describe the image in detail."
HIGH = GuardPolicy(min_grounding=1.0, max_retries=1)


def look(where: str) -> str:
    """Look somewhere."""
    return f"nothing {where}"


def names(heard: list[Any]) -> list[str]:
    return [event.class_name() for event in heard if "InProgress" not in event.class_name()]


def test_it_is_an_llm() -> None:
    above = [item.__name__ for item in SaliencyGuardedLVLM.__mro__]
    assert {BaseLLM.__name__, LLM.__name__, CustomLLM.__name__} <= set(above)
    assert SaliencyGuardedLVLM.class_name() == "SaliencyGuardedLVLM"


def test_chat_says_what_the_core_says(llm: SaliencyGuardedLVLM, ask: Ask) -> None:
    answer = llm.engine().generate(chat(str(EXAMPLES / "desk.png"), DESCRIBE))
    response = llm.model_copy(update={"report": "tokens"}).chat(ask())
    report = response.raw["grounding"]
    assert response.message.content == answer.text
    assert report["score"] == answer.grounding
    assert report is response.additional_kwargs["grounding"]
    assert [token["saliency"] for token in report["tokens"]] == [token.saliency for token in answer.tokens]
    assert response.logprobs is not None
    assert [entry[0].logprob for entry in response.logprobs] == [token.logprob for token in answer.tokens]
    assert "".join(entry[0].token for entry in response.logprobs) == answer.text
    assert response.raw["usage"]["completion_tokens"] == len(answer.tokens)
    assert response.message.additional_kwargs == {}  # They would be printed into later prompts.


def test_all_eight_ways_agree(llm: SaliencyGuardedLVLM, ask: Ask, heard: list[Any]) -> None:
    picture = [EXAMPLES / "desk.png"]

    async def others() -> list[Any]:
        streamed = [chunk async for chunk in await llm.astream_chat(ask())]
        completed = [chunk async for chunk in await llm.astream_complete(DESCRIBE, image_documents=picture)]
        return [await llm.achat(ask()), await llm.acomplete(DESCRIBE, image_documents=picture), streamed, completed]

    first = llm.chat(ask())
    assert names(heard) == ["LLMChatStartEvent", "GroundingScoreEvent", "LLMChatEndEvent"]
    heard.clear()
    completion = llm.complete(DESCRIBE, image_documents=picture)
    assert names(heard) == ["LLMCompletionStartEvent", "GroundingScoreEvent", "LLMCompletionEndEvent"]
    heard.clear()
    chat_stream, complete_stream = (
        list(llm.stream_chat(ask())),
        list(llm.stream_complete(DESCRIBE, image_documents=picture)),
    )
    assert len([event for event in names(heard) if event.endswith("EndEvent")]) == 2
    heard.clear()
    achat, acomplete, astream_chat, astream_complete = asyncio.run(others())
    assert len([event for event in names(heard) if event.endswith("StartEvent")]) == 4
    assert len([event for event in heard if isinstance(event, GroundingScoreEvent)]) == 4
    text = first.message.content
    assert {achat.message.content, completion.text, acomplete.text} == {text}
    for stream in (chat_stream, complete_stream, astream_chat, astream_complete):
        assert "".join(chunk.delta or "" for chunk in stream) == text
        assert stream[-1].raw == first.raw
        assert stream[-1].additional_kwargs["grounding"]["score"] == first.raw["grounding"]["score"]
    written = ""
    for chunk in chat_stream[:-1]:
        written += chunk.delta
        assert (chunk.message.content, chunk.raw) == (written, {})
        assert [token[0].token for token in chunk.logprobs] == [chunk.delta]
    assert len(first.model_dump_json(exclude={"logprobs"})) < 3_000


def test_chunks_bring_what_is_new(llm: SaliencyGuardedLVLM, ask: Ask) -> None:
    *chunks, last = llm.model_copy(update={"report": "tokens"}).stream_chat(ask())
    reports = [chunk.raw["grounding"]["tokens"] for chunk in chunks]
    assert [token["text"] for (token,) in reports] == [chunk.delta for chunk in chunks]
    assert len(last.raw["grounding"]["tokens"]) == len(chunks)


def test_the_default_chat_would_lose_the_picture(llm: SaliencyGuardedLVLM, ask: Ask) -> None:
    lost = CustomLLM.chat(llm, ask("Is there a cup in the image?"))  # What a subclass gets that only completes.
    assert (
        lost.raw["usage"]["prompt_tokens"] < llm.chat(ask("Is there a cup in the image?")).raw["usage"]["prompt_tokens"]
    )
    assert "image_0" not in lost.raw["grounding"]["shares"]


def test_metadata_is_real(llm: SaliencyGuardedLVLM) -> None:
    own = SaliencyGuardedLVLM(max_tokens=9).metadata
    assert (own.context_window, own.num_output, own.is_chat_model) == (2048, 9, True)
    assert own.is_function_calling_model is False
    assert own.model_name == "embedded"
    assert llm.metadata.context_window == 16_384
    with pytest.raises(ConfigError, match="max_tokenz"):
        SaliencyGuardedLVLM(max_tokenz=3)
    with pytest.raises(ConfigError, match="temprature"):
        llm.chat([ChatMessage("Hello")], temprature=1.0)


def test_one_engine_for_all(llm: SaliencyGuardedLVLM) -> None:
    shared = shared_lvlm(device=None, dtype="auto", revision=None, require_image=False)
    assert llm.engine() is SaliencyGuardedLVLM().engine() is shared


def test_several_turns(llm: SaliencyGuardedLVLM, ask: Ask) -> None:
    history = ask("Is there a cup in the image?")
    history.append(llm.chat(history).message)
    history.append(ChatMessage("Is there a cat in the image?"))
    assert str(llm.chat(history).message.content) == "No, there is no cat in the image."


def test_the_loop_is_not_blocked(llm: SaliencyGuardedLVLM, ask: Ask) -> None:
    async def both() -> int:
        beats = 0
        task = asyncio.ensure_future(llm.achat(ask(), saliency=None))
        while not task.done():
            await asyncio.sleep(0.002)
            beats += 1
        return beats

    assert asyncio.run(both()) > 5


def is_at_work(thread: threading.Thread) -> bool:
    """Whether it is one of the package's, and not the one that waits to start others."""
    return thread.name.startswith("saliency-guard") and "starter" not in thread.name


def test_cancelling_stops_the_work(llm: SaliencyGuardedLVLM, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saliency_guard.batching.scheduler._IDLE", 0.05)

    async def cancelled() -> None:
        task = asyncio.ensure_future(llm.achat(ask()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    until = time.monotonic() + 10
    while any(is_at_work(thread) for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert llm.chat(ask()).message.content


def test_a_policy_decides(llm: SaliencyGuardedLVLM, ask: Ask, heard: list[Any]) -> None:
    response = llm.chat(ask(), policy=HIGH, seed=1)
    assert response.raw["grounding"]["decision"] == "flagged"
    assert len(response.raw["grounding"]["attempts"]) == 2
    assert [event.attempt for event in heard if isinstance(event, GroundingRetryEvent)] == [0]
    streamed = list(llm.stream_chat(ask(), policy=HIGH, seed=1))
    assert (
        "".join(chunk.delta or "" for chunk in streamed) == response.message.content
    )  # Nothing of the refused answer.
    heard.clear()
    with pytest.raises(LowGroundingError):
        llm.chat(ask(), policy=HIGH.model_copy(update={"on_low": "raise"}))
    assert [event.report["decision"] for event in heard if isinstance(event, GroundingScoreEvent)] == ["raised"]
    unsure = HIGH.model_copy(update={"on_low": "fallback", "fallback": lambda messages, attempts: "I do not know."})
    assert [chunk.delta for chunk in llm.stream_chat(ask(), policy=unsure)] == ["I do not know."]


def test_a_policy_of_its_own_repairs(llm: SaliencyGuardedLVLM, ask: Ask, heard: list[Any], writes: Any) -> None:
    repairs = GuardPolicy(min_grounding=0.5, on_low="repair")
    text = "There is a zebra. There is a cup."
    responses = list(llm.stream_chat(ask(), policy=repairs, logits_processor=writes(text)))
    report = responses[-1].raw["grounding"]
    assert (responses[-1].message.content, report["decision"]) == ("There is a cup.", "repaired")
    assert [claim["text"] for claim in report["claims"]] == ["cup"]
    nothing = llm.chat(ask(), policy=repairs, logits_processor=writes("There is a zebra."))
    assert (nothing.message.content or "", nothing.raw["grounding"]["decision"]) == ("", "repaired")
    assert "zebra" not in repr(responses) + repr(nothing) + repr(heard)


def answer_again(*_: Any) -> str:
    return "I do not know."


def test_pickling_keeps_the_guard_or_says_that_it_cannot(llm: SaliencyGuardedLVLM) -> None:
    policy = GuardPolicy(min_grounding=0.5, on_low="fallback", fallback=answer_again)
    copy = pickle.loads(pickle.dumps(llm.model_copy(update={"policy": policy})))  # noqa: S301 - our own
    assert copy.policy == policy
    local = policy.model_copy(update={"fallback": lambda *_: "I do not know."})
    with pytest.raises(ConfigError, match="policy cannot be pickled"):
        pickle.dumps(llm.model_copy(update={"policy": local}))


def test_the_collector_sees_what_predict_drops(llm: SaliencyGuardedLVLM) -> None:
    prompt = PromptTemplate("Hello {name}.")

    async def several() -> list[int]:
        async def one(name: str) -> int:
            with collect_grounding() as own:
                await llm.apredict(prompt, name=name)
                return len(own.calls)

        return await asyncio.gather(*(one(name) for name in "abc"))

    with collect_grounding() as outer:
        with collect_grounding() as inner:
            said = llm.predict(prompt, name="you")
        assert inner.reports == outer.reports
        assert inner.calls[0].finished.text == said
        assert asyncio.run(several()) == [1, 1, 1]
        assert len(outer.calls) == 4
    llm.predict(prompt, name="nobody")
    assert len(outer.calls) == 4


def test_a_tool_that_has_to_be_called(llm: SaliencyGuardedLVLM, ask: Ask) -> None:
    tool = FunctionTool.from_defaults(look)
    response = llm.chat_with_tools([tool], chat_history=ask(), tool_required=True)
    (call,) = llm.get_tool_calls_from_response(response)
    assert call.tool_name == "look"
    assert set(call.tool_kwargs) == {"where"}
    assert isinstance(response.message.blocks[-1], ToolCallBlock)
    chosen = llm.chat_with_tools([tool], "What is there?", tool_choice="look")
    assert llm.get_tool_calls_from_response(chosen)
    (last,) = llm.stream_chat_with_tools([tool], chat_history=ask(), tool_required=True)
    assert llm.get_tool_calls_from_response(last)[0].tool_name == "look"
    said = llm.chat_with_tools([tool], chat_history=ask())
    assert llm.get_tool_calls_from_response(said, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match="called no tool"):
        llm.get_tool_calls_from_response(said)


@pytest.mark.parametrize(("given", "choice"), [({}, "required"), ({"tool_choice": None}, "required")])
def test_a_required_tool_stays_required(llm: SaliencyGuardedLVLM, given: dict[str, Any], choice: str) -> None:
    prepared = llm._prepare_chat_with_tools([], user_msg="What?", tool_required=True, **given)
    assert prepared["tool_choice"] == choice
    named = llm._prepare_chat_with_tools([], user_msg="What?", tool_required=True, tool_choice="look")
    assert named["tool_choice"] == "look"


def test_one_call_where_one_is_allowed(llm: SaliencyGuardedLVLM) -> None:
    blocks = [
        ToolCallBlock(tool_name="look", tool_kwargs={}),
        ToolCallBlock(tool_name="look", tool_kwargs={"where": "up"}),
    ]
    response = ChatResponse(message=ChatMessage(role="assistant", blocks=blocks))
    kept = llm._validate_chat_with_tools_response(response.model_copy(deep=True), [], allow_parallel_tool_calls=True)
    assert kept.message.blocks == blocks
    assert llm._validate_chat_with_tools_response(response, []).message.blocks == blocks[:1]


def test_bad_pictures_are_refused(llm: SaliencyGuardedLVLM) -> None:
    url = ImageBlock(url="https://example.org/cat.png")
    for block in (url, ImageBlock(), ImageBlock(image=b"no picture")):
        with pytest.raises(ImageError):
            llm.chat([ChatMessage(role="user", blocks=[block, TextBlock(text="?")])])
    fetching = SaliencyGuardedLVLM(fetch_image=lambda _: (EXAMPLES / "desk.png").read_bytes())
    assert fetching.chat([ChatMessage(role="user", blocks=[url, TextBlock(text=DESCRIBE)])]).message.content
