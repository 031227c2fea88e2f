"""`LVLM` on a GPU: the answers and the grounding of the CPU, whoever calls it and in whatever precision."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from mixed_calls import MixedCall, assert_same, exact_model, in_tasks, in_threads

from saliency_guard import LVLM, GroundedAnswer, GuardPolicy, LocoREConfig, SGRSConfig
from saliency_guard.chat.messages import chat
from saliency_guard.embedded import EMBEDDED_PATH
from saliency_guard.evaluation.captions import caption_chats

DEVICE = "cuda"


@pytest.fixture(scope="module")
def on_gpu() -> LVLM:
    return LVLM.load(device=DEVICE)


def test_a_gpu_is_taken_where_there_is_one() -> None:
    assert LVLM.load().model.device.type == torch.device(DEVICE).type


def test_captions_claims_and_grounding_are_those_of_the_cpu(on_gpu: LVLM) -> None:
    chats = caption_chats(12)
    ours, wanted = ([lvlm.generate(each) for each in chats] for lvlm in (on_gpu, LVLM.load(device="cpu")))
    _same(ours, wanted)
    assert all(answer.claims and answer.tokens for answer in ours)
    _same(on_gpu.generate_batch(chats), wanted)


def _same(ours: list[GroundedAnswer], wanted: list[GroundedAnswer]) -> None:
    """Equal texts, and numbers up to what single precision does to them."""
    for here, there in zip(ours, wanted, strict=True):
        assert here.text == there.text
        assert [claim.text for claim in here.claims] == [claim.text for claim in there.claims]
        assert (here.grounding is None) == (there.grounding is None)
        assert here.grounding == pytest.approx(there.grounding, abs=0.01)
        assert here.domain == pytest.approx(there.domain, abs=0.01)
        for claim, other in zip(here.claims, there.claims, strict=True):
            assert claim.grounding == pytest.approx(other.grounding, abs=0.01)
            assert claim.verified == pytest.approx(other.verified, abs=0.01)
        saliency, expected = ([token.saliency for token in answer.tokens[1:]] for answer in (here, there))
        assert saliency == pytest.approx(expected, rel=0.01, abs=1e-5)


def test_sampling_is_the_same_alone_and_in_a_batch(on_gpu: LVLM) -> None:
    chats = caption_chats(6)
    options = {"temperature": 1.0, "sgrs": SGRSConfig(), "locore": LocoREConfig(), "max_new_tokens": 24}
    alone = [on_gpu.generate(each, seed=4, **options) for each in chats]
    together = on_gpu.generate_batch(chats, seed=4, **options)
    same = sum(here.text == there.text for here, there in zip(alone, together, strict=True))
    assert same >= 5  # Single precision: a draw at an edge may fall to the other side.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_answers_are_scored_and_not_called_calibrated(dtype: str) -> None:
    """The embedded model's calibration was fitted in single precision."""
    with pytest.warns(UserWarning, match="dtype: fitted for float32"):
        lvlm = LVLM.load(EMBEDDED_PATH, dtype=dtype, device=DEVICE)
    answers = lvlm.generate_batch(caption_chats(4))
    for answer in answers:
        assert answer.tokens
        assert answer.grounding is None
        assert "no calibration for this model" in str(answer.grounding_reason)
        assert all(0 <= token.saliency <= 1 for token in answer.tokens[1:])
        assert all(sum(token.shares.values()) == pytest.approx(1, abs=1e-3) for token in answer.tokens)


def test_policies_and_streams(on_gpu: LVLM) -> None:
    (messages,) = caption_chats(1)
    outcome = GuardPolicy(min_grounding=0.5, max_retries=1, on_low="repair").run(on_gpu, messages)
    assert outcome.decision in {"accepted", "repaired"}
    *_, last = on_gpu.stream(messages)
    assert last.answer is not None
    assert last.answer.text == on_gpu.generate(messages).text
    assert on_gpu.score(messages, "There is a dog.").tokens


@pytest.fixture(scope="module")
def calls() -> list[MixedCall]:
    return [MixedCall(number) for number in range(60)]


@pytest.fixture(scope="module")
def exact() -> LVLM:
    return exact_model(DEVICE)


@pytest.fixture(scope="module")
def alone(exact: LVLM, calls: list[MixedCall]) -> list[list[GroundedAnswer]]:
    return [call.run(exact) for call in calls]


def test_calls_one_by_one_are_those_of_the_cpu(calls: list[MixedCall], alone: list[list[GroundedAnswer]]) -> None:
    on_cpu = exact_model("cpu")
    for call, answers in zip(calls, alone, strict=True):
        wanted = call.run(on_cpu)
        assert [answer.text for answer in answers] == [answer.text for answer in wanted]
        for answer, other in zip(answers, wanted, strict=True):
            numbers, expected = ([token.saliency for token in each.tokens[1:]] for each in (answer, other))
            assert numbers == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_calls_of_threads_are_those_alone(
    exact: LVLM, calls: list[MixedCall], alone: list[list[GroundedAnswer]]
) -> None:
    assert_same(in_threads(exact, calls, 16), alone)
    assert exact.batching.largest > 1
    assert exact.batching.active == 0


async def test_calls_of_an_event_loop_are_those_alone(
    exact: LVLM, calls: list[MixedCall], alone: list[list[GroundedAnswer]]
) -> None:
    assert_same(await in_tasks(exact, calls), alone)


def test_memory_of_the_gpu_is_given_back(on_gpu: LVLM) -> None:
    def allocated() -> int:
        gc.collect()
        return torch.cuda.memory_allocated()

    def run(count: int) -> None:
        for messages in caption_chats(count):
            on_gpu.generate(messages)
            on_gpu.score(messages, "There is a dog.")

    run(12)  # The caches of prompts are full.
    before = allocated()
    run(36)
    assert allocated() <= 1.02 * before


def test_a_saved_model_is_loaded_where_it_is_to_run(tmp_path: Path, on_gpu: LVLM) -> None:
    on_gpu.model.save_pretrained(tmp_path)
    on_gpu.processor.save_pretrained(tmp_path)
    lvlm = LVLM.load(str(tmp_path), device=DEVICE, dtype="float16")
    assert lvlm.model.dtype == torch.float16
    assert lvlm.generate(chat(caption_chats(1)[0][0]["content"][0]["image"], "Is there a dog?")).text
