"""What a policy decided, and the attempts it decided on."""

from __future__ import annotations

from typing import Literal

from saliency_guard.answer import GroundedAnswer, RepairedAnswer, Usage
from saliency_guard.answer_view import AnswerView
from saliency_guard.calibration.guarantee import RiskGuarantee
from saliency_guard.errors import SaliencyGuardError
from saliency_guard.report.page.content import AttemptContent, PageContent
from saliency_guard.settings import Frozen

Decision = Literal["accepted", "flagged", "repaired", "fallback", "unscored", "not_applicable"]


class Attempt(Frozen):
    """One answer, judged by a policy.

    Attributes:
        answer: the answer.
        score: its calibrated grounding; None where it has none.
        refused: why it was refused; None where it was not.
        reason: why it could not be judged: the policy needs a grounding, and the answer has none; None where it could.
        change: how it differs from the first attempt, in words.
    """

    answer: GroundedAnswer
    score: float | None
    refused: str | None
    reason: str | None = None
    change: str = ""

    @property
    def accepted(self) -> bool:
        """Whether it was judged and is good enough."""
        return self.problem is None

    @property
    def verdict(self) -> Literal["accepted", "refused", "unscored"]:
        """What the policy said of it."""
        return "accepted" if self.accepted else "refused" if self.refused is not None else "unscored"

    @property
    def problem(self) -> str | None:
        """Why it is not accepted: ``refused`` or ``reason``; None where it is."""
        return self.refused if self.refused is not None else self.reason


EMPTY_ANSWER = Attempt(
    answer=GroundedAnswer(
        text="",
        tokens=(),
        finish_reason="stop",
        usage=Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0),
        model_id="",
    ),
    score=None,
    refused="the answer is empty",
)
"""The attempt that an empty answer is: it has nothing to score, and it is refused."""


class GuardOutcome(Frozen):
    """What a policy decided.

    Attributes:
        answer: the answer it decided for; None where a fallback gave a plain text.
        text: what to show.
        decision: ``"accepted"``, ``"flagged"`` (given out, but badly grounded), ``"repaired"`` (given out without the
            claims that do not hold; `text` is empty where none does), ``"fallback"``, ``"unscored"`` (given out, but
            it could not be judged) or ``"not_applicable"`` (there was nothing to judge: a turn about no picture).
        attempts: every answer that was judged, in order.
        threshold: on the score; None where only rules on raw signals decide.
        calibrated: whether a calibration that fits the model stands behind the score.
        reason: why the answer could not be judged, or nothing was left of it; None otherwise.
        passes: whether callers may go on with the text as if it were accepted: it is, something is left of a repaired
            one, or it is unscored under a policy with ``unscored="pass"``.
        repaired: what was left of a repaired answer, and what was not; None for other decisions.
        guarantee: what holds for accepted answers, if the threshold was chosen for that.
    """

    answer: GroundedAnswer | None
    text: str
    decision: Decision
    attempts: tuple[Attempt, ...]
    threshold: float | None
    calibrated: bool
    reason: str | None = None
    passes: bool = False
    repaired: RepairedAnswer | None = None
    guarantee: RiskGuarantee | None = None

    @property
    def accepted(self) -> bool:
        """Whether an answer was judged and is good enough."""
        return self.decision == "accepted"

    @property
    def chosen(self) -> int | None:
        """Number of the attempt decided for; None for a fallback's."""
        return next((number for number, attempt in enumerate(self.attempts) if attempt.answer is self.answer), None)

    @property
    def score(self) -> float | None:
        """The calibrated grounding of the answer decided for; None for a fallback's."""
        return self.answer.grounding if self.answer is not None else None

    def to_html(self) -> str:
        """A page about what the policy decided: the answer, all attempts side by side, and what a repair left.

        Texts of refused attempts are on it: it is for whoever looks at what happened, not for the chain's user.
        """
        from saliency_guard.report.page.render import page  # noqa: PLC0415 - most outcomes are on no page

        given: str | None = None
        if self.answer is not None:
            answer = self.answer
        elif self.attempts:
            answer, given = self.attempts[-1].answer, self.text
        else:  # There was nothing to judge, and its tokens are not known.
            answer = EMPTY_ANSWER.answer.model_copy(update={"text": self.text, "grounding_reason": self.reason})
        return page(
            PageContent(
                answer.to_dict(),
                answer.view or AnswerView(),
                self.threshold,
                self.decision,
                tuple(
                    _attempt_content(number, attempt, is_shown=attempt.answer is answer and len(self.attempts) > 1)
                    for number, attempt in enumerate(self.attempts)
                ),
                self.repaired.page_content() if self.repaired is not None else None,
                given,
            )
        )

    def replacement(self, judged: str) -> str | None:
        """The text that is given out instead of the one that was judged; None where it is that one.

        Args:
            judged: the text of the answer that was decided for.
        """
        is_same = self.decision == "not_applicable" or (self.chosen is not None and self.text == judged)
        return None if is_same else self.text


def _attempt_content(number: int, attempt: Attempt, *, is_shown: bool) -> AttemptContent:
    return AttemptContent(
        f"Attempt {number + 1}{', shown above' if is_shown else ''}",
        attempt.answer.text,
        attempt.verdict,
        attempt.score,
        attempt.problem or "",
        attempt.change,
    )


class LowGroundingError(SaliencyGuardError):
    """No answer was grounded well enough, or none could be judged.

    Attributes:
        answer: the best there was.
        score: its calibrated grounding; None where it has none.
        threshold: what it should have reached; None where only rules on raw signals decide.
        attempts: every answer that was judged, in order.
    """

    def __init__(
        self, answer: GroundedAnswer, score: float | None, threshold: float | None, attempts: tuple[Attempt, ...]
    ) -> None:
        reasons = "; ".join(attempt.problem or "good enough" for attempt in attempts)
        refused = any(attempt.refused is not None for attempt in attempts)
        what = "no answer is grounded well enough" if refused else "no answer could be judged"
        super().__init__(f"{what} after {len(attempts)} attempt(s): {reasons}")
        self.answer = answer
        self.score = score
        self.threshold = threshold
        self.attempts = attempts
