"""How one attempt differs from the one before it: a new seed, a stricter guard, a prompt that names what was weak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.guarantee import Keep
from saliency_guard.decoding.options import SMALLEST_TEMPERATURE
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.settings import Settings

_LARGEST_ALPHA = 0.99
_LARGEST_BETA = 10.0
_MOST_SPANS = 8


def _drawn_at(temperature: float) -> float:
    if 0.0 < temperature < SMALLEST_TEMPERATURE:
        msg = f"must be 0 (greedy), or {SMALLEST_TEMPERATURE} or more"
        raise ValueError(msg)
    return temperature


class RetryPlan(Settings):
    """What a retry changes.

    Attributes:
        temperature: retries are drawn at least at this; where the first attempt was greedy, a new seed alone would
            change nothing.
        new_seed: every attempt has a seed of its own.
        alpha_step: added to SGRS's ``alpha`` for every retry, where SGRS is on.
        beta_step: added to LocoRE's ``beta`` for every retry, where LocoRE is on.
        name_spans: ask again with the words named that had a low grounding.
        weak: words below this grounding are named.
        keep: the ``"first"`` answer that is good enough, or the ``"best"`` of all attempts (which makes them all).
    """

    temperature: Annotated[float, Field(ge=0.0, allow_inf_nan=False), AfterValidator(_drawn_at)] = 0.7
    new_seed: bool = True
    alpha_step: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    beta_step: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    name_spans: bool = False
    weak: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    keep: Keep = "first"


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt before it is made.

    Attributes:
        messages: what is asked.
        generation: keyword arguments of `LVLM.generate`.
        change: in words, what is other than in the first attempt.
    """

    messages: Sequence[Mapping[str, Any]]
    generation: Mapping[str, Any]
    change: str

    @property
    def repeats(self) -> tuple[object, ...]:
        """Two tries that agree in this write the same answer."""
        greedy = not self.generation.get("temperature")
        kept = {name: value for name, value in self.generation.items() if not (greedy and name in ("seed", "top_p"))}
        return (repr(sorted(kept.items(), key=lambda item: item[0])), _texts(self.messages))


def retry(
    plan: RetryPlan,
    number: int,
    *,
    messages: Sequence[Mapping[str, Any]],
    generation: Mapping[str, Any],
    seed: int,
    last: GroundedAnswer | None,
) -> Try:
    """Attempt ``number``; 0 is as it was asked for.

    Args:
        plan: what changes.
        number: of the attempt.
        messages: of the first attempt.
        generation: of the first attempt.
        seed: of the first attempt.
        last: the answer before, whose weak words may be named.
    """
    settings = {**generation, "seed": seed}
    if number == 0:
        return Try(messages, settings, "")
    changes: list[str] = []
    if plan.new_seed:
        settings["seed"] = seed + number
        settings["temperature"] = max(plan.temperature, settings.get("temperature", 0.0))
        changes.append(f"seed {settings['seed']} at temperature {settings['temperature']:g}")
    sgrs = settings.get("sgrs", SGRSConfig())
    if plan.alpha_step and sgrs is not None:
        alpha = min(_LARGEST_ALPHA, sgrs.alpha + number * plan.alpha_step)
        settings["sgrs"] = sgrs.model_copy(update={"alpha": alpha})
        changes.append(f"alpha {alpha:g}")
    locore = settings.get("locore", LocoREConfig())
    if plan.beta_step and locore is not None:
        beta = min(_LARGEST_BETA, locore.beta + number * plan.beta_step)
        settings["locore"] = locore.model_copy(update={"beta": beta})
        changes.append(f"beta {beta:g}")
    weak = weak_words(last, plan.weak) if plan.name_spans and last is not None else []
    if weak:
        messages = _asked_again(messages, weak)
        changes.append(f"asked to check {', '.join(weak)}")
    return Try(messages, settings, "; ".join(changes))


def weak_words(answer: GroundedAnswer, below: float) -> list[str]:
    """The words of an answer that begin with a token whose grounding is low, in order, each once."""
    found: list[str] = []
    for index, token in enumerate(answer.tokens):
        if token.grounding is not None and not token.grounding >= below:  # NaN is weak, too.
            rest = "".join(one.text for one in answer.tokens[index:]).lstrip()
            word = rest.split(maxsplit=1)[0].strip(".,;:!?\"'()") if rest else ""
            if word and word not in found:
                found.append(word)
    return found[:_MOST_SPANS]


def asked_to_check(words: Sequence[str]) -> str:
    """The sentence that names weak words."""
    return f"Look at the image again and say only what it shows. Check these words: {', '.join(words)}."


def _asked_again(messages: Sequence[Mapping[str, Any]], words: Sequence[str]) -> list[dict[str, Any]]:
    """The messages with a sentence more in the last one of the user."""
    request = asked_to_check(words)
    changed = [dict(message) for message in messages]
    last = max((index for index, message in enumerate(changed) if message.get("role") == "user"), default=-1)
    content = changed[last].get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    changed[last]["content"] = [*parts, {"type": "text", "text": request}]
    return changed


def _texts(messages: Sequence[Mapping[str, Any]]) -> str:
    """All text of messages; pictures never change between attempts."""
    contents = [message.get("content") for message in messages]
    return repr(
        [
            content
            if isinstance(content, str)
            else [part.get("text") for part in content or () if isinstance(part, Mapping)]
            for content in contents
        ]
    )
