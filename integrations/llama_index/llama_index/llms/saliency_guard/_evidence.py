"""Scores the answers of any LLM against retrieved nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.schema import NodeWithScore

from llama_index.llms.saliency_guard._collecting import GroundingCollector
from llama_index.llms.saliency_guard._messages import node_parts
from saliency_guard import ContextLengthError, GroundedAnswer, GuardPolicy
from saliency_guard.adapters import EMBEDDED, Documents, LocalScorer, PreparedPrompt, ScorerModel

_FEEDBACK_END = "Now answer the question.\n"
"""Separates the refused answer and its feedback from the question in a query of `FeedbackQueryTransformation`."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A scored answer.

    Attributes:
        answer: the answer with its scores.
        nodes: node id -> share of the saliency of the tokens that count; empty if the nodes did not fit into one
            prompt.
    """

    answer: GroundedAnswer
    nodes: dict[str, float]


def scorer_of(scorer: ScorerModel | None, collector: GroundingCollector | None = None) -> LocalScorer:
    """The given scorer; else the `SaliencyGuardedLVLM` that wrote the answer, if any; else the embedded model."""
    if scorer is None and collector is not None and collector.calls:
        return LocalScorer(collector.calls[-1].lvlm)
    return LocalScorer(EMBEDDED if scorer is None else scorer)


def question_of(query: str) -> str:
    """The question in a query, without a refused answer and its feedback."""
    return query.rpartition(_FEEDBACK_END)[2]


class Evidence:
    """Retrieved nodes and a question, as a prompt for a scorer; the prompt is prepared only once.

    Args:
        scorer: scores answers.
        nodes: the retrieved nodes.
        query: the question; may also contain a refused answer and its feedback.
    """

    def __init__(self, scorer: LocalScorer, nodes: Sequence[NodeWithScore], query: str) -> None:
        self.scorer = scorer
        self._query = query
        self._nodes = [scored.node for scored in nodes]
        parts = [node_parts(node, number, fetch_image=scorer.fetch_image) for number, node in enumerate(self._nodes)]
        self.documents = Documents(parts, question_of(query))
        self._prompt: PreparedPrompt | None = None

    def is_same(self, scorer: LocalScorer, nodes: Sequence[NodeWithScore], query: str) -> bool:
        """Whether it can be reused for this scorer, these nodes and this query."""
        try:
            same_nodes = self._nodes == [scored.node for scored in nodes]
        except ValueError:  # Arrays in metadata cannot be compared.
            return False
        return same_nodes and self._query == query and self.scorer.lvlm is scorer.lvlm

    def score(self, text: str, policy: GuardPolicy) -> Scored:
        """Score an answer with all nodes in one prompt.

        If they do not fit into one prompt, the answer is scored with each node alone, and the best grounding counts.

        Args:
            text: the answer.
            policy: its calibrator and rules determine which signals are computed.
        """
        try:
            return self._with_shares(self.scorer.score(self._prepared(), text, policy))
        except ContextLengthError:
            if len(self._nodes) < 2:
                raise
            return _best([self.scorer.score(messages, text, policy) for messages in self.documents.alone()])

    async def ascore(self, text: str, policy: GuardPolicy) -> Scored:
        """As `score`, without blocking the event loop; cancelling the task stops the scoring."""
        try:
            prompt = await asyncio.to_thread(self._prepared)
            return self._with_shares(await self.scorer.ascore(prompt, text, policy))
        except ContextLengthError:
            if len(self._nodes) < 2:
                raise
            return _best([await self.scorer.ascore(messages, text, policy) for messages in self.documents.alone()])

    def _prepared(self) -> PreparedPrompt:
        if self._prompt is None:
            self._prompt = self.scorer.prepare(self.documents.messages)
        return self._prompt

    def _with_shares(self, answer: GroundedAnswer) -> Scored:
        shares = self.documents.shares(answer)
        return Scored(answer, {node.node_id: share for node, share in zip(self._nodes, shares, strict=True)})


def _best(answers: Sequence[GroundedAnswer]) -> Scored:
    return Scored(max(answers, key=lambda answer: -1.0 if answer.grounding is None else answer.grounding), {})


def sources(given: Sequence[NodeWithScore], retrieved: Sequence[NodeWithScore]) -> Sequence[NodeWithScore]:
    """The nodes to judge an answer by.

    Some engines hand on other nodes than were retrieved: their own texts about the pictures, which may be false
    themselves. Those nodes do not count where the retrieved ones are known.

    Args:
        given: the response's source nodes.
        retrieved: what retrievers found for it.
    """
    known = {scored.node.node_id: scored for scored in retrieved}
    kept: list[NodeWithScore] = []
    for scored in given:
        original = known.get(scored.node.node_id)
        if original is None or original in kept:
            continue
        # A text about a picture may have been given the picture's own id.
        kept.append(scored if type(scored.node) is type(original.node) else original)
    return kept or retrieved or given


def with_grounding(metadata: Mapping[str, Any] | None, report: dict[str, Any]) -> dict[str, Any]:
    """A response's metadata with a report added."""
    return {**(metadata or {}), "grounding": report}
