"""The benchmark of speed times what it says it times."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator

import pytest
import torch
from PIL import Image

from saliency_guard import LVLM, SaliencyConfig, SGRSConfig, score_answer
from saliency_guard.chat.messages import chat
from saliency_guard.evaluation import speed
from saliency_guard.models.session import Session
from saliency_guard.scenes.language import DESCRIBE


@pytest.fixture(scope="module", autouse=True)
def only_this_module_s_garbage() -> Iterator[None]:
    """Garbage is collected before everything that is timed: not that of all other tests, which takes long."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def inputs(lvlm: LVLM, picture: Image.Image) -> dict[str, torch.Tensor]:
    return lvlm.inputs(chat(picture, DESCRIBE))


def test_all_ways_take_their_turn(lvlm: LVLM, inputs: dict[str, torch.Tensor]) -> None:
    rounds = []
    timings = speed.compare(lvlm.model, inputs, 2, list(speed.WAYS), rounds=1, on_round=lambda: rounds.append(1))
    assert [timing.name for timing in timings] == speed.installed(list(speed.WAYS))
    assert timings[0].name == speed.PLAIN
    assert timings[0].ratio == timings[0].writing == 1.0
    assert timings[1].name == speed.READING
    assert len(rounds) == 1
    assert all(len(timing.seconds) == 1 and timing.seconds[0] > 0 for timing in timings)
    twice = speed.compare(lvlm.model, inputs, 2, [], rounds=2, on_round=lambda: rounds.append(1))
    assert [len(timing.seconds) for timing in twice] == [2, 2]
    assert len(rounds) == 3


def test_a_forced_rate_of_rejections_is_met(lvlm: LVLM, inputs: dict[str, torch.Tensor]) -> None:
    for rate, low, high in ((0.0, 0, 0), (0.2, 4, 20), (1.0, 59, 59)):
        sgrs = SGRSConfig(alpha=1e-6)
        tokens = [
            token.grounding
            for token in speed.ForcedDecoder(Session(lvlm.model, inputs), sgrs=sgrs, rate=rate).tokens(60)
        ]
        assert low <= sum(bool(token.rejected) for token in tokens) <= high


def test_the_published_algorithm_finds_the_same_scores(lvlm: LVLM, inputs: dict[str, torch.Tensor]) -> None:
    """Its price is measured, so it has to be the same thing that is bought.

    Where the model is sure, the plain loss cancels in float32; ours leaves that factor out. So it is asked in float64.
    """
    exact = copy.deepcopy(lvlm.model).double()
    wide = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    written = speed.published(exact, wide, 6)
    scores = score_answer(lvlm.model, inputs, [token for token, _ in written], config=SaliencyConfig())
    reference = torch.tensor([score for _, score in written], dtype=torch.float64)
    torch.testing.assert_close(scores.saliency[1:].double(), reference[1:], rtol=1e-4, atol=0)


def test_peak_memory_is_that_of_the_way_alone() -> None:
    """A way that keeps every attention matrix takes that much more memory; building the model is not counted."""
    weights = 4 * 94e6
    matrices = 4 * 2 * 16 * 768**2  # Of the prompt, in float32: layers, heads, queries and keys.
    plain = speed.peak_memory(speed.PLAIN, 768, 2, layers=2)
    assert weights < plain < 3.5 * weights
    eager = speed.peak_memory("generate with output_attentions (eager)", 768, 2, layers=2)
    assert eager > plain + 0.9 * matrices
