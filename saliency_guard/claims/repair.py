"""What a repair guarantees: thresholds on the probability of single claims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from saliency_guard.errors import ConfigError
from saliency_guard.settings import Frozen, OpenProbability, Probability

RepairKind = Literal["any", "fraction", "fraction_above"]
REPAIR_KINDS: tuple[RepairKind, ...] = ("any", "fraction", "fraction_above")


class RepairGuarantee(Frozen):
    """A threshold on `Claim.grounding`, and the risk that holds for answers without the claims below it.

    With probability ``confidence`` (over the draw of the records) the risk is at most ``risk``, for answers like those
    of the records.

    Attributes:
        kind: the risk: that ``"any"`` wrong claim is kept, the expected ``"fraction"`` of wrong claims among those
            kept, or that this fraction is above ``limit`` (``"fraction_above"``).
        risk: the largest that is guaranteed.
        confidence: the probability that the guarantee holds.
        limit: of the fraction; None for other kinds.
        threshold: claims below it are left out.
        units: how many answers it was tested on.
        observed: the risk on them.
        true_kept: the part of the true claims that is kept.
        emptied: the part of the answers of which nothing is left.
    """

    kind: RepairKind
    risk: OpenProbability
    confidence: OpenProbability
    limit: Probability | None = None
    threshold: Probability
    units: Annotated[int, Field(ge=1)]
    observed: Probability
    true_kept: Probability
    emptied: Probability


def guarantee_for(guarantees: Sequence[RepairGuarantee], risk: float, kind: RepairKind) -> RepairGuarantee:
    """The guarantee of a kind with the largest risk that is at most ``risk``.

    Raises:
        ConfigError: if there is none.
    """
    if kind not in REPAIR_KINDS:
        msg = f"kind={kind!r}: choose {', '.join(REPAIR_KINDS)}"
        raise ConfigError(msg)
    fitting = [each for each in guarantees if each.kind == kind and each.risk <= risk]
    if not fitting:
        known = sorted(each.risk for each in guarantees if each.kind == kind)
        have = f"the lowest risk that its records guarantee is {known[0]}" if known else "it has none of this kind"
        msg = f"the calibration has no repair with risk={risk} of kind {kind!r}: {have}"
        raise ConfigError(msg)
    return max(fitting, key=lambda guarantee: guarantee.risk)
