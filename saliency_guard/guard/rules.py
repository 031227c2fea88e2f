"""Rules on raw signals, by the names of the signals: they work before a model has a calibration."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, model_validator

from saliency_guard.answer import GroundedAnswer, TokenGrounding
from saliency_guard.calibration.token_filter import TokenFilter
from saliency_guard.errors import ConfigError
from saliency_guard.settings import Settings
from saliency_guard.signals import SIGNALS

_OF_EVERY_TOKEN = ("saliency", "logprob")
_WITH_HISTORY = ("saliency", "saliency_ratio")

Bound = Annotated[float, Field(allow_inf_nan=False)]


class SignalRule(Settings):
    """Refuses an answer whose tokens have too low or too high a value of one raw signal, or one that is no number.

    ``SignalRule("saliency_ratio", below=0.6)`` is the paper's criterion: a token below 0.6 of the recent mean (Eq. 7).
    Which direction of a signal is bad differs between models; nothing here is calibrated.

    Attributes:
        signal: name of a signal (see `saliency_guard.signals`), or ``"logprob"``; the only positional argument.
        below: a token is bad below this.
        above: a token is bad above this.
        share: the answer is refused if more than this share of the tokens that have the signal is bad.
        tokens: which tokens count.
    """

    signal: str
    below: Bound | None = None
    above: Bound | None = None
    share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    tokens: TokenFilter = TokenFilter()

    def __init__(self, signal: str | None = None, /, **values: object) -> None:
        if signal is not None and "signal" in values:
            msg = f"SignalRule: two signals are given, {signal!r} and {values['signal']!r}: make a rule of each"
            raise ConfigError(msg)
        super().__init__(**({} if signal is None else {"signal": signal}), **values)

    @model_validator(mode="after")
    def _check(self) -> SignalRule:
        if self.signal not in (*SIGNALS, *_OF_EVERY_TOKEN):
            msg = f"there is no signal {self.signal!r}; there are: {', '.join((*SIGNALS, 'logprob'))}"
            raise ValueError(msg)
        if self.below is None and self.above is None:
            msg = "say what is bad: below=... or above=..."
            raise ValueError(msg)
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """Signals that answers have to be generated or scored with."""
        return () if self.signal in _OF_EVERY_TOKEN else (self.signal,)

    def refusal(self, answer: GroundedAnswer) -> str | None:
        """Why the rule refuses an answer; None where it does not.

        Raises:
            ConfigError: if the answer's tokens lack the signal.
        """
        counted = [answer.tokens[index] for index in self.tokens.counted([token.text for token in answer.tokens])]
        if not counted:
            return "nothing in the answer counts, so nothing says that it is grounded"
        values = [(token, self._value(token)) for token in counted]
        known = [(token, value) for token, value in values if value is not None]
        if any(value is None and not self._may_lack(token) for token, value in values):
            msg = (
                f"the answer has no signal {self.signal!r}: generate or score it with signals=[{self.signal!r}] (and "
                "with saliency=SaliencyConfig())"
            )
            raise ConfigError(msg)
        bad = [(token, value) for token, value in known if self._bad(value)]
        if len(bad) <= self.share * len(known):
            return None
        token, value = bad[0]
        # Its position and not its text: reasons are reported where a refused text must not be.
        named = f"{self.signal} of token {token.position} is {value:.3g}"
        if not math.isfinite(value):
            return f"{named}, which says nothing ({len(bad)} of {len(known)} tokens)"
        side = f"below {self.below}" if self.below is not None and value < self.below else f"above {self.above}"
        return f"{named}, {side} ({len(bad)} of {len(known)} tokens)"

    def _may_lack(self, token: TokenGrounding) -> bool:
        """The first token has no generated token before it, and so no saliency."""
        return token.position == 0 and self.signal in _WITH_HISTORY

    def _bad(self, value: float) -> bool:
        if not math.isfinite(value):  # NaN is neither below nor above anything.
            return True
        return (self.below is not None and value < self.below) or (self.above is not None and value > self.above)

    def _value(self, token: TokenGrounding) -> float | None:
        value: float | None = (
            getattr(token, self.signal) if self.signal in _OF_EVERY_TOKEN else token.signals.get(self.signal)
        )
        return value
