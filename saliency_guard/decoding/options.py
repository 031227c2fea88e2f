"""The options of writing an answer, the same everywhere, and the plan that they make once they are checked."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypedDict, cast

from saliency_guard.decoding.json_schema import SchemaMask
from saliency_guard.decoding.sampling import LogitsProcessor, are_stateless, logits_processors
from saliency_guard.decoding.sgrs import SGRSConfig
from saliency_guard.decoding.stop_strings import stop_strings
from saliency_guard.errors import ConfigError, DeadlineError, shown
from saliency_guard.models.locore import LocoREConfig
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.settings import require, seconds
from saliency_guard.signals import known
from saliency_guard.signals.verification import VerifyConfig

SMALLEST_TEMPERATURE = 1e-3
"""Below it the scores overflow in half precision: use 0, which is greedy."""


HIGHEST_TEMPERATURE = 1e6
"""Above it every token is as probable as any other."""

LARGEST_SEED = 2**64
"""Seeds lie below this, and above its negative."""


class GenerationOptions(TypedDict, total=False):
    """Keyword arguments of `LVLM.generate` and of everything else that writes answers; all may be left out.

    Attributes:
        max_new_tokens: the most tokens to write (128).
        temperature: 0 (the default) is greedy: candidates in order of probability; otherwise 0.001 or more.
        top_p: nucleus to sample from (1.0 is everything).
        top_k: how many tokens to sample from; None (the default) is all.
        repetition_penalty: of tokens that stand in the prompt or the answer already, as in transformers (1.0 is none).
        seed: of the random numbers; the same seed gives the same answer. None (the default) draws one. For a batch
            one for all (equal messages then get equal answers), or one for each.
        stop: strings at which the answer ends; they are not part of it.
        sgrs: saliency-guided rejection; None (the default) is off, ``SGRSConfig()`` is the paper's.
        locore: local coherence reinforcement; None (the default) is off, ``LocoREConfig()`` is the paper's.
        saliency: what to score (``SaliencyConfig()``); None (only without SGRS) scores nothing.
        signals: names of detection signals (see `saliency_guard.signals`) to give every token of the finished answer.
        json_schema: the answer is JSON of this schema (unless ``max_new_tokens`` cuts it short).
        logits_processor: one or several logits processors as in transformers, ``(input_ids [1, T], scores [1, V]) ->
            [1, V]``; they are called after the JSON schema and before temperature, top_k and top_p.
        timeout: seconds for the whole call; None (the default) is no limit.
        verify: how the model is asked about each claim of the finished answer; None (the default) is as the calibration
            has it, and not at all where there is none.
    """

    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int | None
    repetition_penalty: float
    seed: int | Sequence[int] | None
    stop: str | Sequence[str] | None
    sgrs: SGRSConfig | None
    locore: LocoREConfig | None
    saliency: SaliencyConfig | None
    signals: Sequence[str]
    json_schema: Mapping[str, Any] | None
    logits_processor: LogitsProcessor | Sequence[LogitsProcessor] | None
    timeout: float | None
    verify: VerifyConfig | None


DEFAULTS = GenerationOptions(
    max_new_tokens=128,
    temperature=0.0,
    top_p=1.0,
    top_k=None,
    repetition_penalty=1.0,
    seed=None,
    stop=(),
    sgrs=None,
    locore=None,
    saliency=SaliencyConfig(),
    signals=(),
    json_schema=None,
    logits_processor=None,
    timeout=None,
    verify=None,
)
"""What holds where an option is left out: for Python, the command line, integrations and servers alike."""


class ScoringOptions(TypedDict, total=False):
    """Keyword arguments of `LVLM.score` and of everything else that scores texts; all may be left out.

    Attributes:
        saliency: what to score (``SaliencyConfig()``).
        locore: the gains to score under; None (the default) is off.
        signals: as in `GenerationOptions`.
        verify: as in `GenerationOptions`.
    """

    saliency: SaliencyConfig
    locore: LocoREConfig | None
    signals: Sequence[str]
    verify: VerifyConfig | None


@dataclass(frozen=True, slots=True)
class ScoringPlan:
    """`ScoringOptions`, checked."""

    saliency: SaliencyConfig
    locore: LocoREConfig | None
    signals: tuple[str, ...]
    verify: VerifyConfig | None


def scoring_plan(options: Mapping[str, Any]) -> ScoringPlan:
    """The plan of a scoring call.

    Raises:
        ConfigError: if an option is unknown, or of the wrong kind.
    """
    names = ScoringOptions.__annotations__
    unknown = sorted(set(options) - set(names))
    if unknown:
        msg = f"there is no option {unknown[0]!r} for scoring; there are: {', '.join(names)}"
        raise ConfigError(msg)
    saliency = options.get("saliency", DEFAULTS["saliency"])
    if not isinstance(saliency, SaliencyConfig):
        msg = f"saliency must be SaliencyConfig(...), not {shown(saliency)}"
        raise ConfigError(msg)
    require(LocoREConfig, options.get("locore"))
    require(VerifyConfig, options.get("verify"))
    return ScoringPlan(saliency, options.get("locore"), known(options.get("signals", ())), options.get("verify"))


class Deadline:
    """When a call has to be over.

    Args:
        seconds: from now on; None is never.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._until = math.inf if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then; infinite where that is never."""
        return max(self._until - time.monotonic(), 0.0)

    def check(self) -> None:
        """Raise `DeadlineError` if the time is over."""
        if time.monotonic() > self._until:
            msg = f"the answer was not finished within timeout={self._seconds:g} s"
            raise DeadlineError(msg)


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """`GenerationOptions` of one answer, checked.

    Attributes:
        options: all of them, with the defaults.
        stop: strings at which it ends.
        signals: names of the signals its tokens are to have.
        seed: of the random numbers; None is greedy.
    """

    options: GenerationOptions
    stop: tuple[str, ...]
    signals: tuple[str, ...]
    seed: int | None

    @property
    def drafts_ahead(self) -> bool:
        """Whether a position may be asked about twice: not with a caller's own logits processors."""
        return are_stateless(_several(self.options["logits_processor"]))

    def processor(self, mask: SchemaMask | None) -> LogitsProcessor | None:
        """The logits processors of one answer; None where nothing is changed.

        Args:
            mask: of the answer's JSON schema.
        """
        options = self.options
        return logits_processors(
            temperature=float(options["temperature"]),
            top_p=options["top_p"],
            top_k=options["top_k"],
            repetition_penalty=float(options["repetition_penalty"]),
            schema_mask=mask,
            custom=_several(options["logits_processor"]),
        )

    def schema_mask(self, tokenizer: Any, eos: frozenset[int], prompt_length: int) -> SchemaMask | None:
        """What holds the answer to its JSON schema; arguments and errors as of `SchemaMask`."""
        schema = self.options["json_schema"]
        return None if schema is None else SchemaMask(schema, tokenizer, eos, prompt_length)


