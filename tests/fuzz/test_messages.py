"""Messages, tools and settings of any shape: an answer or an error of ours, at once, and never anything else."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import (
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ToolCallBlock,
)
from PIL import Image

from langchain_saliency_guard import _messages as langchain
from llama_index.llms.saliency_guard import _messages as llama_index
from saliency_guard import LVLM, GuardPolicy, SaliencyGuardError
from saliency_guard.adapters.settings import ServedLVLM
from saliency_guard.chat.messages import parse_messages
from saliency_guard.chat.tools import checked_tools, parse_tool_calls, required_tools

EACH = timedelta(seconds=60)  # Of the clock: other work may hold a machine up.
SECONDS = 3
"""That the processor may be busy with one call."""

HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]
QUICK = settings(max_examples=1_500, deadline=EACH, suppress_health_check=HEALTH)
WHOLE = settings(max_examples=150, deadline=EACH, suppress_health_check=HEALTH)


def picture() -> Image.Image:
    return Image.new("RGB", (8, 8), "red")


def png() -> bytes:
    file = io.BytesIO()
    picture().save(file, "PNG")
    return file.getvalue()


def deep(depth: int, inner: Any) -> Any:
    for _ in range(depth):
        inner = [inner]
    return inner


class Broken:
    """Raises whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)

    def __repr__(self) -> str:
        raise ZeroDivisionError

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("Broken()")


URLS = [
    *["http://127.0.0.1/a", "HTTPS://a", " http://a", "ftp://a", "file:///dev/zero", "file://a/b", "/dev/zero"],
    *["data:,x", "data:image/png;base64,AA=="],
]
WORDS = [
    *["user", "assistant", "system", "tool", "text", "image", "image_url", "function", "document_1", "output"],
    *["<image>", "USER:", "<tool_call>"],
]
KEYS = [
    *["role", "content", "type", "text", "source", "image", "image_url", "url", "path", "base64", "data"],
    *["tool_calls", "tool_call_id", "name", "function", "arguments", "id", "parameters", "description"],
]
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.sampled_from([*WORDS, *URLS]),
    st.sampled_from([float("nan"), 1j, {1}, object, object(), range(10**9), "\ud800", "\0" * 3]),
    st.builds(Broken),
    st.builds(pow, st.just(10), st.just(5_000)),  # Python refuses to write it out.
    st.builds(deep, st.sampled_from([1, 40, 5_000]), st.just("x")),
    st.builds(png),
    st.builds(picture),
    st.builds(lambda *shape: np.zeros(shape, np.float32), st.integers(0, 3), st.integers(0, 3)),
)
keys = st.one_of(st.sampled_from(KEYS), odd.filter(lambda value: type(value) in {int, float, str, bytes, type(None)}))
anything = st.recursive(
    odd,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(keys, inner, max_size=5)
    ),
    max_leaves=12,
)


def mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What is usual, and now and then anything at all."""
    return st.one_of(usual, usual, usual, anything)


def shaped(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: mostly(field) for name, field in fields.items()})


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)
functions = shaped(name=st.text(), arguments=st.one_of(st.text(), st.dictionaries(st.text(), json_values, max_size=3)))
calls = mostly(st.one_of(functions, shaped(type=st.just("function"), id=st.text(), function=functions)))
texts = shaped(type=st.just("text"), text=st.text(), source=st.sampled_from(["document_1", "a", "output"]))
images = shaped(type=st.just("image"), image=st.one_of(st.builds(picture), st.builds(png), st.sampled_from(URLS)))
urls = shaped(type=st.just("image_url"), image_url=shaped(url=st.sampled_from(URLS)))
encoded = shaped(type=st.just("image"), base64=st.text(), data=st.text(), url=st.text(), path=st.text())
parts = mostly(st.one_of(st.text(), texts, images, urls, encoded))
messages = shaped(
    role=st.sampled_from(["user", "assistant", "system", "tool"]),
    content=st.one_of(st.text(), st.lists(parts, max_size=4)),
    tool_calls=st.lists(calls, max_size=3),
    tool_call_id=st.text(),
    name=st.text(),
)
chats = mostly(st.lists(mostly(messages), max_size=4))
schemas = st.dictionaries(st.text(), json_values, max_size=3)
tools = mostly(
    st.lists(
        mostly(
            shaped(type=st.just("function"), function=shaped(name=st.text(), description=st.text(), parameters=schemas))
        ),
        max_size=3,
    )
)
choices = mostly(st.sampled_from([None, "auto", "any", "none", True, "look", {"type": "any"}]))


def ours(call: Callable[[], Any]) -> Any:
    """What a call gives; None where it raises an error of our tree, which is to be short."""
    began = time.process_time()
    try:
        return call()
    except SaliencyGuardError as error:
        complaint = str(error)
    finally:
        assert time.process_time() - began < SECONDS
    assert len(complaint) < 5_000
    complaint.encode()
    return None


@pytest.fixture(autouse=True, scope="module")
def no_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Texts that happen to be paths are looked for where there are none."""
    here = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("empty"))
    yield
    os.chdir(here)


@given(chats)
@QUICK
def test_messages(given_messages: Any) -> None:
    ours(lambda: parse_messages(given_messages, require_image=False, max_pixels=10_000))


