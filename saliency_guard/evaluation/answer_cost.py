"""What a call of `LVLM` costs with the defaults, beside transformers' own `generate`: captions, each to its end."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from saliency_guard.answer import GroundedAnswer
from saliency_guard.chat.template import Messages
from saliency_guard.evaluation.captions import caption_chats
from saliency_guard.evaluation.machine import median_ratio, timed
from saliency_guard.lvlm import LVLM

PLAIN = "processor and `generate` of transformers"
UNSCORED = "`LVLM.generate(saliency=None)`, no calibration"
SCORED = "`LVLM.generate`, no calibration"
GROUNDED = "`LVLM.generate`: every token scored, every claim verified and judged"
UNSCORED_BATCH = "`LVLM.generate_batch(saliency=None)` of eight, no calibration"
GROUNDED_BATCH = "`LVLM.generate_batch` of eight, with grounding"
BASES: MappingProxyType[str, str] = MappingProxyType(
    {
        PLAIN: PLAIN,
        UNSCORED: PLAIN,
        SCORED: PLAIN,
        GROUNDED: PLAIN,
        UNSCORED_BATCH: UNSCORED_BATCH,
        GROUNDED_BATCH: UNSCORED_BATCH,
    }
)
"""What each way is compared with."""

CAPTIONS = 8


@dataclass(frozen=True, slots=True)
class AnswerCost:
    """One way of writing captions.

    Attributes:
        name: of the way.
        tokens: of all captions together.
        seconds: of every round.
        ratio: median over the rounds of its time to that of the way it is compared with, in the same round.
    """

    name: str
    tokens: int
    seconds: tuple[float, ...]
    ratio: float

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


def answer_costs(
    lvlm: LVLM, tokens: int, *, rounds: int, on_round: Callable[[], None] = lambda: None
) -> list[AnswerCost]:
    """Time captions of eight scenes of the picture world in turns, every way once a round.

    The pictures differ, so that no prompt is known from before.

    Args:
        lvlm: what writes; it has a calibration.
        tokens: the most of each caption.
        rounds: how often.
        on_round: called after each.
    """
    bare = lvlm.with_calibrator(None)
    chats = caption_chats(CAPTIONS)
    options: dict[str, Any] = {"max_new_tokens": tokens}
    ways: dict[str, Callable[[], int]] = {
        PLAIN: lambda: sum(_written(lvlm, messages, tokens) for messages in chats),
        UNSCORED: lambda: _count(bare.generate(each, saliency=None, **options) for each in chats),
        SCORED: lambda: _count(bare.generate(each, **options) for each in chats),
        GROUNDED: lambda: _count(lvlm.generate(each, **options) for each in chats),
        UNSCORED_BATCH: lambda: _count(bare.generate_batch(chats, saliency=None, **options)),
        GROUNDED_BATCH: lambda: _count(lvlm.generate_batch(chats, **options)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    counts = {name: way() for name, way in ways.items()}  # Warm-up: kernels are chosen, buffers made.
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(timed(way, lvlm.model.device))
        on_round()
    return [
        AnswerCost(name, counts[name], tuple(taken), median_ratio(taken, seconds[BASES[name]]))
        for name, taken in seconds.items()
    ]


def _written(lvlm: LVLM, messages: Messages, tokens: int) -> int:
    """A caption by transformers alone; its number of tokens without the one that ends it."""
    inputs = lvlm.inputs(messages)
    written = lvlm.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)  # type: ignore[operator]
    answer = written[0, inputs["input_ids"].shape[1] :]
    text = lvlm.processor.tokenizer.decode(answer, skip_special_tokens=True)
    return len(answer) - (1 if text and len(answer) < tokens else 0)


def _count(answers: Iterable[GroundedAnswer]) -> int:
    """Tokens of all answers together."""
    return sum(len(answer.tokens) for answer in answers)
