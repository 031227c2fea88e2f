"""What a call is made of: which go together, which have to be alone, and how a stream gives out its tokens."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import TopKLogitsWarper

from saliency_guard import LVLM, CancelledError, ConfigError, ContextLengthError, LocoREConfig, SGRSConfig
from saliency_guard.answer_builder import AnswerBuilder
from saliency_guard.batching.calls import ScoringCall, WritingCall
from saliency_guard.batching.rounds import advance
from saliency_guard.batching.scheduler import Scheduler
from saliency_guard.chat.detokenize import encode
from saliency_guard.chat.messages import chat
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.decoding.options import Deadline, generation_plan, scoring_plan
from saliency_guard.models.prompt_cache import PromptCache
from saliency_guard.scenes.language import DESCRIBE


@pytest.fixture(scope="module")
def builder(lvlm: LVLM) -> AnswerBuilder:
    return AnswerBuilder(lvlm.model_id, lvlm.reader, PromptCache(1), lvlm.end_tokens)


@pytest.fixture(scope="module")
def prompt(lvlm: LVLM, picture: Image.Image) -> PreparedPrompt:
    return lvlm.prepare(chat(picture, DESCRIBE))


def writing(
    builder: AnswerBuilder, *, live: bool = False, cancel: threading.Event | None = None, **options: Any
) -> WritingCall:
    return WritingCall(builder, generation_plan(options), Deadline(None), cancel, live=live)


def test_calls_that_are_read_and_ended_in_one_go(lvlm: LVLM, builder: AnswerBuilder) -> None:
    plain, sampled = writing(builder), writing(builder, temperature=1.0)
    gained = writing(builder, locore=LocoREConfig())
    assert plain.reading == sampled.reading != gained.reading
    scored = ScoringCall(builder, scoring_plan({}))
    assert plain.ending == sampled.ending == scored.ending  # A finished answer and a given text are scored alike.
    assert plain.ending != writing(builder, sgrs=SGRSConfig()).ending
    assert plain.ending != writing(builder, live=True).ending
    other = AnswerBuilder(lvlm.model_id, lvlm.reader.with_tools([]), builder.prompts, lvlm.end_tokens)
    assert plain.ending != writing(other).ending


def test_who_has_to_be_alone(builder: AnswerBuilder) -> None:
    assert not writing(builder, temperature=0.7, top_k=5, repetition_penalty=1.2).alone
    assert not writing(builder, logits_processor=TopKLogitsWarper(3)).alone
    assert writing(builder, logits_processor=lambda _, scores: scores).alone
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert writing(builder).alone
    with torch.device("cpu"):
        assert ScoringCall(builder, scoring_plan({})).alone


def test_a_stream_gives_out_its_tokens_and_the_answer_at_last(builder: AnswerBuilder, prompt: PreparedPrompt) -> None:
    scheduler = Scheduler(advance, 8, 8)
    call = writing(builder, live=True, max_new_tokens=20)
    assert not call.may_run_ahead
    scheduler.enter(call)
    call.take(prompt)
    *steps, last = call.steps(scheduler)
    assert last.answer is not None
    assert [step.token.text for step in steps if step.token is not None] == [token.text for token in last.answer.tokens]
    quiet = writing(builder, max_new_tokens=20)
    scheduler.enter(quiet)
    quiet.take(prompt)
    (only,) = quiet.steps(scheduler)
    assert only.answer is not None
    assert only.answer.text == last.answer.text
    assert scheduler.statistics.active == 0


def test_a_stream_stops_between_two_tokens(builder: AnswerBuilder, prompt: PreparedPrompt) -> None:
    scheduler, cancel = Scheduler(advance, 8, 8), threading.Event()
    call = writing(builder, live=True, cancel=cancel, max_new_tokens=20)
    scheduler.enter(call)
    call.take(prompt)
    steps = call.steps(scheduler)
    assert next(steps).token is not None
    assert call.tokens
    assert call.may_run_ahead
    cancel.set()
    with pytest.raises(CancelledError):
        next(steps)
    assert scheduler.statistics.active == 0


def test_what_a_prompt_does_not_leave_room_for(
    lvlm: LVLM, builder: AnswerBuilder, prompt: PreparedPrompt, picture: Image.Image
) -> None:
    long = lvlm.prepare(chat(picture, "cat " * 4000))
    with pytest.raises(ContextLengthError):
        writing(builder).take(long)
    with pytest.raises(ConfigError):
        writing(builder, json_schema={"type": "no such type"}).take(prompt)


def test_a_text_is_written_as_soon_as_its_prompt_is_read(builder: AnswerBuilder, prompt: PreparedPrompt) -> None:
    call = ScoringCall(builder, scoring_plan({}))
    call.take(prompt, encode(builder.tokenizer, "A dog."))
    assert not call.written
    assert advance([call]) == []
    assert call.written
    assert advance([call]) == []
    assert call.answer is not None
    assert call.answer.text == "A dog."
