"""The one place where an answer ends: its tokens, what they rest on, and the calibrated probability of that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from saliency_guard.answer import GroundedAnswer, Step, TokenGrounding, Usage
from saliency_guard.calibration.calibrator import Calibrator, Judgement
from saliency_guard.calibration.features import features
from saliency_guard.chat.detokenize import EncodedText
from saliency_guard.decoding.batch_decoder import Row, decode_together
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.decoding.options import Deadline, GenerationPlan
from saliency_guard.decoding.writer import Writer
from saliency_guard.models.fork_safety import uninterrupted
from saliency_guard.models.prompt_cache import PromptCache
from saliency_guard.models.session import Session
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.saliency.scoring import SaliencyScores, score_together
from saliency_guard.saliency.shares import plain_shares
from saliency_guard.signals import compute
from saliency_guard.signals.trace import AnswerTrace, trace_answers


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that was read and is to be continued.

    Attributes:
        session: nobody else's.
        room: the most tokens of its answer.
    """

    session: Session
    room: int


@dataclass(frozen=True, slots=True)
class AnswerBuilder:
    """Writes and scores answers of one model.

    Attributes:
        model_id: what they are said to be by.
        prompts: where finished sessions are kept for what may be asked next.
        tokenizer: the model's.
        eos: ids that end an answer.
        calibrator: judges the answers; None leaves their grounding open.
        fits: whether the calibrator belongs to the model.
    """

    model_id: str
    prompts: PromptCache
    tokenizer: Any
    eos: frozenset[int]
    calibrator: Calibrator | None = None
    fits: bool = False

    def traces(self, saliency: SaliencyConfig | None, signals: Sequence[str]) -> bool:
        """Whether answers will be traced: then their prompts are read with the states at their pictures."""
        return bool(signals) or self._judges(saliency)

    def _judges(self, saliency: SaliencyConfig | None) -> bool:
        return self.calibrator is not None and saliency == self.calibrator.fingerprint.saliency

    def write(self, plan: GenerationPlan, prompt: Prompt, deadline: Deadline, *, live: bool) -> Iterator[Step]:
        """One answer, token by token, and the whole of it at last.

        Args:
            plan: how it is to be written.
            prompt: what it answers.
            deadline: of the call.
            live: whether tokens are given out with their scores as they are written; otherwise the finished answer is
                scored at once, which costs less.
        """
        decoder, writer = self._decoder(plan, prompt.session, live=live), self._writer(plan)
        for token in decoder.tokens(prompt.room):
            deadline.check()
            for ready in writer.push(token):
                yield Step(token=ready)
            if writer.complete:
                break
        for ready in writer.finish():
            yield Step(token=ready)
        yield Step(answer=self._written([plan], [prompt.session], [writer], scored=decoder.saliency is not None)[0])

    def write_together(
        self, plans: Sequence[GenerationPlan], prompts: Sequence[Prompt], deadline: Deadline
    ) -> list[GroundedAnswer]:
        """Several answers side by side, each as `write` writes it; arguments as there."""
        sessions = [prompt.session for prompt in prompts]
        rows = [
            Row(self._decoder(plan, prompt.session, live=False), prompt.room)
            for plan, prompt in zip(plans, prompts, strict=True)
        ]
        writers = [self._writer(plan) for plan in plans]
        for index, tokens in decode_together(rows):
            deadline.check()
            for token in tokens:
                if not writers[index].complete:
                    writers[index].push(token)
            rows[index].done = writers[index].complete
        for writer in writers:
            writer.finish()
        return self._written(plans, sessions, writers, scored=rows[0].decoder.saliency is not None)

    def _decoder(self, plan: GenerationPlan, session: Session, *, live: bool) -> Decoder:
        sgrs = plan.options["sgrs"]
        return Decoder(
            session=session,
            sgrs=sgrs,
            saliency=plan.options["saliency"] if live or sgrs is not None else None,
            processor=plan.processor(plan.schema_mask(self.tokenizer, self.eos, session.prompt_length)),
            seed=plan.seed,
            eos=self.eos,
            draft_length=None if plan.drafts_ahead else 1,
            keeps_states=sgrs is not None or not self.traces(plan.options["saliency"], plan.signals),
        )

    def _writer(self, plan: GenerationPlan) -> Writer:
        return Writer(self.tokenizer, self.eos, plan.stop)

    def _written(
        self, plans: Sequence[GenerationPlan], sessions: Sequence[Session], writers: Sequence[Writer], *, scored: bool
    ) -> list[GroundedAnswer]:
        """Answers that were just written, with the same options; their sessions are kept."""
        saliency, signals = plans[0].options["saliency"], plans[0].signals
        finished = [
            _Finished(session, writer.done, writer.reason) for session, writer in zip(sessions, writers, strict=True)
        ]
        guarded = plans[0].options["sgrs"] is not None
        return self._ended(finished, saliency, signals, scored=scored, guarded=guarded)

    def score(
        self,
        sessions: Sequence[Session],
        answers: Sequence[EncodedText],
        saliency: SaliencyConfig,
        signals: tuple[str, ...],
    ) -> list[GroundedAnswer]:
        """Answers that were there already, each after its own prompt; the sessions are kept."""
        finished = [
            _Finished(session, unscored_tokens(answer), "stop")
            for session, answer in zip(sessions, answers, strict=True)
        ]
        return self._ended(finished, saliency, signals, scored=False)

    @uninterrupted()
    def _ended(
        self,
        finished: Sequence[_Finished],
        saliency: SaliencyConfig | None,
        signals: tuple[str, ...],
        *,
        scored: bool,
        guarded: bool = False,
    ) -> list[GroundedAnswer]:
        """Answers, scored, judged and put together; one trace serves scores, signals and calibrator.

        Args:
            finished: what was written, or is to be scored.
            saliency: what to score; None scores nothing.
            signals: names of the signals that every token is to have.
            scored: whether the tokens have their scores.
            guarded: whether SGRS looked at these scores: then they stay as it saw them.
        """
        config = saliency or SaliencyConfig()
        written = [index for index, answer in enumerate(finished) if answer.tokens]
        judged = [index for index in written if self._counts(finished[index], saliency)]
        # The calibrator looks at an answer as the plain model sees it, so that it says the same however it was written.
        plain = [index for index in judged if finished[index].session.locore is None]
        traces = self._traced(finished, written if signals else plain, config)
        tokens = [list(answer.tokens) for answer in finished]
        if saliency is not None and not guarded:
            scores = {index: trace.scores for index, trace in traces.items()}
            if not scored:
                scores |= _scored(finished, [index for index in written if index not in traces], saliency)
            for index, values in scores.items():
                tokens[index] = with_scores(tokens[index], values)
        if signals:
            for index, trace in traces.items():
                tokens[index] = with_signals(tokens[index], compute(trace, signals))
        unseen = [index for index in judged if index not in plain]
        traces |= self._traced([answer.without_locore() for answer in finished], unseen, config)
        judgements = {index: self._judgement(finished[index], traces[index]) for index in judged}
        answers = [self._answer(answer, tokens[index], judgements.get(index)) for index, answer in enumerate(finished)]
        for answer in finished:
            self.prompts.keep(answer.session)  # From here on it is not this answer's alone.
        return answers

    def _counts(self, answer: _Finished, saliency: SaliencyConfig | None) -> bool:
        """Whether the calibrator has something to judge: it was fitted for this saliency, and there is a picture."""
        return self._judges(saliency) and bool(answer.tokens) and bool(answer.session.layout.visual_sources)

    def _traced(
        self, finished: Sequence[_Finished], chosen: Sequence[int], saliency: SaliencyConfig
    ) -> dict[int, AnswerTrace]:
        if not chosen:
            return {}
        sessions = [finished[index].session for index in chosen]
        for session in sessions:
            session.require_image_states()
        ids = [finished[index].ids for index in chosen]
        traces = trace_answers(sessions, ids, saliency, read=self.prompts.blank)
        return dict(zip(chosen, traces, strict=True))

    def _judgement(self, answer: _Finished, trace: AnswerTrace) -> Judgement:
        assert self.calibrator is not None  # noqa: S101 - only what it judges is traced for it
        pieces = [token.text for token in answer.tokens]
        if not self.calibrator.token_filter.counted(pieces):
            return Judgement(tokens={}, answer=None)
        groups = features(trace, self.calibrator.groups)
        return self.calibrator.judge(pieces, np.concatenate([groups[name] for name in self.calibrator.groups], axis=1))

    def _answer(
        self, finished: _Finished, tokens: Sequence[TokenGrounding], judgement: Judgement | None
    ) -> GroundedAnswer:
        prompt, unlocated = finished.session.prompt_length, finished.session.layout.unlocated
        if judgement is None:
            return unjudged_answer(tokens, finished.reason, prompt, self.model_id, unlocated)
        known = judgement.tokens
        grounded = [token.model_copy(update={"grounding": known.get(index)}) for index, token in enumerate(tokens)]
        answer = unjudged_answer(grounded, finished.reason, prompt, self.model_id, unlocated)
        return answer.model_copy(update={"grounding": judgement.answer, "calibrated": self.fits})