def generation_plan(options: Mapping[str, Any]) -> GenerationPlan:
    """The plan of one answer.

    Raises:
        ConfigError: if an option is unknown, of the wrong kind or out of range.
    """
    checked = checked_options(options)
    seed = checked["seed"]
    _check_seed(seed)
    return _plan(checked, cast("int | None", seed))


def generation_plans(options: Mapping[str, Any], count: int) -> list[GenerationPlan]:
    """The plans of several answers, with one seed for all or one for each.

    Raises:
        ConfigError: as `generation_plan`, and if there are not as many seeds as answers.
    """
    checked = checked_options(options)
    seed = checked["seed"]
    if seed is None or isinstance(seed, Integral):
        seeds: list[Any] = [seed] * count
    else:
        seeds = list(seed) if isinstance(seed, Sequence) and not isinstance(seed, str) else []
        if len(seeds) != count:
            msg = f"seed must be one number, or one for each of the {count} answers, not {shown(seed)}"
            raise ConfigError(msg)
    for value in seeds:
        _check_seed(value)
    return [_plan(checked, value) for value in seeds]


def _plan(options: GenerationOptions, seed: int | None) -> GenerationPlan:
    greedy = options["temperature"] == 0.0
    drawn = int.from_bytes(os.urandom(7)) if seed is None else seed
    return GenerationPlan(
        options=options,
        stop=stop_strings(options["stop"]),
        signals=known(options["signals"]),
        seed=None if greedy else drawn,
    )


