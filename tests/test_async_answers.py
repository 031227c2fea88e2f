"""The coroutines of an LVLM: the same answers, off the event loop, stopped when nobody waits for them."""

from __future__ import annotations

import asyncio

import pytest
from PIL import Image

from saliency_guard import LVLM, ConfigError, SaliencyConfig
from saliency_guard.chat.messages import chat
from saliency_guard.scenes.language import DESCRIBE


async def test_they_give_what_the_plain_methods_give(lvlm: LVLM, picture: Image.Image) -> None:
    messages = chat(picture, DESCRIBE)
    answer = await lvlm.agenerate(messages, temperature=1.0, seed=3, max_new_tokens=12)
    assert answer == lvlm.generate(messages, temperature=1.0, seed=3, max_new_tokens=12)
    steps = [step async for step in lvlm.astream(messages, max_new_tokens=12)]
    assert [step.token.text for step in steps[:-1]] == [token.text for token in steps[-1].answer.tokens]
    assert await lvlm.ascore(messages, "A dog.") == lvlm.score(messages, "A dog.")
    pairs = [(messages, "A dog."), (messages, "Two cups.")]
    assert await lvlm.ascore_batch(pairs) == lvlm.score_batch(pairs)


async def test_a_cancelled_task_stops_between_two_tokens(picture: Image.Image) -> None:
    lvlm = LVLM.load()
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    handle = lvlm.model.get_decoder().register_forward_pre_hook(count)
    task = asyncio.ensure_future(lvlm.agenerate(chat(picture, DESCRIBE), temperature=1.5, seed=1, max_new_tokens=512))
    while passes < 3:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stopped = passes
    await asyncio.sleep(0.05)
    handle.remove()
    assert passes == stopped
    assert lvlm.generate(chat(picture, DESCRIBE), max_new_tokens=2).text


async def test_leaving_a_stream_stops_it(lvlm: LVLM, picture: Image.Image) -> None:
    stream = lvlm.astream(chat(picture, DESCRIBE), max_new_tokens=64)
    async for step in stream:
        assert step.token is not None
        break
    await stream.aclose()
    assert (await lvlm.ascore(chat(picture, DESCRIBE), "A dog.")).tokens


async def test_errors_are_those_of_the_plain_methods(lvlm: LVLM, picture: Image.Image) -> None:
    with pytest.raises(ConfigError, match="temperature"):
        await lvlm.agenerate(chat(picture, DESCRIBE), temperature=-1.0)
    with pytest.raises(ConfigError, match="matrix"):
        await lvlm.ascore(chat(picture, DESCRIBE), "A dog.", saliency=SaliencyConfig(normalization="matrix"))
