"""Scores the answers of any LLM against retrieved nodes."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from llama_index.core.schema import NodeWithScore

from llama_index.llms.saliency_guard._collecting import GroundingCollector
from llama_index.llms.saliency_guard._drafts import is_same_node
from llama_index.llms.saliency_guard._messages import node_parts
from saliency_guard import GuardPolicy
from saliency_guard.adapters import (
    EMBEDDED,
    Documents,
    JudgedAnswer,
    JudgedText,
    LocalScorer,
    PreparedPrompt,
    ScorerModel,
    in_thread,
    unique_names,
)

_FEEDBACK_END = "Now answer the question.\n"
"""Separates the refused answer and its feedback from the question in a query of `FeedbackQueryTransformation`."""


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

    def score(self, text: JudgedText, policy: GuardPolicy) -> JudgedAnswer:
        """Judge an answer by all nodes together.

        Args:
            text: the answer, or the fields of one.
            policy: its calibrator and rules determine which signals are computed.

        Raises:
            ContextLengthError: if the nodes do not fit into one prompt.
        """
        *_, judged = self._judging(text, policy)
        return cast("JudgedAnswer", judged)

    async def ascore(self, text: JudgedText, policy: GuardPolicy) -> JudgedAnswer:
        """As `score`, without blocking the event loop; cancelling the task stops it after the current model call."""
        async with aclosing(in_thread(self._judging(text, policy), threading.Event())) as steps:
            judged = [step async for step in steps][-1]
        return cast("JudgedAnswer", judged)

    def _judging(self, text: JudgedText, policy: GuardPolicy) -> Generator[JudgedAnswer | None, None, None]:
        if self._prompt is None:
            self._prompt = self.scorer.prepare(self.documents.messages)
        yield from self.documents.judging(self.scorer, text, policy, self._prompt)

    def names(self) -> list[str]:
        """A name for each node: its id; where ids repeat, the later ones get numbers."""
        return unique_names([node.node_id for node in self._nodes])


def sources(given: Sequence[NodeWithScore], retrieved: Sequence[NodeWithScore]) -> Sequence[NodeWithScore]:
    """The nodes to judge an answer by.

    Some engines hand on other nodes than were retrieved: their own texts about the pictures, which may be false
    themselves. Those nodes do not count where the retrieved ones are known.

    Args:
        given: the response's source nodes.
        retrieved: what retrievers found for it.
    """
    kept: list[NodeWithScore] = []
    for scored in given:
        originals = [original for original in retrieved if original.node.node_id == scored.node.node_id]
        # A text about a picture may have been given the picture's own id.
        same_kind = any(type(scored.node) is type(original.node) for original in originals)
        nodes = [scored] if same_kind else originals
        kept += [node for node in nodes if not any(is_same_node(node, known) for known in kept)]
    return kept or retrieved or given


def with_grounding(metadata: Mapping[str, Any] | None, report: dict[str, Any]) -> dict[str, Any]:
    """A response's metadata with a report added."""
    return {**(metadata or {}), "grounding": report}
