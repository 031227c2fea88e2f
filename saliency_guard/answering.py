"""Answers put together: tokens, what they rest on, and the calibrated probability that they rest on the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from saliency_guard.assembly import score_texts, whole_answer, with_groundings, with_signals
from saliency_guard.calibration import Calibrator, Judgement
from saliency_guard.features import features
from saliency_guard.grounding import GroundedAnswer, TokenGrounding
from saliency_guard.planning import Plan
from saliency_guard.prompts import PromptCache
from saliency_guard.saliency import SaliencyConfig
from saliency_guard.session import Session
from saliency_guard.signals import compute
from saliency_guard.text import EncodedText
from saliency_guard.trace import trace_continuation
from saliency_guard.writing import Writer


@dataclass(frozen=True, slots=True)
class AnswerMaker:
    """Makes answers of what one model wrote or scored.

    Attributes:
        model_id: what they are said to be by.
        prompts: where finished sessions are kept for what may be asked next.
        calibrator: judges them; None leaves their grounding open.
        fits: whether the calibrator belongs to the model.
    """

    model_id: str
    prompts: PromptCache
    calibrator: Calibrator | None = None
    fits: bool = False

    def written(self, plan: Plan, writer: Writer, session: Session) -> GroundedAnswer:
        """The answer that was just written; its session is kept."""
        tokens = writer.done
        if plan.signals and tokens:
            ids = [token.token_id for token in tokens]
            trace = trace_continuation(session, ids, plan.saliency or SaliencyConfig())
            tokens = with_signals(tokens, compute(trace, plan.signals))
        answer = self._answer(tokens, writer.reason, session, plan.saliency)
        self.prompts.keep(session)  # From here on it is not this answer's alone.
        return answer

    def scored(
        self,
        sessions: Sequence[Session],
        answers: Sequence[EncodedText],
        saliency: SaliencyConfig,
        names: tuple[str, ...],
    ) -> list[GroundedAnswer]:
        """Answers that were there already, each after its own prompt; the sessions are kept."""
        results = score_texts(sessions, answers, saliency, names)
        scored = [
            self._answer(tokens, "stop", session, saliency) for tokens, session in zip(results, sessions, strict=True)
        ]
        for session in sessions:
            self.prompts.keep(session)
        return scored

    def _answer(
        self,
        tokens: Sequence[TokenGrounding],
        reason: Literal["stop", "length"],
        session: Session,
        saliency: SaliencyConfig | None,
    ) -> GroundedAnswer:
        judged = self._judged(tokens, session, saliency)
        grounded = with_groundings(tokens, judged.tokens) if judged is not None else tokens
        plain = whole_answer(grounded, reason, session.prompt_length, self.model_id)
        if judged is None:
            return plain
        return plain.model_copy(update={"grounding": judged.answer, "calibrated": self.fits})

    def _judged(
        self, tokens: Sequence[TokenGrounding], session: Session, saliency: SaliencyConfig | None
    ) -> Judgement | None:
        """What the calibrator says; None where there is none for this way of looking, and where there is no picture.

        It always looks at an answer as the plain model sees it, so that it says the same however it was written.
        """
        calibrator = self.calibrator
        if calibrator is None or saliency != calibrator.fingerprint.saliency or not session.layout.visual_sources:
            return None
        pieces = [token.text for token in tokens]
        if not calibrator.token_filter.counted(pieces):
            return Judgement(tokens={}, answer=None)
        plain = session if session.locore is None else session.fork(locore=None, layout=session.layout)
        trace = trace_continuation(plain, [token.token_id for token in tokens], saliency)
        found = features(trace, calibrator.groups)
        return calibrator.judge(pieces, np.concatenate([found[name] for name in calibrator.groups], axis=1))
