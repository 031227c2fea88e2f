"""The work of several calls: in one go where they fit together, each by itself where one goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from PIL import Image

from saliency_guard import LVLM, ConfigError, LocoREConfig, SGRSConfig
from saliency_guard.answer_builder import AnswerBuilder
from saliency_guard.batching.calls import ScoringCall, WritingCall
from saliency_guard.batching.rounds import advance, answer_together, end, read, write
from saliency_guard.chat.detokenize import encode
from saliency_guard.chat.messages import chat
from saliency_guard.decoding.options import Deadline, generation_plan, scoring_plan
from saliency_guard.models.prompt_cache import PromptCache
from saliency_guard.scenes.language import DESCRIBE

QUESTIONS = (DESCRIBE, "Is there a cat in the image?", "What do you see?")


@pytest.fixture(scope="module")
def builder(lvlm: LVLM) -> AnswerBuilder:
    return AnswerBuilder(lvlm.model_id, lvlm.reader, PromptCache(0), lvlm.end_tokens)


def writing(lvlm: LVLM, builder: AnswerBuilder, picture: Image.Image, question: str, **options: Any) -> WritingCall:
    call = WritingCall(builder, generation_plan({"max_new_tokens": 20, **options}), Deadline(None), live=False)
    call.take(lvlm.prepare(chat(picture, question)))
    return call


@contextmanager
def passes(lvlm: LVLM) -> Iterator[list[int]]:
    """How many rows each pass had."""
    rows: list[int] = []
    handle = lvlm.model.get_decoder().register_forward_pre_hook(
        lambda _, __, named: rows.append(len(named["inputs_embeds"])), with_kwargs=True
    )
    yield rows
    handle.remove()


def test_what_fits_together_is_one_round(lvlm: LVLM, builder: AnswerBuilder, picture: Image.Image) -> None:
    first, second, third = (writing(lvlm, builder, picture, question) for question in QUESTIONS)
    guarded = writing(lvlm, builder, picture, DESCRIBE, sgrs=SGRSConfig())
    gained = writing(lvlm, builder, picture, DESCRIBE, locore=LocoREConfig())
    calls = [first, guarded, second, gained, third]
    read(calls)
    assert write(calls) == [3, 1, 1]


def test_a_prompt_of_two_calls_is_read_once(lvlm: LVLM, builder: AnswerBuilder, picture: Image.Image) -> None:
    calls = [writing(lvlm, builder, picture, question) for question in (*QUESTIONS, DESCRIBE)]
    with passes(lvlm) as rows:
        read(calls)
    assert rows == [1, 1, 1]
    assert all(call.is_read for call in calls)


def test_a_lone_prompt_is_all_of_a_piece_of_work(lvlm: LVLM, builder: AnswerBuilder, picture: Image.Image) -> None:
    call = writing(lvlm, builder, picture, DESCRIBE)
    assert advance([call]) == []
    assert (call.is_read, call.row.decoder.written) == (True, 0)
    assert advance([call]) == [1]
    assert call.row.decoder.written > 0


def test_answers_are_ended_in_one_go(lvlm: LVLM, builder: AnswerBuilder, picture: Image.Image) -> None:
    calls: list[ScoringCall] = []
    for question in QUESTIONS:
        call = ScoringCall(builder, scoring_plan({}))
        call.take(lvlm.prepare(chat(picture, question)), encode(lvlm.tokenizer, "A dog."))
        calls.append(call)
    read(calls)
    with passes(lvlm) as rows:
        end(calls)
    assert rows
    assert set(rows) == {3}
    assert [call.answer.text for call in calls if call.answer is not None] == ["A dog."] * 3


def test_where_one_goes_wrong_the_others_go_on(lvlm: LVLM, builder: AnswerBuilder, picture: Image.Image) -> None:
    good, other = (writing(lvlm, builder, picture, question) for question in QUESTIONS[:2])
    wrong = writing(lvlm, builder, picture, QUESTIONS[2], repetition_penalty=1e-44)  # What is infinite is not drawn.
    alone = writing(lvlm, builder, picture, DESCRIBE)
    (expected,) = answer_together([alone])
    calls = [good, wrong, other]
    while not all(call.done or call.error is not None for call in calls):
        advance([call for call in calls if call.error is None])
    assert isinstance(wrong.error, ConfigError)
    assert good.answer is not None
    assert good.answer.text == expected.text
    with pytest.raises(ConfigError):
        answer_together([writing(lvlm, builder, picture, DESCRIBE), wrong])


@pytest.mark.parametrize("work", [read, end])
def test_what_fails_for_all_is_done_for_each(
    lvlm: LVLM, builder: AnswerBuilder, picture: Image.Image, work: Any
) -> None:
    calls = []
    for question in QUESTIONS:
        call = ScoringCall(builder, scoring_plan({}))
        call.take(lvlm.prepare(chat(picture, question)), encode(lvlm.tokenizer, "A dog."))
        calls.append(call)
    if work is end:
        read(calls)
    left = 1

    def out_of_memory(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            msg = "no memory left"
            raise torch.OutOfMemoryError(msg)

    handle = lvlm.model.get_decoder().register_forward_pre_hook(out_of_memory)
    work(calls)
    handle.remove()
    assert left < 0
    assert [call.error for call in calls] == [None] * 3
    if work is read:
        end(calls)
    assert [call.answer.text for call in calls if call.answer is not None] == ["A dog."] * 3
