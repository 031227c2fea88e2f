"""Chat completions, asked for by the real client of a real process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import openai
import pytest
from PIL import Image
from served import ENDLESS, PATIENCE, Served, chat_about

from saliency_guard import LVLM, GroundedAnswer
from saliency_guard.chat.messages import chat
from saliency_guard.server.app import app_of
from saliency_guard.server.completion import merged
from saliency_guard.server.settings import ServerSettings
from saliency_guard.server.state import ServerState

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

NEVER = {"min_grounding": 1.0, "on_low": "raise"}
DESCRIBE = "Describe the image in detail."


def test_an_answer_is_the_model_s_own_with_its_grounding(
    server: Served, picture: Image.Image, described: GroundedAnswer
) -> None:
    with server.openai() as client:
        reply = client.chat.completions.create(model="embedded", messages=chat_about(picture), logprobs=True)
    expected = described
    (choice,) = reply.choices
    assert choice.message.content == expected.text
    assert choice.message.role == "assistant"
    assert choice.finish_reason == expected.finish_reason
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == expected.usage.prompt_tokens
    assert reply.usage.total_tokens == expected.usage.total_tokens
    report = choice.model_dump()["grounding"]
    assert report["score"] == pytest.approx(expected.grounding, abs=1e-4)
    assert [claim["text"] for claim in report["claims"]] == [claim.text for claim in expected.claims]
    assert "".join(token["text"] for token in report["tokens"]) == expected.text
    assert choice.logprobs is not None
    entries = choice.logprobs.model_dump()["content"]
    assert [entry["token"] for entry in entries] == [token.text for token in expected.tokens]
    assert [entry["logprob"] for entry in entries] == pytest.approx([t.logprob for t in expected.tokens], abs=1e-3)
    assert [bytes(entry["bytes"]).decode() for entry in entries] == [token.text for token in expected.tokens]
    assert [entry["grounding"]["shares"].keys() for entry in entries] == [t.shares.keys() for t in expected.tokens]
    assert entries[0]["top_logprobs"] == []


def test_alternatives_of_every_token(server: Served, picture: Image.Image) -> None:
    with server.openai() as client:
        reply = client.chat.completions.create(
            model="embedded", messages=chat_about(picture), logprobs=True, top_logprobs=3, max_tokens=6
        )
    assert reply.choices[0].logprobs is not None
    entries = reply.choices[0].logprobs.content
    assert entries is not None
    assert len(entries) == 6
    for entry in entries:
        assert entry.top_logprobs[0].token == entry.token  # It was greedy.
        assert entry.top_logprobs[0].logprob == pytest.approx(entry.logprob, abs=1e-4)
        values = [alternative.logprob for alternative in entry.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert len(values) == 3


def test_a_stream_is_the_answer_token_by_token(
    server: Served, lvlm: LVLM, picture: Image.Image, described: GroundedAnswer
) -> None:
    expected = described
    with server.openai() as client:
        stream = client.chat.completions.create(
            model="embedded",
            messages=chat_about(picture),
            stream=True,
            logprobs=True,
            stream_options={"include_usage": True},
            extra_body={"return_token_ids": True},
        )
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len(chunks[0].model_dump()["prompt_token_ids"]) == lvlm.inputs(chat(picture, DESCRIBE))["input_ids"].shape[1]
    assert all("prompt_token_ids" not in chunk.model_dump() for chunk in chunks[1:])
    choices = [chunk.choices[0].model_dump() for chunk in chunks if chunk.choices]
    texts = [choice["delta"]["content"] for choice in choices if choice["delta"]["content"]]
    assert texts == [token.text for token in expected.tokens if token.text]
    assert [token_id for choice in choices for token_id in choice["token_ids"]] == [t.token_id for t in expected.tokens]
    entries = [entry for choice in choices if choice["logprobs"] for entry in choice["logprobs"]["content"]]
    assert [entry["grounding"]["token_id"] for entry in entries] == [token.token_id for token in expected.tokens]
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert choices[-1]["finish_reason"] == "stop"
    assert choices[-1]["grounding"]["score"] == pytest.approx(expected.grounding, abs=1e-4)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == expected.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_several_choices_differ_and_their_seeds_repeat(server: Served, picture: Image.Image) -> None:
    options: dict[str, Any] = {"temperature": 1.5, "seed": 7, "max_tokens": 8}
    with server.openai() as client:
        first, again = (
            client.chat.completions.create(model="embedded", messages=chat_about(picture), n=3, **options)
            for _ in range(2)
        )
        texts: dict[int, str] = {0: "", 1: "", 2: ""}
        for chunk in client.chat.completions.create(
            model="embedded", messages=chat_about(picture), n=3, stream=True, **options
        ):
            texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    said = [choice.message.content for choice in first.choices]
    assert len(set(said)) > 1
    assert said == [choice.message.content for choice in again.choices] == list(texts.values())
    assert [choice.index for choice in first.choices] == [0, 1, 2]


def test_what_a_policy_refuses_is_in_no_stream(server: Served, picture: Image.Image, described: GroundedAnswer) -> None:
    with server.openai() as client:
        said = described.text

        def chunks(**policy: Any) -> list[dict[str, Any]]:
            stream = client.chat.completions.create(
                model="embedded",
                messages=chat_about(picture),
                stream=True,
                extra_body={"grounding_policy": {"min_grounding": 1.0, **policy}},
            )
            return [chunk.model_dump() for chunk in stream]

        with pytest.raises(openai.UnprocessableEntityError) as raised:
            chunks(on_low="raise", max_retries=1)
        fallback = chunks(on_low="fallback", fallback="I can not tell.")
        repaired = chunks(on_low="repair")
        flagged = chunks(on_low="flag")
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["type"] == "low_grounding_error"
    assert raised.value.body["grounding"]["decision"] == "raised"
    assert len(raised.value.body["grounding"]["attempts"]) == 2
    assert said not in json.dumps(raised.value.body)
    assert _text(fallback) == "I can not tell."
    assert said not in json.dumps(fallback)
    assert fallback[-1]["choices"][0]["grounding"]["decision"] == "fallback"
    assert _text(repaired) == ""  # No claim reaches 1.0.
    assert repaired[-1]["choices"][0]["grounding"]["decision"] == "repaired"
    assert _text(flagged) == said  # Refused, and given out as such.
    assert flagged[-1]["choices"][0]["grounding"]["decision"] == "flagged"
    assert server.metric("answers_total", decision="raised") >= 1
    assert server.metric("refused_total") >= 5


def _text(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["choices"][0]["delta"]["content"] or "" for chunk in chunks)


def test_an_accepted_answer_comes_with_its_decision(server: Served, picture: Image.Image) -> None:
    with server.openai() as client:
        reply = client.chat.completions.create(
            model="embedded",
            messages=chat_about(picture),
            extra_body={"grounding_policy": {"min_grounding": 0.0}, "return_token_ids": True},
        )
    choice = reply.choices[0].model_dump()
    assert choice["grounding"]["decision"] == "accepted"
    assert choice["grounding"]["threshold"] == 0.0
    assert len(choice["token_ids"]) == len(choice["grounding"]["tokens"])
    assert reply.model_dump()["prompt_token_ids"]


TOOL = {
    "type": "function",
    "function": {
        "name": "count_objects",
        "description": "Counts objects.",
        "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    },
}


def test_a_tool_that_has_to_be_called_is(server: Served, picture: Image.Image) -> None:
    options: dict[str, Any] = {
        "model": "embedded",
        "messages": chat_about(picture, "How many?"),
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "count_objects"}},
    }
    with server.openai() as client:
        whole = client.chat.completions.create(**options).choices[0]
        chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**options, stream=True)]
    assert whole.finish_reason == "tool_calls"
    assert whole.message.content is None
    (call,) = whole.message.tool_calls or []
    assert call.function.name == "count_objects"
    assert isinstance(json.loads(call.function.arguments)["n"], int)
    (piece,) = [call for chunk in chunks for call in chunk.delta.tool_calls or []]
    assert piece.function is not None
    assert piece.function.arguments == call.function.arguments
    assert (piece.index, piece.function.name) == (0, "count_objects")
    assert chunks[-1].finish_reason == "tool_calls"


def test_no_tool_is_called_where_none_may_be(server: Served, picture: Image.Image) -> None:
    with server.openai() as client:
        reply = client.chat.completions.create(
            model="embedded", messages=chat_about(picture), tools=[TOOL], tool_choice="none", max_tokens=4
        )
    assert reply.choices[0].message.tool_calls is None
    assert reply.choices[0].message.content


def test_a_schema_is_followed(server: Served, picture: Image.Image) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    with server.openai() as client:
        reply = client.chat.completions.create(
            model="embedded",
            messages=chat_about(picture, "Is there a cup?"),
            response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
        )
    assert isinstance(json.loads(reply.choices[0].message.content or "")["yes"], bool)


def test_an_answer_ends_at_a_stop_string_and_at_the_limit(server: Served, picture: Image.Image) -> None:
    with server.openai() as client:
        create = client.chat.completions.create
        short = create(model="embedded", messages=chat_about(picture), max_completion_tokens=2).choices[0]
        stopped = create(model="embedded", messages=chat_about(picture), stop=[","]).choices[0]
    assert short.finish_reason == "length"
    assert stopped.finish_reason == "stop"
    assert "," not in (stopped.message.content or ",")


def test_a_client_that_leaves_stops_its_answer(server: Served, picture: Image.Image) -> None:
    left = server.metric("requests_total", route="/v1/chat/completions", status="499")
    with server.openai() as client:
        stream = client.chat.completions.create(
            model="embedded", messages=chat_about(picture), stream=True, temperature=1.0, seed=1, **ENDLESS
        )
        # A schema leaves the stream live; its first token is there.
        next(iter(stream))
        assert server.metric("requests_running") == 1
        stream.close()
        server.wait_for(lambda: server.metric("requests_running") == 0)
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.7).chat.completions.create(
                model="embedded", messages=chat_about(picture), **ENDLESS
            )
        server.wait_for(lambda: server.metric("requests_running") == 0)
    server.wait_for(lambda: server.metric("requests_total", route="/v1/chat/completions", status="499") == left + 2)


async def test_32_clients_at_once_get_what_one_gets(server: Served, lvlm: LVLM, picture: Image.Image) -> None:
    questions = [DESCRIBE, "Is there a cup in the image? Answer yes or no."]
    expected = [lvlm.generate(chat(picture, question), max_new_tokens=6).text for question in questions]
    async with server.async_openai() as client:
        replies = await asyncio.gather(
            *(
                client.chat.completions.create(
                    model="embedded", messages=chat_about(picture, questions[number % 2]), max_tokens=6
                )
                for number in range(32)
            )
        )
    assert [reply.choices[0].message.content for reply in replies] == expected * 16
    assert server.metric("requests_running") == server.metric("requests_waiting") == 0


async def test_requests_that_come_together_are_written_side_by_side(picture: Image.Image) -> None:
    lvlm = LVLM.load()
    state = ServerState(ServerSettings(lvlm=lvlm, api_key=None))
    state.load()
    transport = httpx.ASGITransport(app_of(state))
    body = {"messages": chat_about(picture), "max_tokens": 24}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=PATIENCE) as client:
        first, *others = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(4)))
    said = first.json()["choices"][0]["message"]
    assert [other.json()["choices"][0]["message"] for other in others] == [said] * 3
    assert lvlm.batching.largest > 1


async def test_merged_gives_everything_and_the_first_error() -> None:
    closed: list[str] = []

    async def count(name: str, stop: int, *, fails: bool = False) -> AsyncGenerator[str, None]:
        try:
            for number in range(stop):
                await asyncio.sleep(0)
                yield f"{name}{number}"
            if fails:
                raise KeyError(name)
        finally:
            closed.append(name)

    items = [item async for item in merged([count("a", 2), count("b", 3)])]
    assert sorted(items) == [(0, "a0"), (0, "a1"), (1, "b0"), (1, "b1"), (1, "b2")]
    with pytest.raises(KeyError, match="c"):
        [item async for item in merged([count("c", 1, fails=True), count("d", 10**9)])]
    stream = merged([count("e", 10**9), count("f", 10**9)])
    await anext(stream)
    await stream.aclose()
    assert sorted(closed) == ["a", "b", "c", "d", "e", "f"]
