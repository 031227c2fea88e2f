"""What a policy considered, and what it decided."""

from __future__ import annotations

from typing import Literal

from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.guarantee import Promise
from saliency_guard.errors import SaliencyGuardError
from saliency_guard.settings import Frozen

Decision = Literal["accepted", "flagged", "fallback"]


class Attempt(Frozen):
    """One answer that was considered.

    Attributes:
        answer: the answer.
        score: its calibrated grounding; None where nothing calibrated it.
        refused: why it was refused; None where it was good enough.
        change: what was other than in the first attempt, in words.
    """

    answer: GroundedAnswer
    score: float | None
    refused: str | None
    change: str = ""


class GuardOutcome(Frozen):
    """What a policy decided.

    Attributes:
        answer: the answer it decided for; None where a fallback gave a plain text.
        text: what to show.
        decision: ``"accepted"``, ``"flagged"`` (given out, but badly grounded) or ``"fallback"``.
        attempts: every answer that was considered, in order.
        threshold: on the score; None where only rules on raw signals decide.
        calibrated: whether a calibration that fits the model stands behind the score.
        promise: what holds for accepted answers, if the threshold was chosen for that.
    """

    answer: GroundedAnswer | None
    text: str
    decision: Decision
    attempts: tuple[Attempt, ...]
    threshold: float | None
    calibrated: bool
    promise: Promise | None = None

    @property
    def accepted(self) -> bool:
        """Whether an answer was good enough."""
        return self.decision == "accepted"

    @property
    def chosen(self) -> int | None:
        """Number of the attempt decided for; None for a fallback's."""
        return next((number for number, one in enumerate(self.attempts) if one.answer is self.answer), None)

    @property
    def score(self) -> float | None:
        """The calibrated grounding of the answer decided for; None for a fallback's."""
        return self.answer.grounding if self.answer is not None else None


class LowGroundingError(SaliencyGuardError):
    """No answer was grounded well enough.

    Attributes:
        answer: the best there was.
        score: its calibrated grounding; None where nothing calibrated it.
        threshold: what it should have reached; None where only rules on raw signals decide.
        attempts: every answer that was considered, in order.
    """

    def __init__(
        self, answer: GroundedAnswer, score: float | None, threshold: float | None, attempts: tuple[Attempt, ...]
    ) -> None:
        reasons = "; ".join(attempt.refused or "good enough" for attempt in attempts)
        super().__init__(f"no answer is grounded well enough after {len(attempts)} attempt(s): {reasons}")
        self.answer = answer
        self.score = score
        self.threshold = threshold
        self.attempts = attempts
