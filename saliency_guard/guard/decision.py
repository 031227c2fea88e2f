"""Decisions: whether an answer is good enough, and what to give out."""

from __future__ import annotations

from collections.abc import Sequence

from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.guarantee import Keep, RiskGuarantee
from saliency_guard.chat.template import Messages
from saliency_guard.errors import ConfigError
from saliency_guard.guard.outcome import Attempt, Decision, GuardOutcome, LowGroundingError
from saliency_guard.guard.repair import repair
from saliency_guard.guard.settings import PolicySettings

_NO_FALLBACK = 'on_low="fallback" needs fallback=..., a function that takes the messages and the attempts'
NO_GROUNDING = "the answer has no calibrated grounding"
NO_ARGUMENTS = "a tool call without arguments claims nothing"


def judge(policy: PolicySettings, answer: GroundedAnswer, change: str = "") -> Attempt:
    """An answer as an attempt: accepted, refused, or without a grounding to judge it by.

    Args:
        policy: its threshold and rules.
        answer: scored by a model that the policy's calibrator, or its own, fits.
        change: how it differs from the first attempt, in words.

    Raises:
        ConfigError: if it has not been given a signal that a rule needs.
    """
    refused = _refusal(policy, answer)
    missing = refused is None and policy.min_grounding is not None and answer.grounding is None
    reason = (answer.grounding_reason or NO_GROUNDING) if missing else None
    return Attempt(answer=answer, score=answer.grounding, refused=refused, reason=reason, change=change)


def _refusal(policy: PolicySettings, answer: GroundedAnswer) -> str | None:
    if policy.min_grounding is not None and answer.grounding is not None:
        if not 0.0 <= answer.grounding <= 1.0:  # NaN is below nothing.
            return f"grounding {answer.grounding} is no probability, so nothing says that it is grounded"
        if answer.grounding < policy.min_grounding:
            return f"grounding {answer.grounding:.3f} is below {policy.min_grounding:.3f}"
    if policy.min_grounding is not None and answer.grounding is None:
        # The whole is not likelier than its least likely claim, whatever else nobody could judge.
        low = low_claim(answer, policy.min_grounding)
        if low is not None:
            return low
    return next((reason for rule in policy.rules if (reason := rule.refusal(answer)) is not None), None)


def low_claim(answer: GroundedAnswer, threshold: float) -> str | None:
    """What is wrong with the first claim whose grounding is below a threshold; None where there is none.

    It is named by its characters and not by its text: reasons are reported where a refused text must not be.
    """
    for claim in answer.claims:
        if claim.grounding is not None and not claim.grounding >= threshold:  # NaN is low, too.
            start, stop = claim.span
            return (
                f"the claim at characters {start} to {stop} has grounding {claim.grounding:.3f}, below {threshold:.3f}"
            )
    return None


def decide(
    policy: PolicySettings,
    attempts: tuple[Attempt, ...],
    messages: Messages | None = None,
    *,
    guarantee: RiskGuarantee | None = None,
    chosen: Attempt | None = None,
) -> GuardOutcome:
    """Decide on attempts.

    Args:
        policy: what happens with refused and unscored answers.
        attempts: in order.
        messages: what they answer, for the fallback.
        guarantee: that covers attempts made like these.
        chosen: the attempt to decide for; None is `best_attempt`.

    Raises:
        LowGroundingError: with ``on_low="raise"``, if it is refused; with ``unscored="raise"``, if it could not be
            judged.
        ConfigError: if a fallback is wanted and there is none, or it gives no answer; if a repair is wanted with a risk
            that the calibration does not guarantee.
    """
    chosen = chosen or best_attempt(attempts, policy.retry.keep)
    low, unscored = chosen.refused is not None, chosen.reason is not None
    if (low and policy.on_low == "raise") or (unscored and policy.unscored == "raise"):
        raise LowGroundingError(chosen.answer, chosen.score, policy.min_grounding, attempts)
    decision: Decision = "flagged" if low else "unscored" if unscored else "accepted"
    answer: GroundedAnswer | None = chosen.answer
    text = chosen.answer.text
    reason, repaired = chosen.reason, None
    if low and policy.on_low == "repair":
        repaired, reason = repair(policy, chosen.answer)
        if repaired is not None:
            decision, text = "repaired", repaired.text
    without = low and repaired is not None and not repaired.text and policy.fallback is not None
    if without or (low and policy.on_low == "fallback"):
        repaired, reason = None, None
        given = _fallback_answer(policy, messages, attempts)
        decision = "fallback"
        answer = given if isinstance(given, GroundedAnswer) else None
        text = given.text if isinstance(given, GroundedAnswer) else given
    return GuardOutcome(
        answer=answer,
        text=text,
        decision=decision,
        attempts=attempts,
        threshold=policy.min_grounding,
        calibrated=policy.min_grounding is not None and all(attempt.answer.calibrated for attempt in attempts),
        reason=reason,
        passes=policy.lets_pass(decision, text),
        repaired=repaired,
        guarantee=guarantee,
    )


def not_applicable(
    text: str, reason: str, policy: PolicySettings, answer: GroundedAnswer | None = None
) -> GuardOutcome:
    """The outcome of an answer that there is nothing to judge about: it passes, and says so.

    Args:
        text: of the answer.
        reason: why there is nothing.
        policy: whose outcome it is.
        answer: with its tokens, where they are known.
    """
    return GuardOutcome(
        answer=answer,
        text=text,
        decision="not_applicable",
        attempts=(),
        threshold=policy.min_grounding,
        calibrated=False,
        reason=reason,
        passes=True,
    )


def _fallback_answer(
    policy: PolicySettings, messages: Messages | None, attempts: tuple[Attempt, ...]
) -> GroundedAnswer | str:
    if policy.fallback is None:
        raise ConfigError(_NO_FALLBACK)
    given = policy.fallback(messages, attempts)
    if not isinstance(given, (GroundedAnswer, str)):
        msg = f"the fallback returned {given!r}: it has to return a text or a GroundedAnswer"
        raise ConfigError(msg)
    return given


def best_attempt(attempts: Sequence[Attempt], keep: Keep) -> Attempt:
    """The attempt to give out: the first (or best) accepted one, else the best refused one, else the first."""
    accepted = [attempt for attempt in attempts if attempt.accepted]
    if accepted and keep == "first":
        return accepted[0]
    refused = [attempt for attempt in attempts if attempt.refused is not None]
    return max(accepted or refused or attempts, key=_rank)


def _rank(attempt: Attempt) -> float:
    """What is no probability comes last."""
    return attempt.score if attempt.score is not None and 0.0 <= attempt.score <= 1.0 else -1.0
