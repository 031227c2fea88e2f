"""SaliencyGuardedLVLM beside the core: the same answers on every way of calling, and what they say of themselves."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import torch
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from PIL import Image
from pydantic import BaseModel

from langchain_saliency_guard import AsyncGroundingCallbackHandler, GroundingCallbackHandler, SaliencyGuardedLVLM
from langchain_saliency_guard._messages import to_core
from saliency_guard import (
    LVLM,
    ConfigError,
    DeadlineError,
    GuardPolicy,
    LocoREConfig,
    LowGroundingError,
    SaliencyConfig,
    SGRSConfig,
    Step,
)
from saliency_guard.chat.messages import chat


class Heard(GroundingCallbackHandler):
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.runs: set[UUID] = set()

    def on_grounding_token(self, token: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        self.events.append(("token", token))
        self.runs.add(run_id)

    def on_grounding_report(self, report: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        self.events.append(("report", report))
        self.runs.add(run_id)

    def on_grounding_rejection(self, rejection: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        self.events.append(("rejection", rejection))

    def on_grounding_retry(self, attempt: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        self.events.append(("retry", attempt))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [data for kind, data in self.events if kind == name]


def whole(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total


def close(first: Any, second: Any) -> bool:
    """Whether two reports are equal, but for the last bits of float32: answers are written and scored side by side."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(close(value, second[name]) for name, value in first.items())
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(close, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return first == pytest.approx(second, rel=1e-4, abs=1e-5)
    return bool(first == second)


def same(first: Any, second: Any) -> bool:
    names = ("content", "response_metadata", "usage_metadata")
    return all(close(getattr(first, name), getattr(second, name)) for name in names) and same_tokens(
        first.additional_kwargs.get("grounding_tokens", []), second.additional_kwargs.get("grounding_tokens", [])
    )


def same_tokens(live: list[dict[str, Any]], finished: list[dict[str, Any]]) -> bool:
    """A finished answer is scored in longer pieces than the tokens of a stream: the last bits of float32 differ."""
    return len(live) == len(finished) and all(
        (first["text"], first["token_id"]) == (second["text"], second["token_id"])
        and (first["saliency"] or 0.0) == pytest.approx(second["saliency"] or 0.0, rel=1e-3)
        for first, second in zip(live, finished, strict=True)
    )


def alike(first: Any, second: Any) -> bool:
    """Written side by side, the last bits of float32 differ."""
    left, right = (message.response_metadata["grounding"] for message in (first, second))
    return bool(
        first.content == second.content
        and first.usage_metadata == second.usage_metadata
        and (left["score"] is None) == (right["score"] is None)
        and left["shares"] == pytest.approx(right["shares"], rel=1e-3)
        and (left["score"] or 0.0) == pytest.approx(right["score"] or 0.0, abs=1e-3)
    )


def test_the_answer_is_the_core_s(lvlm: LVLM, ask: Any, picture: Any) -> None:
    answer = lvlm.generate(chat(picture, "Describe the image in detail."))
    message = SaliencyGuardedLVLM(report="tokens").invoke([ask()])
    assert message.content == answer.text
    report = message.response_metadata["grounding"]
    assert report["score"] == answer.grounding
    assert report["calibrated"] is True
    assert report["tokens"] == answer.to_dict()["tokens"]
    live = message.additional_kwargs["grounding_tokens"]
    assert same_tokens(live, report["tokens"])
    assert all(token["grounding"] is None for token in live)
    assert message.response_metadata["finish_reason"] == "stop"
    assert message.response_metadata["model_name"] == "saliency-guard/embedded"
    assert message.usage_metadata == {
        "input_tokens": answer.usage.prompt_tokens,
        "output_tokens": answer.usage.completion_tokens,
        "total_tokens": answer.usage.total_tokens,
    }
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sgrs": SGRSConfig(), "locore": LocoREConfig()},
        {"temperature": 1.0, "seed": 7},
        {"policy": GuardPolicy(min_grounding=0.9, max_retries=2), "seed": 3},
        {"saliency": None},
        {"signals": ("nll",)},
    ],
)
async def test_every_way_of_calling_gives_one_message(ask: Any, settings: dict[str, Any]) -> None:
    model = SaliencyGuardedLVLM(**settings)
    said = model.invoke([ask()])
    assert same(await model.ainvoke([ask()]), said)
    assert same(whole(list(model.stream([ask()]))), said)
    assert same(whole([chunk async for chunk in model.astream([ask()])]), said)
    assert alike(model.batch([[ask()]])[0], said)
    assert alike((await model.abatch([[ask()]]))[0], said)
    events = [event async for event in model.astream_events([ask()], version="v2")]
    assert same(events[-1]["data"]["output"], said)
    assert sum(event["event"] == "on_custom_event" for event in events) > 0
    third = model.stream_events([ask()], version="v3")
    assert third.output.response_metadata["grounding"] == said.response_metadata["grounding"]
    assert third.output.text == said.text


