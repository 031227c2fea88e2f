"""Watching a promise in production: labelled feedback comes in one by one, and an alarm says when it no longer holds.

A test by betting (Waudby-Smith and Ramdas, arXiv 2010.09686): a gambler who starts with 1 bets on every label that the
risk is above the promised one, fairly if it is just that. If the promise holds, the stake ever reaches 1 / level with
probability at most ``level`` (Ville), however long one watches. On the same streams it finds a doubled risk in a
fraction of the labels that a confidence sequence needs, and costs the same for the last label as for the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from saliency_guard.errors import ConfigError

_PRIOR = 10.0
_BOLDEST = 0.5


@dataclass(slots=True)
class RiskMonitor:
    """A sequential watch on labelled feedback of accepted answers, one answer a picture: labels have to be independent.

    Attributes:
        risk: what was promised: at most this part of accepted answers is ungrounded.
        level: probability of a false alarm, ever, while the promise holds.
        seen: labels so far.
        ungrounded: of those.
        alarm: whether the promise no longer holds; stays once raised.
    """

    risk: float
    level: float = 0.05
    seen: int = field(default=0, init=False)
    ungrounded: int = field(default=0, init=False)
    alarm: bool = field(default=False, init=False)
    _log_stake: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("risk", "level"):
            if not 0.0 < getattr(self, name) < 1.0:
                msg = f"RiskMonitor: {name}={getattr(self, name)} is not between 0 and 1"
                raise ConfigError(msg)

    def update(self, *, grounded: bool) -> bool:
        """Take one label of an accepted answer.

        Returns:
            Whether the alarm is on.
        """
        # The bet is made before the label is looked at.
        mean = (self.risk * _PRIOR + self.ungrounded) / (_PRIOR + self.seen)
        bet = min(max((mean - self.risk) / (mean * (1 - mean)), 0.0), _BOLDEST / self.risk)
        self._log_stake += math.log1p(bet * (float(not grounded) - self.risk))
        self.seen += 1
        self.ungrounded += not grounded
        self.alarm = self.alarm or self._log_stake >= -math.log(self.level)
        return self.alarm

    @property
    def observed(self) -> float | None:
        """The risk seen so far; None before the first label."""
        return self.ungrounded / self.seen if self.seen else None
