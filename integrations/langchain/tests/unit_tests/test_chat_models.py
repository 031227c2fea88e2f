"""SaliencyGuardedLVLM beside the core: the same answers on every way of calling, and what they say of themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from forced_text import Writes
from langchain_core.rate_limiters import InMemoryRateLimiter
from message_checks import Heard, alike, same, same_tokens, whole

from langchain_saliency_guard import SaliencyGuardedLVLM
from saliency_guard import (
    LVLM,
    ConfigError,
    DeadlineError,
    GuardPolicy,
    LocoREConfig,
    LowGroundingError,
    SGRSConfig,
)
from saliency_guard.chat.messages import chat


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


def test_stop_limit_and_overrides(model: SaliencyGuardedLVLM, ask: Any) -> None:
    text = str(model.invoke([ask()]).content)
    word = text.split()[3]
    assert model.invoke([ask()], stop=[word]).content == text[: text.index(word)]
    assert SaliencyGuardedLVLM(stop=word).invoke([ask()]).content == text[: text.index(word)]
    assert model.bind(stop=word).invoke([ask()]).content == text[: text.index(word)]
    assert [message.content for message in model.bind(stop=word).batch([[ask()]])] == [text[: text.index(word)]]
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


def test_a_policy_of_its_own_repairs(lvlm: LVLM, ask: Any) -> None:
    model = SaliencyGuardedLVLM(policy=GuardPolicy(min_grounding=0.5, on_low="repair"))
    tokenizer = lvlm.processor.tokenizer
    handler = Heard()

    def written(text: str) -> list[Any]:
        config = {"callbacks": [handler]}
        return list(model.stream([ask()], config, logits_processor=Writes(tokenizer, text)))  # type: ignore[arg-type]

    chunks = written("There is a zebra. There is a cup.")
    message = whole(chunks)
    report = message.response_metadata["grounding"]
    assert (message.text, report["decision"]) == ("There is a cup.", "repaired")
    assert [claim["text"] for claim in report["claims"]] == ["cup"]
    nothing = whole(written("There is a zebra."))
    assert (nothing.text, nothing.response_metadata["grounding"]["decision"]) == ("", "repaired")
    assert "zebra" not in repr(chunks) + repr(nothing) + repr(handler.events)


def test_a_message_with_its_report_is_small(model: SaliencyGuardedLVLM, lvlm: LVLM, ask: Any) -> None:
    things = "a brown dog, a red umbrella, a cup, a keyboard, a book, an apple and a blue bird"
    text = f"The image shows {things} on the table!!!"
    assert len(text) == 112
    message = model.invoke([ask()], logits_processor=Writes(lvlm.processor.tokenizer, text))
    assert message.text == text
    assert message.response_metadata["grounding"]["claims"]
    assert len(json.dumps(message.model_dump())) <= 3 * 1024


def test_fallbacks_and_retries_of_chains_see_the_error(ask: Any, says: Any) -> None:
    strict = SaliencyGuardedLVLM(policy=GuardPolicy(min_grounding=1.0, on_low="raise"))
    safe = strict.with_fallbacks(
        [says("I do not know.", "I do not know either.")], exceptions_to_handle=(LowGroundingError,)
    )
    assert safe.invoke([ask()]).content == "I do not know."
    assert "".join(str(chunk.content) for chunk in safe.stream([ask()])) == "I do not know either."
    with pytest.raises(LowGroundingError):
        strict.with_retry(retry_if_exception_type=(LowGroundingError,), stop_after_attempt=2).invoke([ask()])


def test_a_rate_limiter_is_waited_for(ask: Any) -> None:
    limiter = InMemoryRateLimiter(requests_per_second=1000, check_every_n_seconds=0.001)
    assert SaliencyGuardedLVLM(rate_limiter=limiter).invoke([ask()]).content


def test_a_call_may_set_every_option(model: SaliencyGuardedLVLM, ask: Any) -> None:
    greedy = str(model.invoke([ask()], max_new_tokens=8).content)
    assert model.invoke([ask()], max_new_tokens=8, temperature=2.0, top_k=1).content == greedy
    assert model.invoke([ask()], max_new_tokens=8, repetition_penalty=5.0).content != greedy
    with pytest.raises(DeadlineError, match="timeout"):
        model.invoke([ask()], timeout=1e-6)
    with pytest.raises(ConfigError, match="'top_q'"):
        model.invoke([ask()], top_q=1)


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
