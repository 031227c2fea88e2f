"""Answers of any LLM, judged by what retrieved nodes or a chat show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.schema import NodeWithScore

from llama_index.llms.saliency_guard._collecting import GroundingCollector
from llama_index.llms.saliency_guard._messages import node_parts
from saliency_guard import ContextLengthError, GroundedAnswer, GuardPolicy
from saliency_guard.adapters.citations import Documents
from saliency_guard.adapters.settings import Judge, Scorer
from saliency_guard.embedded import EMBEDDED

_NOW = "Now answer the question.\n"
"""After this, `FeedbackQueryTransformation` repeats the question it rewrote; before it stands the bad answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """An answer that was looked at.

    Attributes:
        answer: with its scores.
        nodes: node id -> part of the saliency of the tokens that count; empty where the nodes did not fit into one
            prompt.
    """

    answer: GroundedAnswer
    nodes: dict[str, float]


def judge_of(scorer: Scorer | None, collector: GroundingCollector | None = None) -> Judge:
    """Who judges: the scorer; else the model that wrote the answer, if it is one of ours; else the embedded one."""
    if scorer is None and collector is not None and collector.calls:
        return Judge(collector.calls[-1].lvlm)
    return Judge(EMBEDDED if scorer is None else scorer)


def question_of(query: str) -> str:
    """The question in a query, without a bad answer and what was said of it."""
    return query.rpartition(_NOW)[2]


def documents_of(nodes: Sequence[NodeWithScore], question: str, judge: Judge) -> Documents:
    """What nodes show, and the question about it."""
    parts = [node_parts(one.node, number, fetch_image=judge.fetch_image) for number, one in enumerate(nodes)]
    return Documents(parts, question_of(question))


def score(judge: Judge, documents: Documents, nodes: Sequence[NodeWithScore], text: str, policy: GuardPolicy) -> Scored:
    """What an answer rests on, all nodes in one prompt.

    Where they do not fit into one, every node is looked at alone, and that under which the answer is grounded best
    counts.

    Args:
        judge: scores.
        documents: what the nodes show.
        nodes: the same, by their ids.
        text: the answer.
        policy: whose calibrator and rules decide what is looked at.
    """
    try:
        answer = judge.score(documents.messages, text, policy)
    except ContextLengthError:
        if len(documents.parts) < 2:
            raise
        alone = [judge.score(messages, text, policy) for messages in documents.alone()]
        return Scored(max(alone, key=lambda one: -1.0 if one.grounding is None else one.grounding), {})
    shares = documents.shares(answer)
    return Scored(answer, {one.node.node_id: share for one, share in zip(nodes, shares, strict=True)})


def with_grounding(metadata: Mapping[str, Any] | None, report: dict[str, Any]) -> dict[str, Any]:
    """A response's metadata with a report."""
    return {**(metadata or {}), "grounding": report}