def test_a_stream_brings_its_tokens_as_they_are_written(ask: Any) -> None:
    chunks = list(SaliencyGuardedLVLM(report="tokens").stream([ask()]))
    live = chunks[:-1]
    assert len(live) > 5
    for chunk in live:
        (token,) = chunk.additional_kwargs["grounding_tokens"]
        assert token["text"] == chunk.content
        assert set(token["shares"]) == {"image_0", "text", "output"}
    assert [chunk.chunk_position for chunk in chunks].count("last") == 1
    assert [chunk for chunk in chunks if chunk.usage_metadata] == [chunks[-1]]


async def test_events_reach_handlers_on_every_way(ask: Any) -> None:
    model = SaliencyGuardedLVLM(sgrs=SGRSConfig())

    class Plain(BaseCallbackHandler):
        def __init__(self) -> None:
            self.names: list[str] = []

        def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
            self.names.append(name)

    class Later(AsyncGroundingCallbackHandler):
        def __init__(self) -> None:
            self.tokens = 0

        async def on_grounding_token(self, token: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
            self.tokens += 1

    heard = [Heard() for _ in range(5)]
    plain, later = Plain(), Later()
    model.invoke([ask()], config={"callbacks": [heard[0], plain]})
    list(model.stream([ask()], config={"callbacks": [heard[1]]}))
    await model.ainvoke([ask()], config={"callbacks": [heard[2], later]})
    [_ async for _ in model.astream([ask()], config={"callbacks": [heard[3]]})]
    [_ async for _ in model.astream_events([ask()], version="v2", config={"callbacks": [heard[4]]})]
    for one in heard:
        assert one.events == heard[0].events
        assert len(one.runs) == 1
    assert len(heard[0].of("report")) == 1
    tokens = heard[0].of("token")
    assert len(heard[0].of("rejection")) == sum(len(token["rejected"]) for token in tokens) > 0
    assert later.tokens == len(tokens)
    assert plain.names[-1] == "grounding_report"
    assert plain.names.count("grounding_token") == len(tokens)


def test_events_of_a_chain_belong_to_the_model_s_run(model: SaliencyGuardedLVLM, ask: Any) -> None:
    heard = Heard()

    class Runs(BaseCallbackHandler):
        started: UUID | None = None

        def on_chat_model_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
            self.started = run_id

    runs = Runs()
    chain = (lambda message: [message]) | model
    list(chain.stream(ask(), config={"callbacks": [heard, runs]}))
    assert heard.runs == {runs.started}


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
def test_structured_answers_are_scored_too(model: SaliencyGuardedLVLM, ask: Any, method: Any) -> None:
    both: Any = model.with_structured_output(Joke, method=method, include_raw=True).invoke([ask()])
    assert isinstance(both["parsed"], Joke)
    assert both["parsing_error"] is None
    assert both["raw"].response_metadata["grounding"]["shares"]
    assert isinstance(model.with_structured_output(Joke, method=method).invoke([ask()]), Joke)
    assert set(model.with_structured_output(Joke.model_json_schema(), method="json_schema").invoke([ask()])) == {
        "setup",
        "punchline",
    }


def look(where: str) -> str:
    """Look somewhere.

    Args:
        where: left or right.
    """
    return where


def test_a_forced_call_is_a_call(model: SaliencyGuardedLVLM, ask: Any) -> None:
    named = ({"type": "function", "function": {"name": "look"}}, {"type": "tool", "name": "look"}, {"type": "any"})
    for choice in ("any", "required", True, "look", *named):
        message = model.bind_tools([look, Joke], tool_choice=choice).invoke([ask()])
        (call,) = message.tool_calls
        assert call["name"] in {"look", "Joke"}
        assert call["id"]
        assert message.response_metadata["finish_reason"] == "tool_calls"
        assert message.response_metadata["grounding"]["shares"]
    streamed = whole(list(model.bind_tools([look], tool_choice="any").stream([ask()])))
    assert [call["name"] for call in streamed.tool_calls] == ["look"]
    with pytest.raises(ConfigError, match="none of the tools"):
        model.bind_tools([look], tool_choice="listen").invoke([ask()])


def test_tools_reach_the_prompt(model: SaliencyGuardedLVLM, ask: Any) -> None:
    plain = model.invoke([ask()])
    told = model.bind_tools([look]).invoke([ask()])
    assert told.usage_metadata is not None
    assert plain.usage_metadata is not None
    assert told.usage_metadata["input_tokens"] > plain.usage_metadata["input_tokens"] + 20


def test_stop_limit_and_overrides(model: SaliencyGuardedLVLM, ask: Any) -> None:
    text = str(model.invoke([ask()]).content)
    word = text.split()[3]
    assert model.invoke([ask()], stop=[word]).content == text[: text.index(word)]
    assert SaliencyGuardedLVLM(stop=word).invoke([ask()]).content == text[: text.index(word)]
    assert model.bind(stop=word).invoke([ask()]).content == text[: text.index(word)]
    assert [one.content for one in model.bind(stop=word).batch([[ask()]])] == [text[: text.index(word)]]
    short = model.invoke([ask()], max_tokens=3)
    assert short.response_metadata["finish_reason"] == "length"
    assert short.usage_metadata is not None
    assert short.usage_metadata["output_tokens"] == 3
    assert model.bind(temperature=None, max_tokens=None).invoke([ask()]).content == text
    assert model.bind(max_new_tokens=3).invoke([ask()]).content == short.content
    assert model.invoke([ask()], saliency=None).response_metadata["grounding"]["shares"] == {}
    with pytest.raises(ConfigError, match="max_tokenz"):
        SaliencyGuardedLVLM(max_tokenz=3)
    with pytest.raises(ConfigError, match="'tempreature'"):
        model.invoke([ask()], tempreature=1.0)


def test_a_policy_decides(ask: Any) -> None:
    strict = GuardPolicy(min_grounding=1.0, max_retries=2)
    heard = Heard()
    message = SaliencyGuardedLVLM(policy=strict, seed=1).invoke([ask()], config={"callbacks": [heard]})
    report = message.response_metadata["grounding"]
    assert report["decision"] == "flagged"
    assert report["threshold"] == 1.0
    assert len(report["attempts"]) == 3
    assert [(attempt["attempt"], attempt["verdict"]) for attempt in heard.of("retry")] == [
        (0, "refused"),
        (1, "refused"),
    ]
    assert {token["attempt"] for token in heard.of("token")} == {
        max(range(3), key=lambda number: report["attempts"][number]["score"])
    }
    assert "".join(token["text"] for token in heard.of("token")) == message.content
    heard = Heard()
    with pytest.raises(LowGroundingError) as raised:
        SaliencyGuardedLVLM(policy=GuardPolicy(min_grounding=1.0, on_low="raise")).invoke(
            [ask()], config={"callbacks": [heard]}
        )
    assert raised.value.threshold == 1.0
    assert [report["decision"] for report in heard.of("report")] == ["raised"]
    fallback = GuardPolicy(min_grounding=1.0, on_low="fallback", fallback=lambda *_: "Ask a person.")
    said = SaliencyGuardedLVLM(policy=fallback).invoke([ask()])
    assert said.content == "Ask a person."
    assert said.response_metadata["grounding"]["decision"] == "fallback"
    assert whole(list(SaliencyGuardedLVLM(policy=fallback).stream([ask()]))).content == "Ask a person."


def test_fallbacks_and_retries_of_chains_see_the_error(ask: Any, says: Any) -> None:
    strict = SaliencyGuardedLVLM(policy=GuardPolicy(min_grounding=1.0, on_low="raise"))
    safe = strict.with_fallbacks(
        [says("I do not know.", "I do not know either.")], exceptions_to_handle=(LowGroundingError,)
    )
    assert safe.invoke([ask()]).content == "I do not know."
    assert "".join(str(chunk.content) for chunk in safe.stream([ask()])) == "I do not know either."
    with pytest.raises(LowGroundingError):
        strict.with_retry(retry_if_exception_type=(LowGroundingError,), stop_after_attempt=2).invoke([ask()])


def test_a_cache_keeps_settings_apart(ask: Any) -> None:
    set_llm_cache(InMemoryCache())
    try:
        low, high = (
            SaliencyGuardedLVLM(policy=GuardPolicy(min_grounding=threshold, on_low="flag")) for threshold in (0.0, 1.0)
        )
        assert low.invoke([ask()]).response_metadata["grounding"]["decision"] == "accepted"
        assert high.invoke([ask()]).response_metadata["grounding"]["decision"] == "flagged"
        assert SaliencyGuardedLVLM(sgrs=SGRSConfig()).invoke([ask()]).content != low.invoke([ask()]).content
        again = low.invoke([ask()])
        assert again.usage_metadata is not None
        assert again.usage_metadata.get("total_cost", 0) == 0
        assert again.response_metadata["grounding"]["decision"] == "accepted"
    finally:
        set_llm_cache(None)


def test_settings_that_change_answers_are_in_the_cache_s_key() -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"seed": 1},
        {"max_tokens": 5},
        {"stop": ["x"]},
        {"sgrs": SGRSConfig()},
        {"sgrs": SGRSConfig(alpha=0.9)},
        {"locore": LocoREConfig()},
        {"saliency": SaliencyConfig(layers=(0.0, 1.0))},
        {"signals": ("nll",)},
        {"policy": GuardPolicy(min_grounding=0.5)},
        {"policy": GuardPolicy(min_grounding=0.6)},
        {"dtype": "float64"},
        {"revision": "main"},
        {"model": "another"},
    ]
    keys = [json.dumps(SaliencyGuardedLVLM(**one)._identifying_params, sort_keys=True, default=str) for one in settings]
    assert len(set(keys)) == len(settings)


