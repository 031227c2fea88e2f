"""The one place where an answer ends: its tokens, what they rest on, and the calibrated probability of that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from saliency_guard.answer import GroundedAnswer, Step, TokenGrounding, Usage
from saliency_guard.calibration.calibrator import Calibrator
from saliency_guard.chat.detokenize import EncodedText
from saliency_guard.chat.messages import Conversation
from saliency_guard.chat.template import PromptReader
from saliency_guard.claim_judge import EMPTY, NO_CALIBRATION, NO_PICTURE, OTHER_SALIENCY, ClaimJudge, JudgedAnswer
from saliency_guard.decoding.batch_decoder import Row, decode_together
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.decoding.options import Deadline, GenerationPlan, ScoringPlan
from saliency_guard.decoding.writer import Writer
from saliency_guard.models.fork_safety import uninterrupted
from saliency_guard.models.prompt_cache import PromptCache
from saliency_guard.models.session import Session
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.saliency.scoring import SaliencyScores, score_together
from saliency_guard.saliency.shares import plain_shares
from saliency_guard.signals import compute
from saliency_guard.signals.trace import AnswerTrace, trace_answers
from saliency_guard.signals.verification import VerifyConfig


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that was read and is to be continued.

    Attributes:
        session: nobody else's.
        room: the most tokens of its answer.
        conversation: its messages; None where they are not known.
    """

    session: Session
    room: int
    conversation: Conversation | None = None


