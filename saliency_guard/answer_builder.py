"""The one place where an answer ends: its tokens, what they rest on, and the calibrated probability of that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from saliency_guard.answer import GroundedAnswer, TokenGrounding, Usage
from saliency_guard.calibration.calibrator import Calibrator
from saliency_guard.chat.detokenize import EncodedText
from saliency_guard.chat.messages import Conversation
from saliency_guard.chat.template import PreparedPrompt, PromptReader
from saliency_guard.chat.tools import read_calls
from saliency_guard.claim_judge import NO_CALIBRATION, STRUCTURED, Basis, ClaimJudge, JudgedClaims
from saliency_guard.decoding.decoder import Decoder
from saliency_guard.decoding.options import GenerationPlan
from saliency_guard.decoding.sampling import LogitsProcessor
from saliency_guard.decoding.writer import Writer
from saliency_guard.models.fork_safety import uninterrupted
from saliency_guard.models.prompt_cache import PromptCache
from saliency_guard.models.session import Session
from saliency_guard.saliency.config import SaliencyConfig
from saliency_guard.saliency.scoring import SaliencyScores, score_together
from saliency_guard.saliency.shares import plain_shares
from saliency_guard.signals import compute
from saliency_guard.signals.combined_map import combined_map
from saliency_guard.signals.trace import AnswerTrace, trace_answers
from saliency_guard.signals.verification import VerifyConfig
from saliency_guard.viewer import first_view, whole_view


@dataclass(frozen=True, slots=True)
class WantedScores:
    """Which scores, signals and verification answers get.

    Attributes:
        saliency: what to score; None scores nothing.
        signals: names of the signals that every token is to have.
        verify: how claims are verified; None leaves that to the calibrator.
        scored: whether the tokens have their scores already.
        guarded: whether SGRS looked at these scores: then they stay as it saw them.
        structured: whether the answers are held to a JSON schema.
    """

    saliency: SaliencyConfig | None
    signals: tuple[str, ...]
    verify: VerifyConfig | None
    scored: bool = False
    guarded: bool = False
    structured: bool = False


@dataclass(frozen=True, slots=True)
class FinishedAnswer:
    """An answer whose tokens are known.

    Attributes:
        session: its prompt; nobody else's.
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
        """Of its tokens."""
        return [token.token_id for token in self.tokens]

    def without_locore(self) -> FinishedAnswer:
        """The same, as the plain model reads it."""
        if self.session.locore is None:
            return self
        session = self.session.fork(locore=None, layout=self.session.layout)
        return replace(self, session=session)


