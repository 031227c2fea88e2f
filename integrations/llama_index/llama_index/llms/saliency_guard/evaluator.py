"""GroundingEvaluator: scores the answers of any LLM for grounding in the retrieved pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.base.response.schema import AsyncStreamingResponse
from llama_index.core.evaluation import BaseEvaluator, EvaluationResult
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode

from llama_index.llms.saliency_guard._evidence import Evidence, scorer_of
from llama_index.llms.saliency_guard._messages import image_block
from saliency_guard import ConfigError, GuardOutcome, GuardPolicy, SaliencyGuardError
from saliency_guard.adapters import JudgedAnswer, JudgedText, OnError, ScorerModel, scorer_trouble, weak_words

_NO_PICTURE = "there is no picture among the sources, so nothing says whether the answer is grounded"


class GroundingEvaluator(BaseEvaluator):
    """Passes answers that a `GuardPolicy` accepts.

    It takes the answers of any LLM, with the pictures of the response's ``source_nodes``, so it works in an unchanged
    `RetryQueryEngine` and `EvalQueryEngineTool`. ``score`` is the calibrated grounding, and ``feedback`` names the
    weak words. Without a picture the result is invalid and does not pass.

    Args:
        policy: decides; nothing is retried here, and no fallback is called.
        scorer: a `SaliencyGuardedLVLM`, a `saliency_guard.LVLM`, or the name of a model; None means the embedded model.
        on_error: what the scorer's own trouble does (a node that cannot be read): ``"unscored"`` makes the result
            invalid, so that it does not pass; ``"raise"`` raises it.
    """

    def __init__(
        self, policy: GuardPolicy, *, scorer: ScorerModel | None = None, on_error: OnError = "unscored"
    ) -> None:
        self.policy = policy
        self._on_error = on_error
        self._single = policy.without_actions().model_copy(update={"unscored": "flag", "guarantee": None})
        self._scorer = scorer_of(scorer)

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        """Does nothing: the evaluator has no prompts."""

    def evaluate(
        self,
        query: str | None = None,
        response: str | None = None,
        contexts: Sequence[str] | None = None,
        *,
        images: Sequence[ImageBlock | ImageNode | str | bytes] = (),
        **_: Any,
    ) -> EvaluationResult:
        """Score an answer.

        Args:
            query: the question.
            response: the answer.
            contexts: texts that the answer may rest on.
            images: pictures that the answer may rest on: blocks, nodes, paths or bytes.

        Raises:
            ConfigError: if there is no answer, or the policy cannot judge it.
            ImageError: if a picture cannot be used.
        """
        return self._evaluated(query, response, _nodes(images, contexts))

    async def aevaluate(
        self,
        query: str | None = None,
        response: str | None = None,
        contexts: Sequence[str] | None = None,
        *,
        images: Sequence[ImageBlock | ImageNode | str | bytes] = (),
        **_: Any,
    ) -> EvaluationResult:
        """As `evaluate`, without blocking the event loop; cancelling the task stops the scoring."""
        return await self._aevaluated(query, response, _nodes(images, contexts))

    def evaluate_response(self, query: str | None = None, response: Any = None, **_: Any) -> EvaluationResult:
        """Score a response against its ``source_nodes``; arguments and errors as for `evaluate`.

        Args:
            query: the question.
            response: the response of a query engine; a stream is read to its end.
        """
        if isinstance(response, AsyncStreamingResponse):
            msg = "the response is an asynchronous stream: use aevaluate_response"
            raise ConfigError(msg)
        if hasattr(response, "get_response"):
            response = response.get_response()
        text, nodes = _text_and_nodes(response)
        return self._evaluated(query, text, nodes)

    async def aevaluate_response(self, query: str | None = None, response: Any = None, **_: Any) -> EvaluationResult:
        """As `evaluate_response`, without blocking the event loop; cancelling the task stops the scoring."""
        if isinstance(response, AsyncStreamingResponse):
            response = await response.get_response()
        elif hasattr(response, "get_response"):
            response = await asyncio.to_thread(response.get_response)
        text, nodes = _text_and_nodes(response)
        return await self._aevaluated(query, text, nodes)

    def _evaluated(self, query: str | None, text: str | None, nodes: Sequence[NodeWithScore]) -> EvaluationResult:
        evidence, result = self._prepared(query, text, nodes)
        if evidence is None:
            return result
        try:
            return self._decided(result, evidence.score(JudgedText.of(text or ""), self.policy))
        except SaliencyGuardError as error:
            return _invalid(result, scorer_trouble(error, self._on_error))

    async def _aevaluated(
        self, query: str | None, text: str | None, nodes: Sequence[NodeWithScore]
    ) -> EvaluationResult:
        evidence, result = await asyncio.to_thread(self._prepared, query, text, nodes)
        if evidence is None:
            return result
        try:
            return self._decided(result, await evidence.ascore(JudgedText.of(text or ""), self.policy))
        except SaliencyGuardError as error:
            return _invalid(result, scorer_trouble(error, self._on_error))

    def _prepared(
        self, query: str | None, text: str | None, nodes: Sequence[NodeWithScore]
    ) -> tuple[Evidence | None, EvaluationResult]:
        """The evidence to score the answer against (None if it cannot be scored), and the result without a score."""
        if text is None or query is None:
            msg = "a GroundingEvaluator needs the query and the response"
            raise ConfigError(msg)
        result = EvaluationResult(query=query, response=text, contexts=[scored.node.get_content() for scored in nodes])
        if not text.strip():
            return None, _invalid(result, "the answer is empty")
        try:
            evidence = Evidence(self._scorer, nodes, query)
        except SaliencyGuardError as error:
            return None, _invalid(result, scorer_trouble(error, self._on_error))
        return (evidence, result) if evidence.documents.has_picture else (None, _invalid(result, _NO_PICTURE))

    def _decided(self, result: EvaluationResult, judged: JudgedAnswer) -> EvaluationResult:
        outcome = self._single.decide((judged.attempt(self._single),))
        return result.model_copy(
            update={"passing": outcome.accepted, "score": judged.answer.grounding, "feedback": feedback(outcome)}
        )


def _invalid(result: EvaluationResult, reason: str) -> EvaluationResult:
    """A result that does not pass, because the answer was not judged."""
    update = {"passing": False, "invalid_result": True, "invalid_reason": reason, "feedback": reason}
    return result.model_copy(update=update)


def feedback(outcome: GuardOutcome) -> str:
    """What is wrong with the last answer of an outcome, in words."""
    last = outcome.attempts[-1]
    if last.accepted:
        return "The answer rests on the pictures."
    if last.reason is not None:
        return f"Nothing says whether the answer is grounded in the pictures: {last.reason}."
    weak = weak_words(last.answer, 0.5)
    unsupported = f" The pictures do not support: {', '.join(weak)}." if weak else ""
    return f"The answer is not grounded in the pictures: {last.refused}.{unsupported}"


def _nodes(
    images: Sequence[ImageBlock | ImageNode | str | bytes], contexts: Sequence[str] | None
) -> list[NodeWithScore]:
    texts = [NodeWithScore(node=TextNode(text=text)) for text in contexts or ()]
    return [*map(_picture_node, images), *texts]


def _text_and_nodes(response: Any) -> tuple[str | None, Sequence[NodeWithScore]]:
    return (None, []) if response is None else (response.response, response.source_nodes)


def _picture_node(image: ImageBlock | ImageNode | str | bytes) -> NodeWithScore:
    if isinstance(image, ImageNode):
        return NodeWithScore(node=image)
    block = image_block(image)
    data = block.image.decode() if isinstance(block.image, bytes) else None
    path = None if block.path is None else str(block.path)
    url = None if block.url is None else str(block.url)
    return NodeWithScore(node=ImageNode(image=data, image_path=path, image_url=url))