@given(chats, tools)
@WHOLE
def test_messages_through_a_model(lvlm: LVLM, given_messages: Any, given_tools: Any) -> None:
    alone = LVLM(lvlm.model, lvlm.processor, require_image=False)
    ours(lambda: alone.inputs(given_messages))
    told = ours(lambda: alone.with_tools(given_tools))
    if told is not None:
        ours(lambda: told.inputs(given_messages))
        ours(lambda: told.score(given_messages, "A cat."))
        policy = GuardPolicy(min_grounding=0.5, max_retries=1)
        ours(lambda: policy.run(told.with_calibrator(lvlm.calibrator), given_messages, max_new_tokens=1))


@given(tools, choices)
@QUICK
def test_tools(given_tools: Any, choice: Any) -> None:
    ours(lambda: checked_tools(given_tools))
    ours(lambda: required_tools(given_tools, choice))
    ours(lambda: ServedLVLM().request({}, tools=given_tools, forced=given_tools))


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *["model", "max_tokens", "stop", "timeout", "policy", "temperature", "top_p", "seed", "sgrs", "locore"],
                *["saliency", "signals", "max_new_tokens", "stop_sequences", "model_name", "nothing"],
            ]
        ),
        anything,
        max_size=3,
    ),
    mostly(st.one_of(st.none(), st.text(), st.lists(st.text()))),
)
@QUICK
def test_settings_of_a_call(given_settings: dict[str, Any], stop: Any) -> None:
    ours(lambda: ServedLVLM().request(given_settings, stop=stop))
    ours(lambda: ServedLVLM(**given_settings))


@given(st.text() | st.text(alphabet='<>[]{}":,tool_cal/|python_tag\\ \n').map(lambda text: f"<tool_call>{text}"))
@QUICK
def test_what_a_model_writes(text: str) -> None:
    parse_tool_calls(text)


lc_blocks = mostly(
    st.one_of(
        st.text(),
        parts,
        shaped(type=st.just("non_standard"), value=parts),
        shaped(type=st.sampled_from(["image", "file"]), source=shaped(type=st.text(), data=st.text(), url=st.text())),
        shaped(type=st.just("file"), mime_type=st.sampled_from(["image/png", "IMAGE/", "x"]), base64=st.text()),
    )
)


@given(
    st.sampled_from([HumanMessage, AIMessage, SystemMessage, ToolMessage]),
    mostly(st.one_of(st.text(), st.lists(lc_blocks, max_size=4))),
    mostly(st.lists(mostly(shaped(name=st.text(), args=schemas, id=st.text())), max_size=2)),
    mostly(st.text()),
)
@QUICK
def test_langchain_messages(kind: Any, content: Any, tool_calls: Any, name: Any) -> None:
    message = kind.model_construct(content=content, tool_calls=tool_calls, tool_call_id=name, name=name)
    ours(lambda: parse_messages(langchain.to_core([message]), require_image=False, max_pixels=10_000))
    ours(lambda: langchain.has_picture([message]))
    ours(lambda: langchain.by_content([message]))
    langchain.image_of(content)


@st.composite
def unchecked(draw: st.DrawFn, kind: Any, **fields: st.SearchStrategy[Any]) -> Any:
    return kind.model_construct(**{name: draw(mostly(field)) for name, field in fields.items()})


nothing = st.none()
li_images = unchecked(ImageBlock, image=nothing | st.binary(), path=nothing | st.text(), url=st.sampled_from(URLS))
li_documents = unchecked(
    DocumentBlock,
    data=nothing | st.binary(),
    path=nothing | st.text(),
    url=nothing | st.sampled_from(URLS),
    title=st.text(),
    document_mimetype=nothing | st.sampled_from(["image/png", "text/plain"]),
)
li_plain = st.one_of(unchecked(TextBlock, text=st.text()), li_images, li_documents)
li_blocks = mostly(
    st.one_of(
        li_plain,
        unchecked(CitableBlock, title=st.text(), source=st.text(), content=st.lists(li_plain, max_size=3)),
        unchecked(CitationBlock, title=st.text(), source=st.text(), cited_content=li_plain),
        unchecked(ToolCallBlock, tool_call_id=st.text(), tool_name=st.text(), tool_kwargs=schemas | st.text()),
    )
)


@given(
    mostly(st.sampled_from(["user", "assistant", "tool", "developer"])),
    mostly(st.lists(li_blocks, max_size=4)),
    shaped(tool_calls=st.lists(calls, max_size=2), name=st.text(), tool_call_id=st.text()),
)
@QUICK
def test_llama_index_messages(role: Any, blocks: Any, beside: dict[str, Any]) -> None:
    message = ChatMessage.model_construct(role=role, blocks=blocks, additional_kwargs=beside)
    ours(lambda: parse_messages(llama_index.to_core([message]), require_image=False, max_pixels=10_000))
    ours(lambda: llama_index.has_picture([message]))


@given(anything)
@QUICK
def test_llama_index_pictures(given_picture: Any) -> None:
    ours(lambda: llama_index.image_block(given_picture))


@given(st.integers(1, 40), st.sampled_from(["message", "part", "text", "call"]))
@settings(max_examples=60, deadline=EACH)
def test_too_much_of_everything_is_refused_at_once(millions: int, what: str) -> None:
    many = millions * 1_000_000
    given_messages: Any = {
        "message": range(many),
        "part": [{"role": "user", "content": range(many)}],
        "text": [{"role": "user", "content": "x" * (many + 2_000_000)}],
        "call": [{"role": "assistant", "content": "x", "tool_calls": range(many)}],
    }[what]
    began = time.process_time()
    assert ours(lambda: parse_messages(given_messages, require_image=False)) is None
    assert time.process_time() - began < 1