@dataclass(frozen=True, slots=True)
class AnswerBuilder:
    """Begins and ends answers of one model.

    Attributes:
        model_id: the model's name in answers.
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

    def decoder(
        self, plan: GenerationPlan, session: Session, processor: LogitsProcessor | None, *, live: bool
    ) -> Decoder:
        """What writes one answer.

        Args:
            plan: how it is to be written.
            session: the prompt, read.
            processor: of the plan.
            live: whether tokens are given out with their scores as they are written; otherwise the finished answer is
                scored at once, which costs less.
        """
        sgrs = plan.options["sgrs"]
        return Decoder(
            session=session,
            sgrs=sgrs,
            saliency=plan.options["saliency"] if live or sgrs is not None else None,
            processor=processor,
            seed=plan.seed,
            eos=self.eos,
            draft_length=None if plan.drafts_ahead else 1,
            keeps_states=sgrs is not None or not self.traces(plan.options["saliency"], plan.signals),
        )

    def writer(self, plan: GenerationPlan) -> Writer:
        """What makes text of an answer's tokens."""
        return Writer(self.tokenizer, self.eos, plan.stop)

    @uninterrupted()
    def ended(self, finished: Sequence[FinishedAnswer], wanted: WantedScores) -> list[GroundedAnswer]:
        """Answers, scored, judged and put together; one trace serves scores, signals and calibrator.

        Args:
            finished: what was written, or is to be scored; their sessions are kept.
            wanted: what is to be known of every token.
        """
        saliency, signals = wanted.saliency, wanted.signals
        config = saliency or SaliencyConfig()
        written = [index for index, answer in enumerate(finished) if answer.tokens]
        judge = ClaimJudge(self.reader, self.calibrator, wanted.verify)
        bases = [judge.basis(len(each.tokens), each.session, each.conversation, saliency) for each in finished]
        judged = [index for index, basis in enumerate(bases) if basis.kind == "pictures"]
        bases = [self._of_sentences(basis, each, wanted) for basis, each in zip(bases, finished, strict=True)]
        # The calibrator looks at an answer as the plain model sees it, so that it says the same however it was written.
        plain = [index for index in judged if finished[index].session.locore is None]
        traces = self._traced(finished, written if signals else plain, config)
        tokens = [list(answer.tokens) for answer in finished]
        if saliency is not None and not wanted.guarded:
            scores = {index: trace.scores for index, trace in traces.items()}
            if not wanted.scored:
                scores |= _scored(finished, [index for index in written if index not in traces], saliency)
            for index, values in scores.items():
                tokens[index] = with_scores(tokens[index], values)
        if signals:
            for index, trace in traces.items():
                tokens[index] = with_signals(tokens[index], compute(trace, signals))
        unseen = [index for index in judged if index not in plain]
        traces |= self._traced([answer.without_locore() for answer in finished], unseen, config)
        judge.look([(each.session, each.conversation, basis) for each, basis in zip(finished, bases, strict=True)])
        answers: list[GroundedAnswer] = []
        for index, (answer, basis) in enumerate(zip(finished, bases, strict=True)):
            pieces = [token.text for token in answer.tokens]
            traced = traces.get(index)
            combined = combined_map(traced, range(len(traced.tokens))) if traced is not None else None
            known = judge.judge(pieces, answer.session, answer.conversation, basis, trace=traced, combined=combined)
            view = None
            if traced is not None and combined is not None and answer.conversation is not None:
                view = first_view(self.reader, answer.conversation, traced, combined)
            answers.append(self._answer(answer, tokens[index], known).model_copy(update={"view": view}))
        for answer in finished:
            self.prompts.keep(answer.session)  # From here on it is not this answer's alone.
        return answers

    def explained(self, prepared: PreparedPrompt, answer: GroundedAnswer) -> GroundedAnswer:
        """An answer with its whole view, all maps and alternatives, as the model sees it without LocoRE.

        Args:
            prepared: its prompt, with the messages.
            answer: not empty.
        """
        assert prepared.conversation is not None  # noqa: S101 - of messages
        session = Session(self.reader.model, prepared.inputs, layout=prepared.layout, with_image_states=True)
        trace = trace_answers([session], [[token.token_id for token in answer.tokens]], SaliencyConfig())[0]
        view = whole_view(self.reader, prepared.conversation, session, trace)
        return answer.model_copy(update={"view": view})

    def _of_sentences(self, basis: Basis, answer: FinishedAnswer, wanted: WantedScores) -> Basis:
        """The basis of an answer; none of JSON and tool calls."""
        has_call = wanted.structured
        if basis.kind is not None and not has_call and self.reader.tells_tools:
            text = "".join(token.text for token in answer.tokens)
            parsed = read_calls(text, answer.ids, self.tokenizer, was_forced=False)
            has_call = bool(parsed.calls or parsed.malformed)
        return Basis(reason=STRUCTURED, verifies=False) if basis.kind is not None and has_call else basis

    def _traced(
        self, finished: Sequence[FinishedAnswer], chosen: Sequence[int], saliency: SaliencyConfig
    ) -> dict[int, AnswerTrace]:
        if not chosen:
            return {}
        sessions = [finished[index].session for index in chosen]
        for session in sessions:
            session.require_image_states()
        ids = [finished[index].ids for index in chosen]
        traces = trace_answers(sessions, ids, saliency, read=self.prompts.blank)
        return dict(zip(chosen, traces, strict=True))

    def _answer(
        self, finished: FinishedAnswer, tokens: Sequence[TokenGrounding], judged: JudgedClaims
    ) -> GroundedAnswer:
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
                "repairs": judged.repairs,
            }
        )


def _scored(
    finished: Sequence[FinishedAnswer], chosen: Sequence[int], saliency: SaliencyConfig
) -> dict[int, SaliencyScores]:
    if not chosen:
        return {}
    sessions = [finished[index].session for index in chosen]
    scores = score_together(sessions, [finished[index].ids for index in chosen], saliency)
    return dict(zip(chosen, scores, strict=True))


def unscored_tokens(answer: EncodedText) -> list[TokenGrounding]:
    """The tokens of a text to score."""
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