def test_a_rate_limiter_is_waited_for(ask: Any) -> None:
    limiter = InMemoryRateLimiter(requests_per_second=1000, check_every_n_seconds=0.001)
    assert SaliencyGuardedLVLM(rate_limiter=limiter).invoke([ask()]).content


def test_a_batch_gives_what_each_gives_alone_and_says_whose_error_it_is(model: SaliencyGuardedLVLM, ask: Any) -> None:
    chats: list[Any] = [
        [ask()],
        [ask("Is there a cat in the image?")],
        [HumanMessage("Hello")],
        [ask("What do you see?")],
    ]
    alone = [model.invoke(one) for one in chats]
    heard = Heard()
    assert all(map(alike, model.batch(chats, config={"callbacks": [heard]}), alone))
    assert len(heard.runs) == 4
    bad = [HumanMessage([{"type": "image", "file_id": "x"}])]
    found = model.batch([chats[0], bad, chats[1]], return_exceptions=True)
    assert alike(found[0], alone[0])
    assert isinstance(found[1], ValueError)
    assert alike(found[2], alone[1])
    with pytest.raises(ValueError, match="file id"):
        model.batch([chats[0], bad])
    assert all(map(alike, model.batch(chats, config={"max_concurrency": 2}), alone))


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


def test_a_call_may_set_every_option(model: SaliencyGuardedLVLM, ask: Any) -> None:
    greedy = str(model.invoke([ask()], max_new_tokens=8).content)
    assert model.invoke([ask()], max_new_tokens=8, temperature=2.0, top_k=1).content == greedy
    assert model.invoke([ask()], max_new_tokens=8, repetition_penalty=5.0).content != greedy
    with pytest.raises(DeadlineError, match="timeout"):
        model.invoke([ask()], timeout=1e-6)
    with pytest.raises(ConfigError, match="'top_q'"):
        model.invoke([ask()], top_q=1)