@dataclass(frozen=True, slots=True)
class _Finished:
    """An answer whose tokens are known.

    Attributes:
        session: its prompt.
        tokens: its tokens.
        reason: why there are no more.
    """

    session: Session
    tokens: Sequence[TokenGrounding]
    reason: Literal["stop", "length"]

    @property
    def ids(self) -> list[int]:
        return [token.token_id for token in self.tokens]

    def without_locore(self) -> _Finished:
        if self.session.locore is None:
            return self
        return _Finished(self.session.fork(locore=None, layout=self.session.layout), self.tokens, self.reason)


def _scored(
    finished: Sequence[_Finished], chosen: Sequence[int], saliency: SaliencyConfig
) -> dict[int, SaliencyScores]:
    if not chosen:
        return {}
    sessions = [finished[index].session for index in chosen]
    scores = score_together(sessions, [finished[index].ids for index in chosen], saliency)
    return dict(zip(chosen, scores, strict=True))


def unscored_tokens(answer: EncodedText) -> list[TokenGrounding]:
    """The tokens of a text that is to be scored."""
    pairs = zip(answer.ids, answer.pieces, strict=True)
    return [
        TokenGrounding(text=piece, token_id=token_id, position=index, logprob=0.0, saliency=None)
        for index, (token_id, piece) in enumerate(pairs)
    ]


