"""GroundedQueryEngine: wraps any query engine, and retries, replaces or flags its badly grounded answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
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
from llama_index.llms.saliency_guard._drafts import Draft, drafting
from llama_index.llms.saliency_guard._evidence import Evidence, Scored, scorer_of, sources
from llama_index.llms.saliency_guard._final_response import final_response
from llama_index.llms.saliency_guard._judged import NO_SOURCE, TOLD, ShouldScore
from llama_index.llms.saliency_guard._responses import send_retry
from llama_index.llms.saliency_guard.events import GroundingScoreEvent, dispatcher
from saliency_guard import Attempt, GroundedAnswer, GuardOutcome, GuardPolicy, LowGroundingError, SaliencyGuardError
from saliency_guard.adapters import (
    OnError,
    PlannedAttempt,
    ReportDetail,
    ScorerModel,
    answer_report,
    empty_attempt,
    fields_text,
    not_applicable,
    raised_report,
    remember_prompts,
    rests_on,
    scorer_trouble,
    unscored_attempt,
)

_MIN_GAIN = 1.0
"""The least gain in log-probability (nats) from a node alone for a token to rest on that node."""


class _Response:
    """A response of the inner engine, the sources of its answer, and what was told about it."""

    def __init__(self, response: RESPONSE_TYPE, text: str, collector: GroundingCollector, draft: Draft) -> None:
        self.response = response
        self.text = text
        self.collector = collector
        self.draft = draft
        self.nodes: Sequence[NodeWithScore] = sources(response.source_nodes, draft.retrieved)
        self.shares: dict[str, float] = {}
        self.evidence: Evidence | None = None

    @property
    def claims(self) -> str:
        """What is judged: the text, or the fields of an object."""
        if isinstance(self.response, PydanticResponse) and self.response.response is not None:
            return fields_text(self.response.response)
        return self.text.strip()


@dataclass(frozen=True, slots=True)
class _ToScore:
    """An action: score this answer."""

    evidence: Evidence
    text: str


_Step = PlannedAttempt | _ToScore | RESPONSE_TYPE
_Guarding = Generator[PlannedAttempt | _ToScore, _Response | Scored | Attempt, RESPONSE_TYPE]


class GroundedQueryEngine(BaseQueryEngine):
    """Wraps any query engine, and any LLM in it.

    An answer is scored against its ``source_nodes``, all in one prompt, with the original question. A refused answer is
    retried as often as the policy allows (a `SaliencyGuardedLVLM` anywhere inside then uses a new seed), then generated
    by ``fallback_engine``, and then replaced by the policy's fallback, flagged, or raised.
    ``Response.metadata["grounding"]`` has the report, with

    - ``nodes``: node id -> share of the saliency; raw, see ``cite``,
    - ``calls``: the report of every call of a `SaliencyGuardedLVLM`, such as those of a refining synthesizer.

    Nothing passes unseen: an empty answer is refused; what cannot be judged (a node that cannot be read) has the
    decision ``"unscored"``, and the policy's ``unscored`` decides on it; answers without a picture among their sources
    have ``"not_applicable"``. An engine that hands on other nodes than were retrieved (`CitationQueryEngine`,
    `SubQuestionQueryEngine`) is judged by the nodes that were retrieved. Streams are held back until the answer is
    scored, and so is what an attempt tells event handlers, spans and callbacks: of refused answers they hear nothing.

    ``str()`` of a response that is flagged or unscored says so, and so does the result of a `QueryEngineTool`.

    Args:
        query_engine: the inner query engine.
        policy: decides.
        scorer: a `SaliencyGuardedLVLM`, a `saliency_guard.LVLM`, or the name of a model; None means the model that
            wrote the answer if that is a `SaliencyGuardedLVLM`, else the embedded model.
        fallback_engine: called when no answer is good enough.
        cite: also score with each node alone. The report then has ``rests_on``: for every token, the id of the node
            that raises its probability most and grounds it alone, or None. It costs a prompt per node, and names the
            right picture far more often than shares do (docs/llama_index.md).
        seed: seed of the retries; None takes a random one.
        should_score: called with the `QueryBundle` and the response: whether to score it. None scores answers with a
            picture among their sources.
        on_error: what the scorer's own trouble does: ``"unscored"`` leaves the decision to the policy's ``unscored``,
            ``"raise"`` raises it.
        report: how much the report holds; refused texts with ``"full"`` only.
        callback_manager: as for every query engine.
    """

    def __init__(
        self,
        query_engine: BaseQueryEngine,
        policy: GuardPolicy,
        *,
        scorer: ScorerModel | None = None,
        fallback_engine: BaseQueryEngine | None = None,
        cite: bool = False,
        seed: int | None = None,
        should_score: ShouldScore | None = None,
        on_error: OnError = "unscored",
        report: ReportDetail = "summary",
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(callback_manager or query_engine.callback_manager)
        policy.planned_attempts()  # Raises ConfigError now for settings that no engine can apply.
        self.policy = policy
        self._engine = query_engine
        self._scorer = scorer
        self._fallback = fallback_engine
        self._cite = cite
        self._seed = seed
        self._should_score = should_score
        self._on_error = on_error
        self._report = report

    def _get_prompt_modules(self) -> PromptMixinType:
        fallback = {} if self._fallback is None else {"fallback_engine": self._fallback}
        return {"query_engine": self._engine, **fallback}

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """As the inner engine."""
        return self._engine.retrieve(query_bundle)

    def synthesize(self, query_bundle: QueryBundle, nodes: list[NodeWithScore], *args: Any) -> RESPONSE_TYPE:
        """A guarded answer from these nodes; arguments as for the inner engine."""
        return self._run(query_bundle, lambda engine, query: engine.synthesize(query, nodes, *args))

    async def asynthesize(self, query_bundle: QueryBundle, nodes: list[NodeWithScore], *args: Any) -> RESPONSE_TYPE:
        """As `synthesize`."""
        return await self._arun(query_bundle, lambda engine, query: engine.asynthesize(query, nodes, *args))

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        return self._run(query_bundle, lambda engine, query: engine.query(query))

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        return await self._arun(query_bundle, lambda engine, query: engine.aquery(query))

    def _run(self, query: QueryBundle, call_engine: Any) -> RESPONSE_TYPE:
        guarding = self._guarding(query)
        with remember_prompts():
            step: _Step = next(guarding)
            while isinstance(step, (PlannedAttempt, _ToScore)):
                if isinstance(step, _ToScore):
                    try:
                        scored: Scored | Attempt = step.evidence.score(step.text, self.policy)
                    except SaliencyGuardError as error:
                        scored = unscored_attempt(step.text, scorer_trouble(error, self._on_error))
                    step = _next_step(guarding, scored)
                    continue
                time.sleep(step.wait)
                with drafting() as draft, collect_grounding() as collector, attempting(step):
                    response = call_engine(self._engine_for(step), _query_of(query, step))
                    text = _complete_text(response)
                _raise_swallowed(collector)
                step = _next_step(guarding, _Response(response, text, collector, draft))
            return step

    async def _arun(self, query: QueryBundle, call_engine: Any) -> RESPONSE_TYPE:
        guarding = self._guarding(query)
        with remember_prompts():
            step: _Step = next(guarding)
            while isinstance(step, (PlannedAttempt, _ToScore)):
                if isinstance(step, _ToScore):
                    try:
                        scored: Scored | Attempt = await step.evidence.ascore(step.text, self.policy)
                    except SaliencyGuardError as error:
                        scored = unscored_attempt(step.text, scorer_trouble(error, self._on_error))
                    step = await asyncio.to_thread(_next_step, guarding, scored)
                    continue
                await asyncio.sleep(step.wait)
                with drafting() as draft, collect_grounding() as collector, attempting(step):
                    response = await call_engine(self._engine_for(step), _query_of(query, step))
                    text = await _acomplete_text(response)
                _raise_swallowed(collector)
                step = await asyncio.to_thread(_next_step, guarding, _Response(response, text, collector, draft))
            return step

    def _engine_for(self, planned: PlannedAttempt) -> BaseQueryEngine:
        return self._fallback if planned.is_fallback and self._fallback is not None else self._engine

    def _guarding(self, query: QueryBundle) -> _Guarding:
        """Yields the actions in order; send in the response or the scores of each. Returns the final response."""
        responses: list[_Response] = []
        try:
            return (yield from self._attempts(query, responses))
        except LowGroundingError as error:
            dispatcher.event(GroundingScoreEvent(report=raised_report(error, detail=self._report)))
            raise
        finally:
            for response in responses:
                response.draft.drop()  # Those that were not shown.

    def _attempts(self, query: QueryBundle, responses: list[_Response]) -> _Guarding:
        response: Any = yield PlannedAttempt(0)
        evidence, trouble = self._evidence(response, query)
        plan = self.policy.planned_attempts(
            evidence.documents.messages if evidence is not None else None,
            seed=self._seed,
            has_fallback=self._fallback is not None,
        )
        next(plan)
        while True:
            responses.append(response)
            reason = self._nothing_to_score(query, response, evidence)
            if reason is not None:
                return self._decided(not_applicable(response.text, reason, self.policy), responses)
            result: GroundedAnswer | Attempt = empty_attempt()
            if response.claims and evidence is not None and evidence.documents.has_picture:
                scored: Any = yield _ToScore(evidence, response.claims)
                result = scored
                if isinstance(scored, Scored):
                    response.shares, response.evidence, result = scored.nodes, evidence, scored.answer
            elif response.claims:
                result = unscored_attempt(response.claims, trouble or NO_SOURCE)
            if isinstance(result, Attempt) and result.reason is not None and len(responses) == 1:
                # Another attempt would not be judged either.
                return self._decided(self.policy.decide((result,)), responses)
            try:
                planned = plan.send(result)
            except StopIteration as end:
                return self._decided(end.value, responses)
            send_retry(len(responses) - 1, self.policy, result, self._report)
            response = yield planned
            evidence, trouble = self._evidence(response, query, evidence)

    def _nothing_to_score(self, query: QueryBundle, response: _Response, evidence: Evidence | None) -> str | None:
        """Why there is nothing to score; None where there is, or where it cannot be read."""
        if self._should_score is not None:
            return None if self._should_score(query, response.response) else TOLD
        return NO_SOURCE if evidence is not None and not evidence.documents.has_picture else None

    def _evidence(
        self, response: _Response, query: QueryBundle, last: Evidence | None = None
    ) -> tuple[Evidence | None, str | None]:
        """The evidence in the response's nodes, or why it cannot be read; the last attempt's if they are the same."""
        try:
            scorer = scorer_of(self._scorer, response.collector)
            if last is not None and last.is_same(scorer, response.nodes, query.query_str):
                return last, None
            return Evidence(scorer, response.nodes, query.query_str), None
        except SaliencyGuardError as error:
            return None, scorer_trouble(error, self._on_error)

    def _decided(self, outcome: GuardOutcome, responses: Sequence[_Response]) -> RESPONSE_TYPE:
        chosen = responses[outcome.chosen if outcome.chosen is not None else -1]
        report = answer_report(outcome.answer, outcome, detail=self._report)
        report |= {"nodes": chosen.shares, "calls": _calls(responses, chosen, self._report)}
        if self._cite and outcome.chosen is not None and outcome.answer is not None and chosen.evidence is not None:
            report["rests_on"] = self._node_ids(chosen, outcome.answer)
        is_same = outcome.decision == "not_applicable" or (outcome.chosen is not None and outcome.text == chosen.claims)
        if is_same:
            chosen.draft.show()
        dispatcher.event(GroundingScoreEvent(report=report))
        return final_response(chosen.response, chosen.text if is_same else outcome.text, report, outcome)

    def _node_ids(self, response: _Response, answer: GroundedAnswer) -> list[str | None]:
        """For every token, the id of the node it rests on."""
        if response.evidence is None:
            return [None] * len(answer.tokens)
        lvlm = response.evidence.scorer.lvlm_for(self.policy)
        numbers = rests_on(response.evidence.documents.gains(lvlm, answer), answer, _MIN_GAIN)
        return [None if number is None else response.nodes[number].node.node_id for number in numbers]


def _next_step(guarding: _Guarding, result: _Response | Scored | Attempt) -> _Step:
    """The next action, or the final response."""
    try:
        return guarding.send(result)
    except StopIteration as end:
        response: RESPONSE_TYPE = end.value
        return response


def _query_of(query: QueryBundle, planned: PlannedAttempt) -> QueryBundle:
    """The query of an attempt: it may name weak words, while retrieval uses the original query."""
    if not planned.request:
        return query
    embedding_strings = query.custom_embedding_strs or [query.query_str]
    return QueryBundle(f"{query.query_str}\n{planned.request}", query.image_path, embedding_strings, query.embedding)


async def _acomplete_text(response: RESPONSE_TYPE) -> str:
    """As `_complete_text`, without blocking the event loop."""
    if isinstance(response, AsyncStreamingResponse):
        return (await response.get_response()).response or ""
    if isinstance(response, StreamingResponse):
        return await asyncio.to_thread(_complete_text, response)
    return _complete_text(response)


def _complete_text(response: RESPONSE_TYPE) -> str:
    """The text of a response; a stream is read to its end."""
    if isinstance(response, (PydanticResponse, StreamingResponse)):
        return response.get_response().response or ""
    return str(response) if not isinstance(response, Response) else response.response or ""


def _raise_swallowed(collector: GroundingCollector) -> None:
    """Raise errors of the model that LlamaIndex's synthesizers log and turn into an empty response."""
    if collector.errors:
        raise collector.errors[0]


def _calls(responses: Sequence[_Response], chosen: _Response, detail: ReportDetail) -> list[dict[str, Any]]:
    """The reports of the calls of our models: of those for the answer that is given out, or of all."""
    shown = responses if detail == "full" else [chosen]
    return [report for response in shown for report in response.collector.reports]
