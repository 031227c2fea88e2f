"""Answers put together: tokens, what they rest on, and the calibrated probability that they rest on the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from saliency_guard.answer import GroundedAnswer, Step, TokenGrounding
from saliency_guard.calibration.calibrator import Calibrator, Judgement
from saliency_guard.calibration.features import features
from saliency_guard.chat.detokenize import EncodedText
from saliency_guard.decoding.assembly import score_texts, whole_answer, with_groundings, with_signals
from saliency_guard.decoding.batch_decoder import Row, decode_together
from saliency_guard.decoding.plan import Plan
from saliency_guard.decoding.writer import Writer
from saliency_guard.models.prompt_cache import PromptCache
from saliency_guard.models.session import Session
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.signals import compute
from saliency_guard.signals.trace import trace_continuation


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

    def write(self, plan: Plan, session: Session, room: int, *, tokenizer: Any, eos: frozenset[int]) -> Iterator[Step]:
        """One answer, token by token, and the whole of it at last.

        Args:
            plan: how it is to be written.
            session: the prompt; nobody else's.
            room: the most tokens.
            tokenizer: reads them.
            eos: ids that end it.
        """
        decoder, writer = plan.decoder(session, eos), Writer(tokenizer, eos, plan.stops)
        for token in decoder.tokens(room):
            for ready in writer.push(token):
                yield Step(token=ready)
            if writer.complete:
                break
        for ready in writer.finish():
            yield Step(token=ready)
        yield Step(answer=self._written(plan, writer, session))

    def write_together(
        self,
        plans: Sequence[Plan],
        sessions: Sequence[Session],
        rooms: Sequence[int],
        *,
        tokenizer: Any,
        eos: frozenset[int],
    ) -> list[GroundedAnswer]:
        """Several answers side by side, each as `write` writes it; arguments as there."""
        given = list(zip(plans, sessions, rooms, strict=True))
        rows = [Row(plan.decoder(session, eos), room) for plan, session, room in given]
        writers = [Writer(tokenizer, eos, plan.stops) for plan in plans]
        for index, tokens in decode_together(rows):
            for token in tokens:
                if not writers[index].complete:
                    writers[index].push(token)
            rows[index].done = writers[index].complete
        answers: list[GroundedAnswer] = []
        for (plan, session, _), writer in zip(given, writers, strict=True):
            writer.finish()
            answers.append(self._written(plan, writer, session))
        return answers

    def _written(self, plan: Plan, writer: Writer, session: Session) -> GroundedAnswer:
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
