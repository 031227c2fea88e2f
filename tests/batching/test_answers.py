"""Concurrent calls of one model: each has the result it has alone, and they really share their rounds."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from PIL import Image

from saliency_guard import (
    LVLM,
    CancelledError,
    ConfigError,
    DeadlineError,
    GroundedAnswer,
    ImageError,
    LocoREConfig,
    QueueFullError,
    SaliencyConfig,
    SGRSConfig,
    VerifyConfig,
)
from saliency_guard.batching.scheduler import Call
from saliency_guard.chat.messages import chat
from saliency_guard.chat.pictures import PictureCounter
from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.scenes.language import DESCRIBE
from saliency_guard.scenes.scene import render, sample_scene

LONG = 40


@pytest.fixture(scope="module")
def exact() -> LVLM:
    """Where rounding cannot tell a batch from a row alone."""
    with pytest.warns(UserWarning, match="dtype: fitted for float32"):
        return LVLM.load(EMBEDDED_PATH, dtype=torch.float64, device="cpu")


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [render(sample_scene(number), 224).image for number in range(4)]


class Gate:
    """Holds the first call of a model up in the middle of its prompt, until others are there."""

    def __init__(self, lvlm: LVLM, calls: int) -> None:
        self._lvlm = lvlm
        self._calls = calls
        self._handle = lvlm.model.get_decoder().register_forward_pre_hook(self._wait)

    def _wait(self, *_: object) -> None:
        self._handle.remove()
        while self._lvlm.batching.active < self._calls:
            threading.Event().wait(0.001)


def numbers(answer: GroundedAnswer) -> list[float]:
    """All that is known of an answer's tokens and claims."""
    values: list[float | None] = []
    for token in answer.tokens:
        values += [token.logprob, token.saliency, token.threshold, *token.signals.values()]
        values += [share for _, share in sorted(token.shares.items())]
        values += [candidate.saliency for candidate in token.rejected]
    values += [claim.verified for claim in answer.claims]
    return [-1.0 if value is None else value for value in values]


def assert_same(answer: GroundedAnswer, alone: GroundedAnswer) -> None:
    assert answer.text == alone.text
    assert [token.token_id for token in answer.tokens] == [token.token_id for token in alone.tokens]
    assert answer.finish_reason == alone.finish_reason
    assert numbers(answer) == pytest.approx(numbers(alone), rel=1e-7, abs=1e-9)
    assert answer.model_dump(include={"usage", "model_id", "grounding_reason"}) == alone.model_dump(
        include={"usage", "model_id", "grounding_reason"}
    )


Ask = Callable[[LVLM], GroundedAnswer]


def mixed(pictures: list[Image.Image]) -> list[tuple[str, Any, dict[str, Any]]]:
    """Calls of every kind and with many settings: method, messages, options."""
    first, second, third, fourth = (chat(picture, DESCRIBE) for picture in pictures)
    sgrs, locore = SGRSConfig(alpha=0.9), LocoREConfig(beta=0.3, window=4)
    return [
        ("generate", first, {"max_new_tokens": LONG}),
        ("generate", second, {"max_new_tokens": 9, "temperature": 1.2, "seed": 4, "top_k": 20}),
        ("stream", third, {"max_new_tokens": 20, "temperature": 0.8, "seed": 1}),
        ("score", fourth, {"text": "A red cup and two dogs.", "verify": VerifyConfig()}),
        ("generate", first, {"max_new_tokens": 12, "sgrs": sgrs, "locore": locore}),
        ("stream", second, {"max_new_tokens": 12, "sgrs": sgrs, "seed": 2, "temperature": 1.0}),
        ("score", first, {"text": "There is a cat.", "locore": locore, "signals": ("entropy",)}),
        ("generate", third, {"max_new_tokens": 20, "saliency": None, "stop": " a"}),
        ("generate", fourth, {"max_new_tokens": 16, "verify": VerifyConfig(), "signals": ("entropy",)}),
        ("stream", fourth, {"max_new_tokens": 20, "saliency": SaliencyConfig(layers=(0.0, 1.0)), "locore": locore}),
    ]


def called(lvlm: LVLM, method: str, messages: Any, options: dict[str, Any]) -> GroundedAnswer:
    if method == "stream":
        *steps, last = lvlm.stream(messages, **options)
        assert last.answer is not None
        assert "".join(step.token.text for step in steps if step.token is not None) == last.answer.text
        return last.answer
    answer: GroundedAnswer = getattr(lvlm, method)(messages, **options)
    return answer


async def acalled(lvlm: LVLM, method: str, messages: Any, options: dict[str, Any]) -> GroundedAnswer:
    if method == "stream":
        steps = [step async for step in lvlm.astream(messages, **options)]
        assert steps[-1].answer is not None
        return steps[-1].answer
    answer: GroundedAnswer = await getattr(lvlm, f"a{method}")(messages, **options)
    return answer