def checked_options(options: Mapping[str, Any]) -> GenerationOptions:
    """All options, with the defaults for those left out; the seed may still be one or several.

    Raises:
        ConfigError: if an option is unknown, of the wrong kind or out of range.
    """
    unknown = sorted(set(options) - set(DEFAULTS))
    if unknown:
        msg = f"there is no option {unknown[0]!r}; there are: {', '.join(DEFAULTS)}"
        raise ConfigError(msg)
    merged = cast("GenerationOptions", {**DEFAULTS, **options})
    at_least_one("max_new_tokens", merged["max_new_tokens"])
    if merged["top_k"] is not None:
        at_least_one("top_k", merged["top_k"])
    temperature = _require_number("temperature", merged["temperature"], Real)
    if temperature != 0.0 and not SMALLEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
        bounds = f"from {SMALLEST_TEMPERATURE} to {HIGHEST_TEMPERATURE:g}"
        msg = f"temperature must be 0 (greedy), or {bounds}, not {shown(temperature)}"
        raise ConfigError(msg)
    top_p = _require_number("top_p", merged["top_p"], Real)
    if not 0.0 < top_p <= 1.0:
        msg = f"top_p must be in (0, 1], not {shown(top_p)}"
        raise ConfigError(msg)
    penalty = _require_number("repetition_penalty", merged["repetition_penalty"], Real)
    if not 0.0 < penalty < math.inf:
        msg = f"repetition_penalty must be above 0, not {shown(penalty)}"
        raise ConfigError(msg)
    seconds("timeout", merged["timeout"])
    for processor in _several(merged["logits_processor"]):
        if not callable(processor):
            msg = f"logits_processor must be callables as in transformers, not {shown(processor)}"
            raise ConfigError(msg)
    require(SGRSConfig, merged["sgrs"])
    require(LocoREConfig, merged["locore"])
    require(SaliencyConfig, merged["saliency"])
    require(VerifyConfig, merged["verify"])
    if merged["saliency"] is not None:
        merged["saliency"].require_rows()
    return merged


def _check_seed(seed: Any) -> None:
    if seed is not None and not -LARGEST_SEED < _require_number("seed", seed, Integral) < LARGEST_SEED:
        msg = f"seed must lie between -2**64 and 2**64, not {shown(seed)}"
        raise ConfigError(msg)


def at_least_one(name: str, value: Any) -> int:
    """A whole number above 0.

    Raises:
        ConfigError: if it is anything else.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        msg = f"{name} must be a whole number of at least 1, not {shown(value)}"
        raise ConfigError(msg)
    return int(value)


def _require_number(name: str, value: Any, kind: type[Integral | Real]) -> float:
    if not isinstance(value, kind) or isinstance(value, bool):
        msg = f"{name} must be {'a whole number' if kind is Integral else 'a number'}, not {shown(value)}"
        raise ConfigError(msg)
    try:
        return float(value)
    except OverflowError as error:
        msg = f"{name} is too large: {shown(value)}"
        raise ConfigError(msg) from error


def _several(processors: LogitsProcessor | Sequence[LogitsProcessor] | None) -> Sequence[LogitsProcessor]:
    if processors is None:
        return ()
    return processors if isinstance(processors, Sequence) else (processors,)
