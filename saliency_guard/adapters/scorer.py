"""Scores answers of any model with a local one."""

from __future__ import annotations

import asyncio

from saliency_guard.adapters.settings import ServedLVLM
from saliency_guard.answer import GroundedAnswer
from saliency_guard.chat.detokenize import AnswerText
from saliency_guard.chat.fetch import Fetch
from saliency_guard.chat.template import Messages, PreparedPrompt
from saliency_guard.embedded import EMBEDDED
from saliency_guard.guard.fields import JudgedText
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.lvlm import LVLM
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.signals.verification import VerifyConfig

ScorerModel = ServedLVLM | LVLM | str
"""What a scorer may be made of: settings of a model, a loaded `LVLM`, or the name of a model."""


class LocalScorer:
    """Scores answers of any model with a local one, as a policy needs them.

    Args:
        model: settings of a model, a loaded `LVLM`, or the name of a model.
    """

    def __init__(self, model: ScorerModel = EMBEDDED) -> None:
        self._model = ServedLVLM(model=model) if isinstance(model, str) else model

    @property
    def lvlm(self) -> LVLM:
        """The loaded model."""
        return self._model if isinstance(self._model, LVLM) else self._model.engine()

    @property
    def fetch_image(self) -> Fetch | None:
        """Gets the bytes behind a URL; None refuses URLs."""
        return None if isinstance(self._model, LVLM) else self._model.fetch_image

    def lvlm_for(self, policy: GuardPolicy | None) -> LVLM:
        """The loaded model, with the policy's calibrator where it has one.

        Raises:
            ConfigError: if the policy has a ``min_grounding`` and there is no calibrator.
        """
        if policy is None:
            return self.lvlm
        scorer = self.lvlm if policy.calibrator is None else self.lvlm.with_calibrator(policy.calibrator)
        policy.require_calibrator(scorer, fitted_saliency(scorer))
        return scorer

    def prepare(self, messages: Messages) -> PreparedPrompt:
        """Messages with their pictures loaded and the chat template applied: to be scored several times.

        Raises:
            InputError: of the kinds that `LVLM.prepare` names.
        """
        return self.lvlm.prepare(messages)

    def score(
        self,
        messages: Messages | PreparedPrompt,
        text: AnswerText | JudgedText,
        policy: GuardPolicy | None = None,
        *,
        verify: VerifyConfig | None = None,
    ) -> GroundedAnswer:
        """What a text rests on, scored as the calibrator was fitted.

        Args:
            messages: what it answers, as for `LVLM.score`.
            text: the answer, or its token ids; or a text with fields.
            policy: its calibrator judges the answer, and its rules say which signals to compute; None is the model's
                calibrator and no signals.
            verify: how claims are verified; None is as the calibrator has it.
        """
        lvlm = self.lvlm_for(policy)
        given = text.text if isinstance(text, JudgedText) else text
        scored = lvlm.score(messages, given, saliency=fitted_saliency(lvlm), signals=_signals(policy), verify=verify)
        return text.checked(scored) if isinstance(text, JudgedText) else scored

    async def ascore(
        self, messages: Messages | PreparedPrompt, text: AnswerText | JudgedText, policy: GuardPolicy | None = None
    ) -> GroundedAnswer:
        """`score` in a worker thread; cancelling the task stops it between two passes."""
        lvlm = await asyncio.to_thread(self.lvlm_for, policy)  # It may have to be loaded.
        given = text.text if isinstance(text, JudgedText) else text
        scored = await lvlm.ascore(messages, given, saliency=fitted_saliency(lvlm), signals=_signals(policy))
        return text.checked(scored) if isinstance(text, JudgedText) else scored

    def write(
        self, messages: Messages | PreparedPrompt, policy: GuardPolicy | None = None, *, max_new_tokens: int
    ) -> GroundedAnswer:
        """An answer that the scorer's model writes itself, without SGRS and LocoRE."""
        lvlm = self.lvlm_for(policy)
        return lvlm.generate(
            messages, max_new_tokens=max_new_tokens, saliency=fitted_saliency(lvlm), signals=_signals(policy)
        )


def _signals(policy: GuardPolicy | None) -> tuple[str, ...]:
    return () if policy is None else policy.signals


def fitted_saliency(lvlm: LVLM) -> SaliencyConfig:
    """The saliency settings that a model's calibrator was fitted with; the defaults where it has none.

    Answers that are scored otherwise get no grounding.
    """
    return SaliencyConfig() if lvlm.calibrator is None else lvlm.calibrator.fingerprint.saliency
