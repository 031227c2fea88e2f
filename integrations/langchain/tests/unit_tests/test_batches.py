"""Several chats in one batch: each answer is the one it gives alone, and each call is its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from message_checks import Heard, alike

from langchain_saliency_guard import SaliencyGuardedLVLM
from langchain_saliency_guard._messages import to_core
from saliency_guard import (
    LVLM,
)


def test_a_batch_gives_what_each_gives_alone_and_says_whose_error_it_is(model: SaliencyGuardedLVLM, ask: Any) -> None:
    chats: list[Any] = [
        [ask()],
        [ask("Is there a cat in the image?")],
        [HumanMessage("Hello")],
        [ask("What do you see?")],
    ]
    alone = [model.invoke(chat) for chat in chats]
    heard = Heard()
    together = model.batch(chats, config={"callbacks": [heard]})
    assert all(alike(*pair) for pair in zip(together, alone, strict=True))
    assert len(heard.runs) == 4
    bad = [HumanMessage([{"type": "image", "file_id": "x"}])]
    outputs = model.batch([chats[0], bad, chats[1]], return_exceptions=True)
    assert alike(outputs[0], alone[0])
    assert isinstance(outputs[1], ValueError)
    assert alike(outputs[2], alone[1])
    with pytest.raises(ValueError, match="file id"):
        model.batch([chats[0], bad])
    together = model.batch(chats, config={"max_concurrency": 2})
    assert all(alike(*pair) for pair in zip(together, alone, strict=True))


def test_a_batch_is_written_side_by_side(model: SaliencyGuardedLVLM, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = LVLM.generate_batch

    def counted(self: LVLM, batch: Any, **settings: Any) -> Any:
        sizes.append(len(batch))
        return original(self, batch, **settings)

    monkeypatch.setattr(LVLM, "generate_batch", counted)
    asyncio.run(model.abatch([[ask()]] * 10))
    assert sorted(sizes) == [2, 8]


async def test_a_batch_converts_fetches_and_prepares_each_chat_once(
    counts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversions = 0

    def counted(*args: Any, **settings: Any) -> Any:
        nonlocal conversions
        conversions += 1
        return to_core(*args, **settings)

    monkeypatch.setattr("langchain_saliency_guard.chat_models.to_core", counted)
    model = SaliencyGuardedLVLM(fetch_image=counts.fetch, batch_size=2, max_new_tokens=4)
    chats: list[Any] = [[counts.message(number)] for number in range(3)]
    urls = [f"https://example.org/{number}.png" for number in range(3)]
    assert len(model.batch(chats)) == 3
    assert (conversions, counts.fetched, counts.prepared) == (3, urls, 3)
    assert len(await model.abatch(chats)) == 3
    assert (conversions, sorted(counts.fetched), counts.prepared) == (6, sorted(urls * 2), 6)


def test_a_chat_with_an_error_does_not_keep_a_batch_from_being_written_together(
    counts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(url: str) -> bytes:
        if url.endswith("1.png"):
            msg = "no route to host"
            raise ConnectionError(msg)
        return bytes(counts.fetch(url))

    sizes: list[int] = []
    original = LVLM.generate_batch

    def sized(self: LVLM, batch: Any, **settings: Any) -> Any:
        sizes.append(len(batch))
        return original(self, batch, **settings)

    monkeypatch.setattr(LVLM, "generate_batch", sized)
    model = SaliencyGuardedLVLM(fetch_image=broken, max_new_tokens=4)
    chats: list[Any] = [[counts.message(number)] for number in range(3)]
    first, second, third = model.batch(chats, return_exceptions=True)
    assert first.content == third.content != ""
    assert isinstance(second, ConnectionError)
    assert (sizes, counts.prepared) == ([2], 2)


def test_a_call_inside_a_batch_is_its_own(ask: Any) -> None:
    outer, inner = SaliencyGuardedLVLM(max_tokens=20), SaliencyGuardedLVLM(max_tokens=5)
    question = ask("Is there a cat in the image?")
    got: list[Any] = []

    class Nested(BaseCallbackHandler):
        def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            if not got:
                got.append(None)
                got[0] = inner.invoke([question]).content

    outer.batch([[ask()]], config={"callbacks": [Nested()]})
    assert got == [inner.invoke([question]).content]


def test_the_same_chat_inside_a_batch_is_another_call(ask: Any) -> None:
    model = SaliencyGuardedLVLM(max_new_tokens=20)
    nested: list[Any] = []

    class Nested(BaseCallbackHandler):
        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            if not nested:
                nested.append(None)
                nested[0] = model.invoke([ask()], max_new_tokens=3)

    (answer,) = model.batch([[ask()]], config={"callbacks": [Nested()]})
    assert nested[0].usage_metadata["output_tokens"] == 3
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 3