def unjudged_answer(
    tokens: Sequence[TokenGrounding],
    reason: Literal["stop", "length"],
    prompt: int,
    model_id: str,
    unlocated: Sequence[tuple[str, str]] = (),
) -> GroundedAnswer:
    """An answer of its tokens, without a grounding.

    Args:
        tokens: in order.
        reason: why there are no more.
        prompt: positions of the prompt.
        model_id: who wrote or scored it.
        unlocated: as in `PromptLayout`.
    """
    return GroundedAnswer(
        text="".join(token.text for token in tokens),
        tokens=tuple(tokens),
        finish_reason=reason,
        usage=Usage(prompt_tokens=prompt, completion_tokens=len(tokens), total_tokens=prompt + len(tokens)),
        model_id=model_id,
        unlocated=dict(unlocated),
    )


def traced_answer(trace: AnswerTrace, answer: EncodedText, signals: Sequence[str], model_id: str) -> GroundedAnswer:
    """A traced answer with its scores and signals, without a grounding."""
    tokens = with_signals(with_scores(unscored_tokens(answer), trace.scores), compute(trace, signals))
    return unjudged_answer(tokens, "stop", trace.layout.length, model_id)


def with_scores(tokens: Sequence[TokenGrounding], scores: SaliencyScores) -> list[TokenGrounding]:
    """The tokens of an answer with their scores.

    Args:
        tokens: of an answer of N tokens.
        scores: ``[N]`` each.
    """
    saliencies, logprobs = scores.saliency.tolist(), scores.logprobs.tolist()
    shares = {name: values.tolist() for name, values in scores.shares.items()}
    return [
        token.model_copy(
            update={
                "logprob": logprobs[index],
                "saliency": None if index == 0 else saliencies[index],
                "shares": plain_shares({name: values[index] for name, values in shares.items()}),
            }
        )
        for index, token in enumerate(tokens)
    ]


def with_signals(tokens: Sequence[TokenGrounding], signals: Mapping[str, Tensor]) -> list[TokenGrounding]:
    """The tokens with what each signal says of them; one that says nothing (NaN, infinite) is left out."""
    values = {name: column.tolist() for name, column in signals.items()}
    return [
        token.model_copy(
            update={"signals": {name: row[index] for name, row in values.items() if math.isfinite(row[index])}}
        )
        for index, token in enumerate(tokens)
    ]