def test_logits_processors_are_not_mixed_up_by_the_cache(model: SaliencyGuardedLVLM, ask: Any) -> None:
    class Held:
        """Writes one token only; all of its kind look alike."""

        def __init__(self, token: int) -> None:
            self.token = token

        def __repr__(self) -> str:
            return "Held()"

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            held = torch.full_like(scores, -torch.inf)
            held[:, self.token] = 0.0
            return held

    set_llm_cache(InMemoryCache())
    try:
        texts = {
            str(model.invoke([ask()], logits_processor=Held(token), max_new_tokens=2).content) for token in (402, 403)
        }
    finally:
        set_llm_cache(None)
    assert len(texts) == 2


def test_six_callers_at_once_get_the_answers_of_one(model: SaliencyGuardedLVLM, ask: Any) -> None:
    questions = ["Describe the image in detail.", "Is there a cat in the image?", "What do you see?"] * 2
    serial = [model.invoke([ask(question)]) for question in questions]
    with ThreadPoolExecutor(6) as pool:
        assert all(map(same, pool.map(lambda question: model.invoke([ask(question)]), questions), serial))

    async def together() -> list[AIMessage]:
        return await asyncio.gather(*(model.ainvoke([ask(question)]) for question in questions))

    assert all(map(same, asyncio.run(together()), serial))


