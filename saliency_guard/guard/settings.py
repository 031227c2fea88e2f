"""The settings of a policy, and which of them fit together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from saliency_guard.answer import GroundedAnswer
from saliency_guard.calibration.calibrator import Calibrator
from saliency_guard.calibration.guarantee import RiskGuarantee
from saliency_guard.chat.template import Messages
from saliency_guard.claims.repair import RepairKind
from saliency_guard.guard.outcome import Attempt
from saliency_guard.guard.retry import Callback, RetryPlan, Stop, Wait
from saliency_guard.guard.rules import SignalRule
from saliency_guard.settings import OpenProbability, Seconds, Settings

Fallback = Callable[[Messages | None, tuple[Attempt, ...]], GroundedAnswer | str]


class PolicySettings(Settings):
    """What happens with an answer, depending on how well it is grounded.

    Retries end when any of ``max_retries``, ``deadline`` and ``stop`` ends them. ``fallback`` and tenacity's objects
    are code: they are not saved.

    Attributes:
        min_grounding: answers whose calibrated `GroundedAnswer.grounding` is below this are refused; None is for
            ``rules`` alone.
        rules: on raw signals; an answer that breaks one is refused.
        on_low: when every answer is refused: ``"flag"`` gives the best one out and says so, ``"repair"`` gives it out
            without the claims that do not hold, ``"fallback"`` calls ``fallback``, ``"raise"`` raises
            `LowGroundingError`.
        repair_risk: of a repair, as in `GroundedAnswer.repaired`; None leaves out claims below ``min_grounding``,
            without a guarantee.
        repair_kind: of the repair's risk.
        unscored: when no answer could be judged, because ``min_grounding`` needs a grounding and there is none:
            ``"flag"`` gives the answer out with the decision ``"unscored"`` and the reason, ``"pass"`` also lets
            callers go on (`GuardOutcome.passes`), ``"raise"`` raises `LowGroundingError`.
        max_retries: the most attempts after the first.
        retry: what a retry changes, and which of the answers is kept.
        fallback: called with the messages (None from `check`) and all attempts; returns an answer or a plain text. With
            ``on_low="repair"`` it is called where nothing is left of the answer.
        deadline: seconds for all attempts together; None is no limit.
        stop: tenacity's stop object, such as ``stop_when_event_set(event)``.
        wait: tenacity's wait object, such as ``wait_fixed(1)``: seconds before a retry.
        before: called by tenacity before each attempt, with its ``RetryCallState``.
        after: called after each attempt that another one may follow; ``state.outcome.result()`` is the `Attempt`.
        before_sleep: called before each retry.
        guarantee: what ``min_grounding`` guarantees, if `calibrated` chose it.
        calibrator: judges the answers; None leaves that to the `LVLM`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    min_grounding: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    rules: tuple[SignalRule, ...] = ()
    on_low: Literal["flag", "repair", "fallback", "raise"] = "flag"
    repair_risk: OpenProbability | None = None
    repair_kind: RepairKind = "any"
    unscored: Literal["flag", "pass", "raise"] = "flag"
    max_retries: Annotated[int, Field(ge=0)] = 0
    retry: RetryPlan = RetryPlan()
    fallback: Fallback | None = Field(default=None, exclude=True)
    deadline: Seconds | None = None
    stop: Stop | None = Field(default=None, exclude=True)
    wait: Wait | None = Field(default=None, exclude=True)
    before: Callback | None = Field(default=None, exclude=True)
    after: Callback | None = Field(default=None, exclude=True)
    before_sleep: Callback | None = Field(default=None, exclude=True)
    guarantee: RiskGuarantee | None = None
    calibrator: Calibrator | None = None

    @model_validator(mode="before")
    @classmethod
    def _require_current_names(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            if values.get("on_low") == "retry":
                msg = (
                    'on_low="retry" is no longer a value: write max_retries=2 (or another number), and on_low="flag", '
                    'or on_low="fallback" where there is a fallback'
                )
                raise ValueError(msg)
            if "promise" in values:
                msg = "the field promise is called guarantee: rename it"
                raise ValueError(msg)
        return values

    @model_validator(mode="after")
    def _check(self) -> PolicySettings:
        if self.min_grounding is None and not self.rules:
            msg = "a policy needs min_grounding or at least one rule"
            raise ValueError(msg)
        if self.on_low == "repair" and self.min_grounding is None:
            msg = 'on_low="repair" needs min_grounding: rules on raw signals say nothing about single claims'
            raise ValueError(msg)
        if self.repair_risk is not None and self.on_low != "repair":
            msg = f'on_low="{self.on_low}" repairs nothing: set on_low="repair", or leave repair_risk out'
            raise ValueError(msg)
        if self.fallback is not None and self.on_low not in {"fallback", "repair"}:
            msg = f'on_low="{self.on_low}" never calls the fallback: set on_low="fallback", or leave the fallback out'
            raise ValueError(msg)
        unused = [name for name in ("stop", "wait", "before_sleep") if getattr(self, name) is not None]
        if unused and not self.max_retries:
            msg = f"max_retries=0 makes no retries for {', '.join(unused)}: set max_retries to the most there may be"
            raise ValueError(msg)
        if self.max_retries and not self.retry.changes_something:
            msg = (
                f"max_retries={self.max_retries}, and the retry plan changes nothing: set new_seed, alpha_step, "
                "beta_step or name_spans"
            )
            raise ValueError(msg)
        if self.retry.again == "failed" and self.min_grounding is None:
            msg = 'retry.again="failed" needs min_grounding: rules on raw signals say nothing about single claims'
            raise ValueError(msg)
        if self.guarantee is not None:
            self._check_guarantee(self.guarantee)
        return self

    def lets_pass(self, decision: str, text: str) -> bool:
        """Whether callers may go on with a text as if it were accepted; see `GuardOutcome.passes`.

        Args:
            decision: of the policy.
            text: what it gives out.
        """
        return (
            decision in {"accepted", "not_applicable"}
            or (decision == "repaired" and bool(text))
            or (decision == "unscored" and self.unscored == "pass")
        )

    def _check_guarantee(self, guarantee: RiskGuarantee) -> None:
        if self.untested:
            names = ", ".join(self.untested)
            msg = f"the guarantee was not tested for a policy with {names}: leave them out, or the guarantee"
            raise ValueError(msg)
        if (self.max_retries, self.retry.keep) != (guarantee.max_retries, guarantee.keep):
            msg = (
                f"the guarantee is for max_retries={guarantee.max_retries} keeping the {guarantee.keep}, and says "
                f"nothing about max_retries={self.max_retries} keeping the {self.retry.keep}: use "
                "GuardPolicy.calibrated"
            )
            raise ValueError(msg)
        if self.min_grounding != guarantee.threshold:
            msg = f"the guarantee is for min_grounding={guarantee.threshold}, not {self.min_grounding}"
            raise ValueError(msg)

    def without_actions(self) -> Self:
        """The policy for a decision that is only reported: nothing is raised, repaired or answered in another way."""
        unscored = "flag" if self.unscored == "raise" else self.unscored
        return self.model_copy(update={"on_low": "flag", "unscored": unscored})

    @property
    def untested(self) -> list[str]:
        """Settings that no guarantee covers: records are not made with them."""
        used = {
            "rules": bool(self.rules),
            "deadline": self.deadline is not None,
            "stop": self.stop is not None,
            "retry.alpha_step": self.retry.alpha_step > 0,
            "retry.beta_step": self.retry.beta_step > 0,
            "retry.name_spans": self.retry.name_spans,
            'retry.again="failed"': self.retry.again == "failed",
        }
        return [name for name, is_used in used.items() if is_used]

    @property
    def signals(self) -> tuple[str, ...]:
        """Signals that the rules need."""
        return tuple(dict.fromkeys(name for rule in self.rules for name in rule.wanted))
