"""The clients that people have: LangChain's ChatOpenAI and LlamaIndex's OpenAILike, and what they keep."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.llms.openai_like import OpenAILike
from PIL import Image
from pydantic import BaseModel
from served import PATIENCE, Served, chat_about, data_uri

from saliency_guard import GroundedAnswer

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
DESCRIBE = "Describe the image in detail."


def langchain(server: Served, **options: Any) -> ChatOpenAI:
    given = {"model": "embedded", "timeout": PATIENCE, "max_retries": 0, "api_key": server.key, **options}
    return ChatOpenAI(base_url=f"{server.url}/v1", **given)


def llama_index(server: Served, **options: Any) -> OpenAILike:
    return OpenAILike(
        model="embedded",
        api_base=f"{server.url}/v1",
        api_key=server.key,
        is_chat_model=True,
        max_retries=0,
        timeout=PATIENCE,
        **options,
    )


def test_langchain_keeps_the_grounding_of_answer_and_tokens(
    server: Served, picture: Image.Image, described: GroundedAnswer
) -> None:
    message = langchain(server, logprobs=True).invoke([HumanMessage(content=chat_about(picture)[0]["content"])])
    assert message.text == described.text
    kept = message.response_metadata["logprobs"]
    assert kept["grounding"]["score"] == pytest.approx(described.grounding, abs=1e-4)
    assert [entry["grounding"]["token_id"] for entry in kept["content"]] == [t.token_id for t in described.tokens]
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == described.usage.completion_tokens


def test_langchain_streams(server: Served, picture: Image.Image, described: GroundedAnswer) -> None:
    stream = langchain(server, logprobs=True).stream([HumanMessage(content=chat_about(picture)[0]["content"])])
    whole, *rest = list(stream)
    for chunk in rest:
        whole += chunk
    assert len(rest) > 5
    assert whole.text == described.text
    assert whole.response_metadata["logprobs"]["grounding"]["score"] == pytest.approx(described.grounding, abs=1e-4)
    assert len(whole.response_metadata["logprobs"]["content"]) == len(described.tokens)


@tool
def count_cups(number_of_cups: int) -> str:
    """Say how many cups there are."""
    return str(number_of_cups)


class Seen(BaseModel):
    """What is seen."""

    cup: bool


def test_langchain_calls_tools_and_follows_schemas(server: Served, picture: Image.Image) -> None:
    messages = [HumanMessage(content=chat_about(picture, "How many cups?")[0]["content"])]
    message = langchain(server).bind_tools([count_cups], tool_choice="any").invoke(messages)
    (call,) = message.tool_calls
    assert call["name"] == "count_cups"
    assert isinstance(call["args"]["number_of_cups"], int)
    for method in ("json_schema", "function_calling"):
        seen = langchain(server).with_structured_output(Seen, method=method).invoke(messages)
        assert isinstance(seen, Seen)


def test_langchain_passes_a_policy_on(server: Served, picture: Image.Image) -> None:
    policy = {"grounding_policy": {"min_grounding": 1.0, "on_low": "raise"}}
    model = langchain(server, extra_body=policy)
    with pytest.raises(openai.UnprocessableEntityError, match="low_grounding"):
        model.invoke([HumanMessage(content=chat_about(picture)[0]["content"])])


def test_a_wrong_token_is_told_by_every_client(server: Served, picture: Image.Image) -> None:
    with pytest.raises(openai.AuthenticationError):
        langchain(server, api_key="wrong").invoke([HumanMessage(content=chat_about(picture)[0]["content"])])
    with server.openai(api_key="wrong") as client, pytest.raises(openai.AuthenticationError) as raised:
        client.models.list()
    assert raised.value.code == "invalid_api_key"


def test_llama_index_chats_and_streams(server: Served, picture: Image.Image, described: GroundedAnswer) -> None:
    image = ImageBlock(url=data_uri(picture))
    messages = [ChatMessage(role="user", blocks=[image, TextBlock(text=DESCRIBE)])]
    model = llama_index(server, max_tokens=64, temperature=0.0)
    whole = model.chat(messages)
    assert whole.message.content == described.text
    assert whole.raw is not None
    assert whole.raw.choices[0].grounding["score"] == pytest.approx(described.grounding, abs=1e-4)
    pieces = list(model.stream_chat(messages))
    assert "".join(piece.delta or "" for piece in pieces) == described.text
    assert pieces[-1].raw.choices[0].grounding["score"] == pytest.approx(described.grounding, abs=1e-4)


def test_llama_index_passes_a_policy_on(server: Served, picture: Image.Image) -> None:
    image = ImageBlock(url=data_uri(picture))
    messages = [ChatMessage(role="user", blocks=[image, TextBlock(text=DESCRIBE)])]
    policy = {"grounding_policy": {"min_grounding": 1.0, "on_low": "fallback", "fallback": "I can not tell."}}
    model = llama_index(server, additional_kwargs={"extra_body": policy})
    whole = model.chat(messages)
    assert whole.message.content == "I can not tell."
    assert whole.raw is not None
    assert whole.raw.choices[0].grounding["decision"] == "fallback"


def test_no_question_and_no_answer_is_in_the_logs(
    server: Served, picture: Image.Image, described: GroundedAnswer
) -> None:
    with server.openai() as client:
        client.chat.completions.create(model="embedded", messages=chat_about(picture), max_tokens=8)
    told = json.dumps(server.logs) + "".join(server.other_lines)
    assert server.event("request") is not None
    assert DESCRIBE not in told
    assert described.text[:20] not in told
    assert server.key not in told
