"""RetrievalGuard: finds the retrieved picture or document that each word of an answer rests on."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_saliency_guard._events import REPORT, Emitter
from langchain_saliency_guard._messages import image_of
from langchain_saliency_guard._report import GROUNDING, usage_metadata
from langchain_saliency_guard._scoring import as_answer, says_something, with_report
from saliency_guard import ConfigError, GroundedAnswer, GuardOutcome, GuardPolicy, LowGroundingError
from saliency_guard.adapters import (
    EMBEDDED,
    Documents,
    LocalScorer,
    ReportDetail,
    ScorerModel,
    answer_report,
    in_thread,
    rests_on,
    shown,
)

IMAGE = "image"
"""Key of a document's metadata for its picture: a path, bytes, base64, a data URI or a PIL image."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A document that an answer rests on.

    Attributes:
        document: the document.
        id: its id, else its ``source``, else its index in the list.
        gain: mean gain in log-probability (nats) of its words when the model sees this document alone.
        share: share of the document's picture and text in the saliency, mean over the tokens that count; raw, not
            calibrated.
        words: the words of the answer that rest on this document.
    """

    document: Document
    id: str
    gain: float
    share: float
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CitedAnswer:
    """An answer and its sources.

    Attributes:
        message: the answer; its ``response_metadata["grounding"]`` is the usual report with ``documents`` (id -> share
            of the saliency) and, where it has tokens, ``rests_on`` (for each the id of its document, or None).
        citations: the documents that it rests on, those with the most words first.
        accepted: whether it rests on a document and the policy, if there is one, accepts it.
    """

    message: AIMessage
    citations: tuple[Citation, ...]
    accepted: bool


class RetrievalGuard(Runnable[dict[str, Any], CitedAnswer]):
    """Answers a question from retrieved documents, or checks an existing answer against them.

    Its input is ``{"question": ..., "documents": [...]}`` and, to check an existing answer, ``"answer"``. Documents
    have text, or a picture under ``metadata["image"]``, or both.

    The answer is scored with each document alone, which gives the probability of each word. A word rests on the
    document that raises its log-probability most (compared with no document, or a blank picture), if the gain is at
    least ``min_gain`` and, for a calibrated model, if the word is grounded in that document alone. The report also has
    the shares of the saliency with all documents in one prompt: on the embedded model they name the right one of two
    pictures for 58 % of the words of given sentences and 75 % of those the model writes itself; scoring with each
    document alone names it for all (docs/langchain.md). The cost is one prompt per document, run as a batch.

    Args:
        policy: also decides on the grounding with all documents in one prompt; None decides by the citations alone.
            ``on_low="raise"`` raises.
        scorer: a `SaliencyGuardedLVLM`, a `saliency_guard.LVLM`, or the name of a model. It also writes the answer if
            none is given.
        min_gain: the least gain in log-probability, in nats, for a word to rest on a document.
        max_tokens: the largest number of tokens of an answer that is written here.
        report: how much the report holds.
    """

    def __init__(
        self,
        policy: GuardPolicy | None = None,
        *,
        scorer: ScorerModel = EMBEDDED,
        min_gain: float = 1.0,
        max_tokens: int = 128,
        report: ReportDetail = "summary",
    ) -> None:
        if not min_gain > 0.0:
            msg = f"min_gain={min_gain} is not above 0"
            raise ConfigError(msg)
        self.policy = policy
        self.min_gain = min_gain
        self.max_tokens = max_tokens
        self.report = report
        self._scorer = LocalScorer(scorer)

    def invoke(
        self,
        input: dict[str, Any],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> CitedAnswer:
        """Answer a question, or check an answer.

        Args:
            input: ``question``, ``documents``, and optionally ``answer``.
            config: configuration of the run.

        Raises:
            ConfigError: if the input has another form.
            LowGroundingError: with ``on_low="raise"``, if the answer rests on no document or is not grounded.
        """
        return self._call_with_config(self._cited_answer, input, config)

    async def ainvoke(
        self,
        input: dict[str, Any],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> CitedAnswer:
        """As `invoke`, without blocking the event loop; cancelling the task stops it after the current model call."""

        async def cited(rag_input: dict[str, Any], run_manager: AsyncCallbackManagerForChainRun) -> CitedAnswer:
            async with aclosing(in_thread(self._steps(rag_input), threading.Event())) as steps:
                answers = [step async for step in steps]
            answer = cast("CitedAnswer", answers[-1])
            await Emitter.of_run(run_manager).send(REPORT, answer.message.response_metadata.get(GROUNDING, {}))
            return answer

        return await self._acall_with_config(cited, input, config)

    def _cited_answer(self, rag_input: dict[str, Any], run_manager: CallbackManagerForChainRun) -> CitedAnswer:
        *_, last = self._steps(rag_input)
        answer = cast("CitedAnswer", last)
        Emitter.of_run(run_manager)(REPORT, answer.message.response_metadata.get(GROUNDING, {}))
        return answer

    def _steps(self, rag_input: dict[str, Any]) -> Generator[CitedAnswer | None, None, None]:
        """Yields None after each call of the model, where the caller may stop, and the cited answer last."""
        if not isinstance(rag_input, dict) or not {"question", "documents"} <= set(rag_input):
            msg = 'a RetrievalGuard takes {"question": ..., "documents": [...]} and optionally "answer"'
            raise ConfigError(msg)
        documents, question = rag_input["documents"], str(rag_input["question"])
        if not isinstance(documents, (list, tuple)) or not all(isinstance(item, Document) for item in documents):
            msg = f"documents must be a list of LangChain Documents, not {shown(documents)}"
            raise ConfigError(msg)
        evidence = Documents([_parts(document, number) for number, document in enumerate(documents)], question)
        message = None if rag_input.get("answer") is None else as_answer(rag_input["answer"])
        if message is not None and not says_something(message):
            yield CitedAnswer(message, (), accepted=False)
            return
        prompt = self._scorer.prepare(evidence.messages)
        yield None
        if message is None:
            generated = self._scorer.write(prompt, self.policy, max_new_tokens=self.max_tokens)
            message = AIMessage(generated.text, usage_metadata=usage_metadata(generated.usage))
            yield None
        # A generated answer is scored as text, too: its text may be tokenized differently from how it was generated.
        scored = self._scorer.score(prompt, message.text, self.policy)
        yield None
        outcome = None if self.policy is None else self.policy.check(scored, messages=evidence.messages)
        gains = evidence.gains(self._scorer.lvlm_for(self.policy), scored)
        document_numbers = rests_on(gains, scored, self.min_gain)
        names, shares = _ids(documents), evidence.shares(scored)
        citations: list[Citation] = []
        for number, document in enumerate(documents):
            positions = [position for position, source in enumerate(document_numbers) if source == number]
            if positions:
                gain = sum(gains[position][number] or 0.0 for position in positions) / len(positions)
                words = tuple(scored.tokens[position].text.strip() for position in positions)
                citations.append(Citation(document, names[number], gain, shares[number], words))
        sources: dict[str, Any] = {"documents": dict(zip(names, shares, strict=True))}
        if self.report != "summary":
            sources["rests_on"] = [None if number is None else names[number] for number in document_numbers]
        yield self._decided(message, scored, outcome, citations, sources)

    def _decided(
        self,
        message: AIMessage,
        scored: GroundedAnswer,
        outcome: GuardOutcome | None,
        citations: list[Citation],
        sources: dict[str, Any],
    ) -> CitedAnswer:
        low = not citations or (outcome is not None and outcome.decision != "accepted")
        if not citations and outcome is not None and self.policy is not None and self.policy.on_low == "raise":
            raise LowGroundingError(scored, scored.grounding, self.policy.min_grounding, outcome.attempts)
        report = answer_report(scored, outcome, detail=self.report) | sources
        if outcome is None or outcome.decision == "accepted":
            report["decision"] = "flagged" if low else "accepted"
        text = outcome.text if outcome is not None else scored.text
        ordered = sorted(citations, key=lambda citation: (-len(citation.words), -citation.gain))
        return CitedAnswer(with_report(message, report, text), tuple(ordered), not low)


def _parts(document: Document, number: int) -> list[dict[str, Any]]:
    """A document as parts of a message."""
    picture = document.metadata.get(IMAGE)
    parts: list[dict[str, Any]] = [] if picture is None else [{"type": "image", "image": image_of(picture)}]
    if document.page_content.strip():
        parts.append({"type": "text", "text": document.page_content, "source": Documents.text_source(number)})
    if not parts:
        msg = f"document {_id(document, number)!r} has no text and no picture under metadata[{IMAGE!r}]"
        raise ConfigError(msg)
    return parts


def _ids(documents: Sequence[Document]) -> list[str]:
    """A unique name for each document: pages of the same source get numbers."""
    names: list[str] = []
    for number, document in enumerate(documents):
        name, count = _id(document, number), 1
        while (unique := name if count == 1 else f"{name}#{count}") in names:
            count += 1
        names.append(unique)
    return names


def _id(document: Document, number: int) -> str:
    return str(document.id or document.metadata.get("source") or number)