def in_threads(calls: list[Callable[[], Any]]) -> list[Any]:
    """What each call gives, or the error it raises; all of them at the same time."""
    results: list[Any] = [None] * len(calls)

    def work(index: int) -> None:
        try:
            results[index] = calls[index]()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            results[index] = error

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_each_of_many_different_calls_is_what_it_is_alone(exact: LVLM, pictures: list[Image.Image]) -> None:
    calls = mixed(pictures)
    alone = [called(exact, *call) for call in calls]
    before = exact.batching
    assert before.largest == 1
    Gate(exact, len(calls))
    results = in_threads([lambda call=call: called(exact, *call) for call in calls])
    for answer, expected in zip(results, alone, strict=True):
        assert_same(answer, expected)
    after = exact.batching
    assert after.largest > 1
    assert (after.active, after.waiting) == (0, 0)

    async def together() -> list[GroundedAnswer]:
        return await asyncio.gather(*[acalled(exact, *call) for call in calls])

    for answer, expected in zip(asyncio.run(together()), alone, strict=True):
        assert_same(answer, expected)


def test_equal_settings_share_every_round(exact: LVLM, pictures: list[Image.Image]) -> None:
    prompts = [exact.prepare(chat(picture, DESCRIBE)) for picture in pictures]
    options = {"max_new_tokens": LONG, "temperature": 1.0}
    alone = [exact.generate(prompt, seed=seed, **options) for seed, prompt in enumerate(prompts)]
    before = exact.batching
    Gate(exact, len(prompts))
    calls = [
        lambda prompt=prompt, seed=seed: exact.generate(prompt, seed=seed, **options)
        for seed, prompt in enumerate(prompts)
    ]
    for answer, expected in zip(in_threads(calls), alone, strict=True):
        assert_same(answer, expected)
    after = exact.batching
    assert after.largest == len(prompts)
    assert (after.rows - before.rows) / (after.rounds - before.rounds) > 1.5


