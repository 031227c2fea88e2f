"""Monitoring a risk guarantee in production: takes labelled feedback and raises an alarm when it no longer holds.

A test by betting (Waudby-Smith and Ramdas, arXiv 2010.09686): a gambler starts with a stake of 1 and bets on every
label that the risk is above the guaranteed one; the bets are fair if it is exactly that. While the guarantee holds, the
stake ever reaches 1 / level with probability at most ``level`` (Ville's inequality), however long the monitor runs. On
the same streams it detects a doubled risk in a fraction of the labels that a confidence sequence needs, and every label
costs the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from saliency_guard.settings import require_between

_PRIOR = 10.0
_BOLDEST = 0.5


@dataclass(slots=True)
class RiskMonitor:
    """A sequential test on labelled accepted answers, one answer per picture: labels have to be independent.

    Attributes:
        risk: the guaranteed risk: the largest share of accepted answers that are ungrounded.
        level: probability of a false alarm, ever, while the guarantee holds.
        seen: how many labels came in so far.
        ungrounded: how many of them were ungrounded.
        alarm: whether the guarantee no longer holds; once raised it stays.
    """

    risk: float
    level: float = 0.05
    seen: int = field(default=0, init=False)
    ungrounded: int = field(default=0, init=False)
    alarm: bool = field(default=False, init=False)
    _log_stake: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        """Check the settings."""
        require_between(risk=self.risk, level=self.level)

    def update(self, *, grounded: bool) -> bool:
        """Add the label of an accepted answer.

        Returns:
            Whether the alarm is raised.
        """
        # The bet must not depend on the label it is about.
        mean = (self.risk * _PRIOR + self.ungrounded) / (_PRIOR + self.seen)
        bet = min(max((mean - self.risk) / (mean * (1 - mean)), 0.0), _BOLDEST / self.risk)
        self._log_stake += math.log1p(bet * (float(not grounded) - self.risk))
        self.seen += 1
        self.ungrounded += not grounded
        self.alarm = self.alarm or self._log_stake >= -math.log(self.level)
        return self.alarm

    @property
    def observed(self) -> float | None:
        """The observed risk so far; None before the first label."""
        return self.ungrounded / self.seen if self.seen else None
