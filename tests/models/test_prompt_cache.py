"""Prompts that were read before: fewer passes, the same results."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import families
import pytest
import tiny
import torch
from PIL import Image

from saliency_guard import LVLM, LocoREConfig, SaliencyConfig
from saliency_guard.chat.layout import prompt_layout
from saliency_guard.chat.messages import chat
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.models.batch_session import Batch
from saliency_guard.models.prompt_cache import PromptCache
from saliency_guard.models.session import Session
from saliency_guard.scenes.language import DESCRIBE


@contextmanager
def counting(model: torch.nn.Module) -> Iterator[list[int]]:
    """How many positions every pass of the decoder is over."""
    lengths: list[int] = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda _, __, named: lengths.append(named["inputs_embeds"].shape[1]), with_kwargs=True
    )
    try:
        yield lengths
    finally:
        handle.remove()


@pytest.fixture
def fresh() -> LVLM:
    return LVLM.load().with_calibrator(None)  # Judging takes passes of its own.


@pytest.fixture
def plain() -> LVLM:
    return LVLM.load(prompt_cache=0).with_calibrator(None)


def test_scoring_what_was_generated_reads_nothing_again(fresh: LVLM, plain: LVLM, picture: Image.Image) -> None:
    messages = chat(picture, DESCRIBE)
    with counting(fresh.model) as lengths:
        answer = fresh.generate(messages, saliency=None)
        assert max(lengths) > 64
        lengths.clear()
        scored = fresh.score(messages, answer.text)
    assert max(lengths) == len(lengths) * len(scored.tokens)  # the one chunk that is scored
    assert scored == plain.score(messages, answer.text).model_copy(update={"tokens": scored.tokens})
    for token, expected in zip(scored.tokens, plain.score(messages, answer.text).tokens, strict=True):
        assert (token.saliency or 0) == pytest.approx(expected.saliency or 0, rel=1e-4)
        assert token.logprob == pytest.approx(expected.logprob, abs=1e-5)
        assert token.shares == pytest.approx(expected.shares, abs=1e-5)


def test_a_retry_does_not_read_the_prompt_again(fresh: LVLM, plain: LVLM, picture: Image.Image) -> None:
    messages = chat(picture, DESCRIBE)
    with counting(fresh.model) as lengths:
        fresh.generate(messages, temperature=1.0, seed=1)
        lengths.clear()
        again = fresh.generate(messages, temperature=1.0, seed=2)
    assert max(lengths) < 64
    assert again.text == plain.generate(messages, temperature=1.0, seed=2).text


def test_another_picture_or_question_is_another_prompt(fresh: LVLM, plain: LVLM, picture: Image.Image) -> None:
    turned = picture.rotate(90)
    for image, question in ((picture, DESCRIBE), (turned, DESCRIBE), (picture, "Is there a dog in the image?")):
        messages = chat(image, question)
        assert fresh.generate(messages).text == plain.generate(messages).text
        reinforced = {"locore": LocoREConfig()}
        assert fresh.generate(messages, **reinforced).text == plain.generate(messages, **reinforced).text


def read(cache: PromptCache, case: tiny.Case, *, locore: LocoREConfig | None = None) -> Session:
    prompt = PreparedPrompt(case.inputs, prompt_layout(case.model.config, case.inputs))
    return cache.sessions(case.model, [prompt], locore=locore)[0]


def test_labels_for_training_do_not_make_another_prompt() -> None:
    """The processor of PaliGemma adds them to every prompt; the model never reads them."""
    case, cache = families.build("paligemma"), PromptCache(1)
    with counting(case.model) as lengths:
        cache.keep(read(cache, case))
        read(cache, case)
    assert len(lengths) == 1


def test_a_changed_model_reads_again(case: tiny.Case) -> None:
    cache = PromptCache(1)

    def logits() -> torch.Tensor:
        session = read(cache, case, locore=None)
        session.crop(session.prompt_length - 1)
        logits = session.run([session.last_prompt_token]).logits
        cache.keep(session)
        return logits

    first = logits()
    assert torch.equal(logits(), first)
    with torch.no_grad():
        case.model.get_decoder().layers[0].mlp.down_proj.weight.mul_(2.0)
    changed = logits()
    assert not torch.allclose(changed, first)
    alone = Session(case.model, case.inputs)
    assert torch.equal(alone.run([alone.last_prompt_token]).logits, changed)


def test_gains_of_another_answer_are_forgotten(llava: tiny.Case) -> None:
    cache = PromptCache(1)
    session = read(cache, llava, locore=LocoREConfig(beta=0.5))
    session.run([session.last_prompt_token, *tiny.ANSWER])
    cache.keep(session)
    plain = read(cache, llava, locore=None)
    assert plain.length == plain.prompt_length - 1
    same = read(cache, llava, locore=LocoREConfig(beta=0.5))
    assert same.length == same.prompt_length + len(tiny.ANSWER)


def test_the_cache_is_bounded(llava: tiny.Case) -> None:
    cache = PromptCache(2)
    for token in range(5):
        inputs = dict(llava.inputs)
        inputs["input_ids"] = inputs["input_ids"].clone()
        inputs["input_ids"][0, -1] = 20 + token
        cache.keep(read(cache, tiny.Case(llava.model, inputs)))
    assert len(cache) == 2
    cache.clear()
    assert len(cache) == 0


def test_nothing_is_kept_of_the_batch_that_a_prompt_was_a_row_of(case: tiny.Case) -> None:
    exact, cache = tiny.to(case, torch.float64), PromptCache(1)
    fed = [exact.inputs["input_ids"][0, -1].item(), *tiny.ANSWER]
    rows = [read(cache, exact), *(Session(exact.model, exact.inputs) for _ in range(3))]
    for session in rows:
        session.keep_states(1)
    batch = Batch(rows)
    batch.run([fed] * 4)
    batch.hand_back()
    cache.keep(rows[0])
    kept = read(cache, exact)
    states = [*kept.states, *(states for layer in kept.cache.layers for states in (layer.keys, layer.values))]
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in states}
    assert len(kept.states) == len(fed)
    assert sum(held.values()) < 2 * sum(tensor.nbytes for tensor in states)
    alone = Session(exact.model, exact.inputs)
    alone.run(fed)
    torch.testing.assert_close(kept.run([9]).logits, alone.run([9]).logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", list(tiny.RECURRENT))
def test_recurrent_prompts_are_kept_as_they_were_read(name: str) -> None:
    case = tiny.build(name)
    cache = PromptCache(1)
    logits = []
    for _ in range(3):
        session = read(cache, case, locore=None)
        logits.append(session.run([session.last_prompt_token]).logits)
        session.run([5])
        cache.keep(session)
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


def test_equal_prompts_of_a_batch_are_read_once(fresh: LVLM, picture: Image.Image) -> None:
    messages = chat(picture, DESCRIBE)
    with counting(fresh.model) as lengths:
        fresh.score_batch([(messages, "A dog."), (messages, "A cat."), (messages, "Two cups.")])
    assert sum(length > 64 for length in lengths) == 1


def test_a_batch_of_answers_is_what_each_is_alone(fresh: LVLM, plain: LVLM, picture: Image.Image) -> None:
    conversations = [
        chat(picture, DESCRIBE),
        chat(picture.rotate(180), DESCRIBE),
        chat(picture, "How many dogs are there?"),
    ]
    common = {"max_new_tokens": 24, "temperature": 0.8, "stop": " and"}
    together = fresh.generate_batch(conversations, seed=[3, 4, 5], batch_size=2, signals=("nll",), **common)
    for answer, messages, seed in zip(together, conversations, (3, 4, 5), strict=True):
        alone = plain.generate(messages, seed=seed, signals=("nll",), **common)
        assert (answer.text, answer.finish_reason, answer.usage) == (alone.text, alone.finish_reason, alone.usage)
        for token, expected in zip(answer.tokens, alone.tokens, strict=True):
            assert (token.saliency or 0) == pytest.approx(expected.saliency or 0, rel=1e-3)
            assert token.signals == pytest.approx(expected.signals, rel=1e-3, abs=1e-4)
            assert [r.token_id for r in token.rejected] == [r.token_id for r in expected.rejected]


def test_a_batch_of_scores_is_what_each_is_alone(fresh: LVLM, plain: LVLM, picture: Image.Image) -> None:
    pairs = [(chat(picture, DESCRIBE), "A dog and two cats."), (chat(picture, "What is it?"), "An elephant.")]
    config = SaliencyConfig(layers=(0.0, 1.0))
    for scored, (messages, text) in zip(fresh.score_batch(pairs, saliency=config), pairs, strict=True):
        alone = plain.score(messages, text, saliency=config)
        assert [token.text for token in scored.tokens] == [token.text for token in alone.tokens]
        for token, expected in zip(scored.tokens, alone.tokens, strict=True):
            assert (token.saliency or 0) == pytest.approx(expected.saliency or 0, rel=1e-4)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])  # noqa: S301
def test_a_copy_of_the_cache_is_empty(fresh: LVLM, picture: Image.Image, again: Callable[[Any], Any]) -> None:
    fresh.generate(chat(picture, DESCRIBE), max_new_tokens=2)
    cache = fresh._prompts
    assert len(cache) == 1
    other = again(cache)
    assert (len(other), len(cache)) == (0, 1)
    other.clear()
    assert len(cache) == 1