def test_prompts_are_prepared_by_the_thread_that_works(
    lvlm: LVLM, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU: threads beside it would only take its turns."""
    prepared: list[str] = []
    prepare = LVLM.prepare

    def noted(self: LVLM, messages: Any) -> Any:
        prepared.append(threading.current_thread().name)
        return prepare(self, messages)

    monkeypatch.setattr(LVLM, "prepare", noted)
    chats = [chat(picture, DESCRIBE) for picture in pictures]
    Gate(lvlm, len(chats))
    in_threads([lambda messages=messages: lvlm.generate(messages, max_new_tokens=4) for messages in chats])
    assert prepared.count("saliency-guard batch") >= len(chats) - 1
    prepared.clear()
    monkeypatch.setattr(LVLM, "_prepares_beside", True)
    Gate(lvlm, len(chats))
    calls = [lambda messages=messages: lvlm.generate(messages, max_new_tokens=4) for messages in chats]
    answers = in_threads([*calls, lambda: lvlm.score(chats[0], "A dog.")])
    assert all(isinstance(answer, GroundedAnswer) for answer in answers)
    assert len(prepared) == len(answers)
    assert "saliency-guard batch" not in prepared


def test_a_prompt_that_cannot_be_prepared_fails_alone(lvlm: LVLM, pictures: list[Image.Image]) -> None:
    chats: list[Any] = [chat(picture, DESCRIBE) for picture in pictures]
    chats[2] = chat("no such picture.png", DESCRIBE)
    Gate(lvlm, len(chats))
    answers = in_threads([lambda messages=messages: lvlm.generate(messages, max_new_tokens=4) for messages in chats])
    assert [type(answer) for answer in answers].count(GroundedAnswer) == 3
    assert isinstance(answers[2], ImageError)
    assert lvlm.batching.active == 0


def test_no_more_than_batch_size_at_a_time_and_no_more_calls_than_the_queue_holds(
    pictures: list[Image.Image],
) -> None:
    lvlm = LVLM.load(batch_size=2, queue_size=3)
    prompt = lvlm.prepare(chat(pictures[0], DESCRIBE))
    Gate(lvlm, 3)
    results = in_threads([lambda: lvlm.generate(prompt, max_new_tokens=20)] * 5)
    refused = [result for result in results if isinstance(result, QueueFullError)]
    answers = {result.text for result in results if isinstance(result, GroundedAnswer)}
    assert len(refused) == 2
    assert len(answers) == 1
    assert lvlm.batching.largest == 2
    assert lvlm.with_calibrator(None).batching == lvlm.batching  # It is the same model.
    with pytest.raises(ConfigError, match="batch_size"):
        LVLM.load(batch_size=0)


def slow(seconds: float) -> Any:
    """A logits processor of the caller's own, which runs in the caller's thread."""

    def process(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        threading.Event().wait(seconds)
        return scores

    return process


def failing(*_: Any) -> torch.Tensor:
    msg = "a processor of its own"
    raise RuntimeError(msg)


def test_who_fails_fails_alone(exact: LVLM, pictures: list[Image.Image]) -> None:
    prompts = [exact.prepare(chat(picture, DESCRIBE)) for picture in pictures]
    alone = exact.generate(prompts[0], max_new_tokens=LONG)
    cancel = threading.Event()
    cancel.set()
    Gate(exact, 3)
    results = in_threads(
        [
            lambda: exact.generate(prompts[0], max_new_tokens=LONG),
            lambda: exact.generate(prompts[1], max_new_tokens=LONG, logits_processor=failing),
            lambda: exact.generate(prompts[2], max_new_tokens=LONG, timeout=1e-9),
            lambda: exact.generate(prompts[3], max_new_tokens=LONG, cancel=cancel),
            lambda: exact.score(prompts[3], "dog " * 5000),
            lambda: exact.generate(prompts[0], max_new_tokens=20, temperature=1.0, repetition_penalty=1e-30, seed=1),
            lambda: exact.generate(prompts[0], max_new_tokens=LONG),
        ]
    )
    assert_same(results[0], alone)
    assert_same(results[6], alone)
    assert "a processor of its own" in str(results[1])
    assert [type(result) for result in results[2:4]] == [DeadlineError, CancelledError]
    assert "do not fit the context" in str(results[4])
    assert exact.batching.active == 0


def test_out_of_memory_side_by_side_each_goes_on_alone(exact: LVLM, pictures: list[Image.Image]) -> None:
    prompts = [exact.prepare(chat(picture, DESCRIBE)) for picture in pictures[:3]]
    alone = [exact.generate(prompt, max_new_tokens=LONG) for prompt in prompts]
    refused = 0

    def out_of_memory(_: Any, __: Any, named: dict[str, Any]) -> None:
        nonlocal refused
        if len(named["inputs_embeds"]) > 1:
            refused += 1
            msg = "no memory left"
            raise torch.OutOfMemoryError(msg)

    Gate(exact, 3)
    handle = exact.model.get_decoder().register_forward_pre_hook(out_of_memory, with_kwargs=True)
    calls = [lambda prompt=prompt: exact.generate(prompt, max_new_tokens=LONG) for prompt in prompts]
    results = in_threads(calls)
    handle.remove()
    assert refused
    for answer, expected in zip(results, alone, strict=True):
        assert_same(answer, expected)


async def test_a_cancelled_task_leaves_and_the_others_finish(exact: LVLM, pictures: list[Image.Image]) -> None:
    prompts = [exact.prepare(chat(picture, DESCRIBE)) for picture in pictures[:3]]
    alone = exact.generate(prompts[0], max_new_tokens=LONG)
    Gate(exact, 3)
    tasks = [asyncio.ensure_future(exact.agenerate(prompt, max_new_tokens=LONG)) for prompt in prompts]
    while exact.batching.active < 3:
        await asyncio.sleep(0.001)
    tasks[1].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert isinstance(answers[0], GroundedAnswer)
    assert_same(answers[0], alone)
    assert exact.batching.active == 0


def test_a_stream_that_is_left_frees_the_model(lvlm: LVLM, pictures: list[Image.Image]) -> None:
    messages = chat(pictures[0], DESCRIBE)
    streams: list[Iterator[Any]] = [lvlm.stream(messages, max_new_tokens=LONG) for _ in range(20)]
    assert [next(stream).token.position for stream in streams] == [0] * 20
    assert lvlm.batching.active == 0
    del streams
    assert lvlm.generate(messages, max_new_tokens=2).tokens


def test_a_model_is_called_from_a_processor_of_a_joined_call(exact: LVLM, pictures: list[Image.Image]) -> None:
    """As always: by the same thread, and by another one that it waits for."""
    messages = chat(pictures[0], DESCRIBE)
    expected = exact.score(messages, "A dog.").tokens
    scored: list[Any] = []

    def process(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not scored:
            scored.append(exact.score(messages, "A dog.").tokens)
            scored.extend(in_threads([lambda: exact.score(messages, "A dog.").tokens]))
        return scores

    Gate(exact, 2)
    in_threads(
        [
            lambda: exact.generate(messages, max_new_tokens=20),
            lambda: exact.generate(messages, max_new_tokens=20),
            lambda: exact.generate(messages, max_new_tokens=3, logits_processor=process),
        ]
    )
    assert [len(tokens) for tokens in scored] == [len(expected)] * 2


def test_a_call_that_is_over_does_not_wait_for_the_garbage_collector(lvlm: LVLM, picture: Image.Image) -> None:
    """It would keep its picture, its keys and its values until then."""
    messages = chat(picture, "Is there a dog in the image?")
    gc.collect()
    gc.disable()
    try:
        lvlm.generate(messages, max_new_tokens=2)
        lvlm.score(messages, "No.")
        list(lvlm.stream(messages, max_new_tokens=2))
        stream = lvlm.stream(messages, max_new_tokens=100)
        next(stream)
        del stream
        cancel = threading.Event()
        cancel.set()
        with pytest.raises(CancelledError):
            lvlm.generate(messages, max_new_tokens=100, cancel=cancel)
        assert [thing for thing in gc.get_objects() if issubclass(type(thing), (Call, PictureCounter))] == []
    finally:
        gc.enable()