@dataclass(frozen=True, slots=True)
class AnswerBuilder:
    """Writes and scores answers of one model.

    Attributes:
        model_id: what they are said to be by.
        reader: of the model's prompts.
        prompts: where finished sessions are kept for what may be asked next.
        eos: ids that end an answer.
        calibrator: judges the answers; None leaves their grounding open.
        fits: whether the calibrator belongs to the model.
    """

    model_id: str
    reader: PromptReader
    prompts: PromptCache
    eos: frozenset[int]
    calibrator: Calibrator | None = None
    fits: bool = False

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.reader.tokenizer

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
        yield Step(answer=self._written([plan], [prompt], [writer], scored=decoder.saliency is not None)[0])

    def write_together(
        self, plans: Sequence[GenerationPlan], prompts: Sequence[Prompt], deadline: Deadline
    ) -> list[GroundedAnswer]:
        """Several answers side by side, each as `write` writes it; arguments as there."""
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
        return self._written(plans, prompts, writers, scored=rows[0].decoder.saliency is not None)

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
        self, plans: Sequence[GenerationPlan], prompts: Sequence[Prompt], writers: Sequence[Writer], *, scored: bool
    ) -> list[GroundedAnswer]:
        """Answers that were just written, with the same options; their sessions are kept."""
        options = plans[0].options
        finished = [
            _Finished(prompt.session, writer.done, writer.reason, prompt.conversation)
            for prompt, writer in zip(prompts, writers, strict=True)
        ]
        guarded = options["sgrs"] is not None
        wanted = _Wanted(options["saliency"], plans[0].signals, options["verify"])
        return self._ended(finished, wanted, scored=scored, guarded=guarded)

    def score(
        self, prompts: Sequence[Prompt], answers: Sequence[EncodedText], plan: ScoringPlan
    ) -> list[GroundedAnswer]:
        """Answers that were there already, each after its own prompt; the sessions are kept."""
        finished = [
            _Finished(prompt.session, unscored_tokens(answer), "stop", prompt.conversation)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return self._ended(finished, _Wanted(plan.saliency, plan.signals, plan.verify), scored=False)

    @uninterrupted()
    def _ended(
        self, finished: Sequence[_Finished], wanted: _Wanted, *, scored: bool, guarded: bool = False
    ) -> list[GroundedAnswer]:
        """Answers, scored, judged and put together; one trace serves scores, signals and calibrator.

        Args:
            finished: what was written, or is to be scored.
            wanted: what is to be known of every token.
            scored: whether the tokens have their scores.
            guarded: whether SGRS looked at these scores: then they stay as it saw them.
        """
        saliency, signals = wanted.saliency, wanted.signals
        config = saliency or SaliencyConfig()
        written = [index for index, answer in enumerate(finished) if answer.tokens]
        judged = [index for index in written if self._open_reason(finished[index], saliency) is None]
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
        judge = ClaimJudge(self.reader, self.calibrator, wanted.verify)
        answers = [
            self._answer(answer, tokens[index], self._judged(judge, answer, traces.get(index), saliency))
            for index, answer in enumerate(finished)
        ]
        for answer in finished:
            self.prompts.keep(answer.session)  # From here on it is not this answer's alone.
        return answers

    def _open_reason(self, answer: _Finished, saliency: SaliencyConfig | None) -> str | None:
        """Why an answer is not to be judged; None where it is."""
        if not answer.tokens:
            return EMPTY
        if self.calibrator is None:
            return NO_CALIBRATION
        if not self._judges(saliency):
            return OTHER_SALIENCY
        return None if answer.session.layout.visual_sources else NO_PICTURE

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

    def _judged(
        self, judge: ClaimJudge, answer: _Finished, trace: AnswerTrace | None, saliency: SaliencyConfig | None
    ) -> JudgedAnswer:
        reason = self._open_reason(answer, saliency)
        pieces = [token.text for token in answer.tokens]
        trace = trace if reason is None else None
        return judge.judge(pieces, answer.session, answer.conversation, trace, reason=reason)

    def _answer(self, finished: _Finished, tokens: Sequence[TokenGrounding], judged: JudgedAnswer) -> GroundedAnswer:
        prompt, unlocated = finished.session.prompt_length, finished.session.layout.unlocated
        answer = unjudged_answer(
            judged.with_groundings(tokens), finished.reason, prompt, self.model_id, unlocated, reason=judged.reason
        )
        known = judged.grounding is not None or any(claim.grounding is not None for claim in judged.claims)
        return answer.model_copy(
            update={
                "claims": judged.claims,
                "grounding": judged.grounding,
                "calibrated": self.fits and known,
                "domain": judged.domain,
                "repairs": self.calibrator.repairs if self.calibrator is not None else (),
            }
        )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be known of answers.

    Attributes:
        saliency: what to score; None scores nothing.
        signals: names of the signals that every token is to have.
        verify: how claims are verified; None leaves that to the calibrator.
    """

    saliency: SaliencyConfig | None
    signals: tuple[str, ...]
    verify: VerifyConfig | None


@dataclass(frozen=True, slots=True)
class _Finished:
    """An answer whose tokens are known.

    Attributes:
        session: its prompt.
        tokens: its tokens.
        reason: why there are no more.
        conversation: the messages of its prompt; None where they are not known.
    """

    session: Session
    tokens: Sequence[TokenGrounding]
    reason: Literal["stop", "length"]
    conversation: Conversation | None = None

    @property
    def ids(self) -> list[int]:
        return [token.token_id for token in self.tokens]

    def without_locore(self) -> _Finished:
        if self.session.locore is None:
            return self
        session = self.session.fork(locore=None, layout=self.session.layout)
        return replace(self, session=session)


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
    finish_reason: Literal["stop", "length"],
    prompt: int,
    model_id: str,
    unlocated: Sequence[tuple[str, str]] = (),
    *,
    reason: str | None,
) -> GroundedAnswer:
    """An answer of its tokens, without a grounding.

    Args:
        tokens: in order.
        finish_reason: why there are no more.
        prompt: positions of the prompt.
        model_id: who wrote or scored it.
        unlocated: as in `PromptLayout`.
        reason: why it has no grounding.
    """
    return GroundedAnswer(
        text="".join(token.text for token in tokens),
        tokens=tuple(tokens),
        finish_reason=finish_reason,
        usage=Usage(prompt_tokens=prompt, completion_tokens=len(tokens), total_tokens=prompt + len(tokens)),
        model_id=model_id,
        unlocated=dict(unlocated),
        grounding_reason=reason,
    )


def traced_answer(trace: AnswerTrace, answer: EncodedText, signals: Sequence[str], model_id: str) -> GroundedAnswer:
    """A traced answer with its scores and signals, without a grounding."""
    tokens = with_signals(with_scores(unscored_tokens(answer), trace.scores), compute(trace, signals))
    return unjudged_answer(tokens, "stop", trace.layout.length, model_id, reason=NO_CALIBRATION)


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
