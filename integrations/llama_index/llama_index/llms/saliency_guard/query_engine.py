"""GroundedQueryEngine: any query engine, whose answers are retried, replaced or flagged when badly grounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    PydanticResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.prompts.mixin import PromptMixinType
from llama_index.core.schema import NodeWithScore, QueryBundle

from llama_index.llms.saliency_guard._collecting import GroundingCollector, attempting, collect_grounding
from llama_index.llms.saliency_guard._evidence import documents_of, judge_of, score, with_grounding
from llama_index.llms.saliency_guard._responses import tell_retry
from llama_index.llms.saliency_guard.events import GroundingScoreEvent, dispatcher
from saliency_guard import Attempt, GroundedAnswer, GuardOutcome, GuardPolicy
from saliency_guard.adapters.citations import Documents, rests_on
from saliency_guard.adapters.run import answer_report
from saliency_guard.adapters.settings import Judge, Scorer
from saliency_guard.guard.outcome import EMPTY_ANSWER
from saliency_guard.guard.retry import PlannedAttempt

_LEAST = 1.0
"""Nats by which a node alone has to make a token likelier for the token to rest on it."""


class _Attempt:
    """A response of the inner engine, and what it came to."""

    def __init__(self, response: RESPONSE_TYPE, text: str, collector: GroundingCollector) -> None:
        self.response = response
        self.text = text
        self.collector = collector
        self.nodes: Sequence[NodeWithScore] = response.source_nodes
        self.shares: dict[str, float] = {}
        self.looked_at: tuple[Judge, Documents] | None = None


class GroundedQueryEngine(BaseQueryEngine):
    """Wraps any query engine, and any LLM in it.

    An answer is scored against what its ``source_nodes`` show, all in one prompt, with the question as it was asked.
    One that is refused is drawn anew as often as the policy says (a `SaliencyGuardedLVLM` inside then draws with
    another seed, whatever stands between), then asked of ``fallback_engine``, and then replaced by the policy's own
    fallback, flagged, or raised. ``Response.metadata["grounding"]`` has the report, with

    - ``nodes``: node id -> share of the saliency. It is raw; see ``cite``,
    - ``calls``: the report of every call of a `SaliencyGuardedLVLM`, such as those of a refining synthesizer.

    Answers without a picture among their nodes pass unscored: their ``decision`` is None. Streams are held back until
    they are verified.

    Args:
        query_engine: answers.
        policy: decides.
        scorer: a `SaliencyGuardedLVLM`, a `saliency_guard.LVLM`, or the name of a model; None is the model that wrote
            the answer where that is a `SaliencyGuardedLVLM`, else the embedded one.
        fallback_engine: asked when no answer is good enough.
        cite: look at every node alone, too: ``rests_on`` then has, for every token, the id of the node that makes it
            likelier by the most and alone grounds it, or None. It costs a prompt per node, and names the right picture
            far more often than shares do (docs/llama_index.md).
        seed: of the retries; None draws one.
        callback_manager: as for every query engine.
    """

    def __init__(
        self,
        query_engine: BaseQueryEngine,
        policy: GuardPolicy,
        *,
        scorer: Scorer | None = None,
        fallback_engine: BaseQueryEngine | None = None,
        cite: bool = False,
        seed: int | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager or query_engine.callback_manager)
        policy.planned_attempts()  # What no engine can apply is refused here.
        self.policy = policy
        self._engine = query_engine
        self._scorer = scorer
        self._fallback = fallback_engine
        self._cite = cite
        self._seed = seed

    def _get_prompt_modules(self) -> PromptMixinType:
        fallback = {} if self._fallback is None else {"fallback_engine": self._fallback}
        return {"query_engine": self._engine, **fallback}

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """As the inner engine."""
        return self._engine.retrieve(query_bundle)

    def synthesize(self, query_bundle: QueryBundle, nodes: list[NodeWithScore], *args: Any) -> RESPONSE_TYPE:
        """An answer from these nodes, guarded as any other; arguments as for the inner engine."""
        return self._run(query_bundle, lambda engine, asked: engine.synthesize(asked, nodes, *args))

    async def asynthesize(self, query_bundle: QueryBundle, nodes: list[NodeWithScore], *args: Any) -> RESPONSE_TYPE:
        """As `synthesize`."""
        return await self._arun(query_bundle, lambda engine, asked: engine.asynthesize(asked, nodes, *args))

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        return self._run(query_bundle, lambda engine, asked: engine.query(asked))

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        return await self._arun(query_bundle, lambda engine, asked: engine.aquery(asked))

    def _run(self, query: QueryBundle, ask: Any) -> RESPONSE_TYPE:
        guarding = self._guarding(query)
        planned = next(guarding)
        while True:
            time.sleep(planned.wait)
            with collect_grounding() as collector, attempting(planned):
                response = ask(self._engine_for(planned), _asked(query, planned))
                text = _whole(response)
            _raise_swallowed(collector)
            step = _sent(guarding, _Attempt(response, text, collector))
            if not isinstance(step, PlannedAttempt):
                return step
            planned = step

    async def _arun(self, query: QueryBundle, ask: Any) -> RESPONSE_TYPE:
        guarding = self._guarding(query)
        planned = next(guarding)
        while True:
            await asyncio.sleep(planned.wait)
            with collect_grounding() as collector, attempting(planned):
                response = await ask(self._engine_for(planned), _asked(query, planned))
                text = await _text(response)
            _raise_swallowed(collector)
            step = await asyncio.to_thread(_sent, guarding, _Attempt(response, text, collector))
            if not isinstance(step, PlannedAttempt):
                return step
            planned = step

    def _engine_for(self, planned: PlannedAttempt) -> BaseQueryEngine:
        return self._fallback if planned.is_fallback and self._fallback is not None else self._engine

    def _guarding(self, query: QueryBundle) -> Generator[PlannedAttempt, _Attempt, RESPONSE_TYPE]:
        """The attempts to make, in order; is sent the responses, and returns the one that is given out."""
        made: list[_Attempt] = []
        attempt = yield PlannedAttempt(0)
        judge = judge_of(self._scorer, attempt.collector)
        documents = documents_of(attempt.nodes, query.query_str, judge)
        plan = self.policy.planned_attempts(
            documents.messages, seed=self._seed, has_fallback=self._fallback is not None
        )
        next(plan)
        while True:
            made.append(attempt)
            if not documents.has_picture:
                return _given(attempt, attempt.text, _unscored(made))
            came: GroundedAnswer | Attempt = EMPTY_ANSWER
            if attempt.text.strip():
                scored = score(judge, documents, attempt.nodes, attempt.text, self.policy)
                attempt.shares, attempt.looked_at = scored.nodes, (judge, documents)
                came = scored.answer
            try:
                planned = plan.send(came)
            except StopIteration as end:
                return self._decided(end.value, made)
            tell_retry(len(made) - 1, self.policy, came)
            attempt = yield planned
            judge = judge_of(self._scorer, attempt.collector)
            documents = documents_of(attempt.nodes, query.query_str, judge)

    def _decided(self, outcome: GuardOutcome, made: Sequence[_Attempt]) -> RESPONSE_TYPE:
        chosen = made[outcome.chosen if outcome.chosen is not None else -1]
        report = answer_report(outcome.answer, outcome) | {"nodes": chosen.shares, "calls": _calls(made)}
        if self._cite and outcome.chosen is not None and outcome.answer is not None:
            report["rests_on"] = _cited(chosen, outcome.answer)
        dispatcher.event(GroundingScoreEvent(report=report))
        return _given(chosen, outcome.text, report)


def _sent(
    guarding: Generator[PlannedAttempt, _Attempt, RESPONSE_TYPE], attempt: _Attempt
) -> PlannedAttempt | RESPONSE_TYPE:
    """The next planned attempt, or the response that is given out."""
    try:
        return guarding.send(attempt)
    except StopIteration as end:
        found: RESPONSE_TYPE = end.value
        return found


def _asked(query: QueryBundle, planned: PlannedAttempt) -> QueryBundle:
    """The query of one attempt: weak words are named in it, while what is looked up stays the same."""
    if not planned.request:
        return query
    looked_up = query.custom_embedding_strs or [query.query_str]
    return QueryBundle(f"{query.query_str}\n{planned.request}", query.image_path, looked_up, query.embedding)


async def _text(response: RESPONSE_TYPE) -> str:
    """The whole answer; streams are read to their end."""
    if isinstance(response, AsyncStreamingResponse):
        return (await response.get_response()).response or ""
    if isinstance(response, StreamingResponse):
        return await asyncio.to_thread(_whole, response)
    return _whole(response)


def _whole(response: RESPONSE_TYPE) -> str:
    if isinstance(response, (PydanticResponse, StreamingResponse)):
        return response.get_response().response or ""
    return str(response) if not isinstance(response, Response) else response.response or ""


def _raise_swallowed(collector: GroundingCollector) -> None:
    """LlamaIndex's synthesizers log errors in the input and answer nothing: here they are raised."""
    if collector.errors:
        raise collector.errors[0]