async def test_fifty_cancelled_streams_leave_nothing_running(
    model: SaliencyGuardedLVLM, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model.invoke([ask()])
    written = 0
    original = LVLM.stream

    def counted(self: LVLM, messages: Any, **settings: Any) -> Any:
        nonlocal written
        for step in original(self, messages, **settings):
            written += 1
            yield step

    monkeypatch.setattr(LVLM, "stream", counted)

    async def cut_short(tokens: int) -> None:
        count = 0
        async for _ in model.astream([ask()]):
            count += 1
            if count > tokens:
                break

    async def cancelled(after: float) -> None:
        task = asyncio.ensure_future(model.ainvoke([ask()]))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for index in range(20):
        await cut_short(index % 5)
    await asyncio.gather(*(cancelled(0.001 * index) for index in range(20)))
    for index in range(10):
        stream: Any = model.stream([ask()])
        for _ in range(index % 4):
            next(stream)
        stream.close()
    gc.collect()
    until_now = written
    assert until_now < 50 * before.usage_metadata["output_tokens"]
    await asyncio.sleep(0.3)
    assert written == until_now
    assert torch.is_grad_enabled()
    assert same(model.invoke([ask()]), before)


def test_grad_mode_does_not_leak_into_threads(model: SaliencyGuardedLVLM, ask: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        stream: Any = model.stream([ask()])
        pool.submit(next, stream).result()
        assert pool.submit(torch.is_grad_enabled).result()
        stream.close()


def test_time_runs_out(ask: Any) -> None:
    with pytest.raises(DeadlineError, match="timeout"):
        SaliencyGuardedLVLM(timeout=1e-6).invoke([ask()])
    with pytest.raises(DeadlineError, match="timeout"):
        SaliencyGuardedLVLM(timeout=1e-6).batch([[ask()]])
    assert SaliencyGuardedLVLM(timeout=60).invoke([ask()]).content


def test_nothing_is_loaded_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **kwargs: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(LVLM, "load", load)
    model = SaliencyGuardedLVLM(
        model="not/there",
        api_key="x",
        timeout=5,
        max_retries=2,
        stop=["a"],
        streaming=True,
        max_tokens=5,
        temperature=0.1,
    )
    assert model.profile is not None
    assert model.profile["image_inputs"] is True
    assert not model.profile["structured_output"]


def test_models_of_one_configuration_share_one_engine(model: SaliencyGuardedLVLM, lvlm: LVLM) -> None:
    assert model.engine() is SaliencyGuardedLVLM(temperature=1.0).engine() is lvlm
    assert SaliencyGuardedLVLM(lvlm=lvlm.with_calibrator(None)).engine() is not lvlm


def test_without_a_calibrator_there_is_no_grounding(lvlm: LVLM, ask: Any) -> None:
    report = SaliencyGuardedLVLM(lvlm=lvlm.with_calibrator(None)).invoke([ask()]).response_metadata["grounding"]
    assert report["score"] is None
    assert "calibration" in report["reason"]
    assert report["calibrated"] is False
    assert report["shares"]["image_0"] > 0


def test_a_model_whose_template_takes_tools_is_told_by_it(lvlm: LVLM, ask: Any) -> None:
    processor = copy.copy(lvlm.processor)
    processor.chat_template = "{% if tools %}TOOLS {{ tools | tojson }}{% endif %}" + lvlm.processor.chat_template
    able = LVLM(lvlm.model, processor, require_image=False)
    plain = SaliencyGuardedLVLM(lvlm=able).invoke([ask()])
    told = SaliencyGuardedLVLM(lvlm=able).bind_tools([look]).invoke([ask()])
    assert plain.usage_metadata is not None
    assert told.usage_metadata is not None
    assert told.usage_metadata["input_tokens"] > plain.usage_metadata["input_tokens"] + 20


@pytest.mark.parametrize(
    ("written", "calls", "invalid"),
    [
        ('<tool_call>{"name": "look", "arguments": {"where": "left"}}</tool_call>', 1, 0),
        ("<tool_call>look left</tool_call>", 0, 1),
        ("There is a cup.", 0, 0),
    ],
)
def test_calls_are_read_out_of_answers(
    lvlm: LVLM, ask: Any, monkeypatch: pytest.MonkeyPatch, written: str, calls: int, invalid: int
) -> None:
    """The embedded model never calls a tool by itself: its answer is put in its mouth."""

    def said(self: LVLM, messages: Any, **settings: Any) -> Any:
        answer = lvlm.score(messages, written)
        yield from (Step(token=token) for token in answer.tokens)
        yield Step(answer=answer)

    monkeypatch.setattr(LVLM, "stream", said)
    monkeypatch.setattr(LVLM, "generate", lambda _, messages, **__: lvlm.score(messages, written))
    model = SaliencyGuardedLVLM().bind_tools([look])
    message = model.invoke([ask()])
    assert len(message.tool_calls) == calls
    assert len(message.invalid_tool_calls) == invalid
    streamed = whole(list(model.stream([ask()])))
    assert [call["args"] for call in streamed.tool_calls] == [call["args"] for call in message.tool_calls]
    assert message.content == ("" if calls or invalid else written)


async def test_policies_run_side_by_side_in_threads(ask: Any) -> None:
    strict = SaliencyGuardedLVLM(policy=GuardPolicy(min_grounding=1.0, max_retries=2), seed=1)
    answers = await asyncio.gather(*(strict.ainvoke([ask()]) for _ in range(4)))
    assert all(same(answer, answers[0]) for answer in answers)
    assert len(answers[0].response_metadata["grounding"]["attempts"]) == 3


def test_a_policy_s_stream_may_change_threads(ask: Any) -> None:
    strict = GuardPolicy(min_grounding=1.0, max_retries=2)
    steps = strict.steps(SaliencyGuardedLVLM().engine(), to_core([ask()]), seed=1, max_new_tokens=5)
    found = []
    for _ in range(4):
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(next, steps).result())
    assert len(found) == 4


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


def test_fallbacks_of_any_kind_are_told_apart_by_the_cache(ask: Any) -> None:
    def careful(fallback: Any) -> SaliencyGuardedLVLM:
        return SaliencyGuardedLVLM(policy=GuardPolicy(min_grounding=1.0, on_low="fallback", fallback=fallback))

    set_llm_cache(InMemoryCache())
    try:
        made = [careful(lambda *_, text=text: text) for text in "AB"]
        made += [careful(partial(lambda text, *_: text, text)) for text in "CD"]
        assert [model.invoke([ask()]).content for model in made] == ["A", "B", "C", "D"]
    finally:
        set_llm_cache(None)


def test_the_cache_tells_pictures_apart(model: SaliencyGuardedLVLM, picture: Any, tmp_path: Any) -> None:
    question = {"type": "text", "text": "Describe the image in detail."}
    path = tmp_path / "p.png"
    set_llm_cache(InMemoryCache())
    try:
        answers = []
        for image in (picture, Image.new("RGB", (224, 224), "teal")):
            image.save(path)
            answers.append(model.invoke([HumanMessage([{"type": "image", "path": str(path)}, question])]).content)
            answers.append(model.invoke([HumanMessage([{"type": "image", "image": image.copy()}, question])]).content)
        assert answers[0] == answers[1] != answers[2] == answers[3]
    finally:
        set_llm_cache(None)
