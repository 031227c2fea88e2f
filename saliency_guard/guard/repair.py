"""Repair of a refused answer by a policy: the answer without the claims that do not hold."""

from __future__ import annotations

from saliency_guard.answer import GroundedAnswer, RepairedAnswer
from saliency_guard.errors import UnjudgedError
from saliency_guard.guard.settings import PolicySettings

_NONE_BELOW = "the answer as a whole was refused, and no claim of it is below the threshold: nothing was left out"
_NOTHING_LEFT = "no claim of the answer holds, so nothing is left of it"


def repair(policy: PolicySettings, answer: GroundedAnswer) -> tuple[RepairedAnswer | None, str | None]:
    """Repair an answer by the policy's risk, or by its threshold.

    Args:
        policy: with ``on_low="repair"``.
        answer: that was refused.

    Returns:
        The repaired answer, and the reason if nothing is left of it; None and the reason if it cannot be repaired.

    Raises:
        ConfigError: if the calibration does not guarantee the policy's risk.
    """
    try:
        if policy.repair_risk is not None:
            repaired = answer.repaired(risk=policy.repair_risk, kind=policy.repair_kind)
        else:
            repaired = answer.repaired(threshold=policy.min_grounding)
    except UnjudgedError as error:
        return None, str(error)
    if policy.repair_risk is None and not repaired.dropped:
        return None, _NONE_BELOW
    return repaired, None if repaired.text else _NOTHING_LEFT