def _calls(made: Sequence[_Attempt]) -> list[dict[str, Any]]:
    return [report for one in made for report in one.collector.reports]


def _unscored(made: Sequence[_Attempt]) -> dict[str, Any]:
    return answer_report(None) | {"nodes": {}, "calls": _calls(made)}


def _cited(attempt: _Attempt, answer: GroundedAnswer) -> list[str | None]:
    """For every token, the id of the node it rests on."""
    if attempt.looked_at is None:
        return [None] * len(answer.tokens)
    judge, documents = attempt.looked_at
    found = rests_on(documents.gains(judge.lvlm, answer), answer, _LEAST)
    return [None if number is None else attempt.nodes[number].node.node_id for number in found]


def _given(attempt: _Attempt, text: str, report: dict[str, Any]) -> RESPONSE_TYPE:
    """A response of the same kind that says ``text``, with its report; nothing of it is unverified."""
    response = attempt.response
    metadata = with_grounding(response.metadata, report)
    nodes = response.source_nodes
    pieces = [token["text"] for token in report["tokens"]]
    pieces = pieces if "".join(pieces) == text else [text]
    if isinstance(response, StreamingResponse):
        return StreamingResponse(_stream(pieces), nodes, metadata)
    if isinstance(response, AsyncStreamingResponse):
        return AsyncStreamingResponse(_astream(pieces), nodes, metadata)
    if isinstance(response, PydanticResponse) and text == attempt.text:
        return PydanticResponse(response.response, nodes, metadata)
    return Response(text, nodes, metadata)


def _stream(pieces: Sequence[str]) -> Generator[str, None, None]:
    yield from pieces


async def _astream(pieces: Sequence[str]) -> AsyncGenerator[str, None]:
    for piece in pieces:
        yield piece
