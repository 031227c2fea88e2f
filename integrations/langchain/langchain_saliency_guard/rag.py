"""RetrievalGuard: which retrieved picture or document each word of an answer rests on, if any."""

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
    ScorerModel,
    answer_report,
    in_thread,
    rests_on,
    shown,
)

IMAGE = "image"
"""Key of a document's metadata: its picture, as a path, bytes, base64, a data URI or a PIL picture."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A document that an answer rests on.

    Attributes:
        document: the document.
        id: its id, else its ``source``, else its number in the list.
        gain: mean over its words of how much likelier the document alone makes them, in nats.
        share: mean share of its picture and text of the saliency of the tokens that count: raw, not calibrated.
        words: pieces of the answer that rest on it more than on any other document.
    """

    document: Document
    id: str
    gain: float
    share: float
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CitedAnswer:
    """An answer and what it rests on.

    Attributes:
        message: the answer; its ``response_metadata["grounding"]`` has ``documents`` (id -> share of the saliency) and
            ``rests_on`` (for every token the id of its document, or None) beside what it has elsewhere.
        citations: documents that it rests on, those with the most words first.
        accepted: whether it rests on any document, and the policy (if there is one) accepts it.
    """

    message: AIMessage
    citations: tuple[Citation, ...]
    accepted: bool


class RetrievalGuard(Runnable[dict[str, Any], CitedAnswer]):
    """Answers from retrieved documents, or checks an answer to them.

    It takes ``{"question": ..., "documents": [...]}`` and, to check an existing answer, ``"answer"``. Documents
    have text, or a picture under ``metadata["image"]``, or both.

    The answer is scored with every document alone, which gives the probability of each word. A word rests on the
    document that makes it likelier by the most (against no document, or a blank picture), if that is at
    least ``min_gain``, and, where the model is calibrated, if that document alone grounds it. Shares of the saliency
    under all documents together are reported, too: on the embedded model they name the right one of two pictures for
    58 % of the words of other people's sentences and 75 % of those the model writes; scoring with each document alone
    names it for all (docs/langchain.md). The cost is a prompt per document, side by side.

    Args:
        policy: decides on the grounding under all documents together, too; None decides by the citations alone.
            ``on_low="raise"`` raises.
        scorer: a `SaliencyGuardedLVLM`, a `saliency_guard.LVLM`, or the name of a model. It writes the answer where
            there is none.
        min_gain: in nats.
        max_tokens: the most tokens of an answer that is written here.
    """

    def __init__(
        self,
        policy: GuardPolicy | None = None,
        *,
        scorer: ScorerModel = EMBEDDED,
        min_gain: float = 1.0,
        max_tokens: int = 128,
    ) -> None:
        if not min_gain > 0.0:
            msg = f"min_gain={min_gain} is not above 0"
            raise ConfigError(msg)
        self.policy = policy
        self.min_gain = min_gain
        self.max_tokens = max_tokens
        self._scorer = LocalScorer(scorer)

    def invoke(
        self,
        input: dict[str, Any],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> CitedAnswer:
        """Answer, or check an answer.

        Args:
            input: ``question``, ``documents``, and ``answer`` where there is one.
            config: of the run.

        Raises:
            ConfigError: if the input is of another form.
            LowGroundingError: with ``on_low="raise"``, if the answer rests on no document or is not grounded.
        """
        return self._call_with_config(self._reported, input, config)

    async def ainvoke(
        self,
        input: dict[str, Any],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> CitedAnswer:
        """As `invoke`; the event loop is not blocked, and cancelling the task stops the work between two passes."""

        async def cited(given: dict[str, Any], run_manager: AsyncCallbackManagerForChainRun) -> CitedAnswer:
            async with aclosing(in_thread(self._steps(given), threading.Event())) as steps:
                answers = [step async for step in steps]
            answer = cast("CitedAnswer", answers[-1])
            await Emitter.of_run(run_manager).send(REPORT, answer.message.response_metadata.get(GROUNDING, {}))
            return answer

        return await self._acall_with_config(cited, input, config)

    def _reported(self, given: dict[str, Any], run_manager: CallbackManagerForChainRun) -> CitedAnswer:
        *_, last = self._steps(given)
        answer = cast("CitedAnswer", last)
        Emitter.of_run(run_manager)(REPORT, answer.message.response_metadata.get(GROUNDING, {}))
        return answer

    def _steps(self, given: dict[str, Any]) -> Generator[CitedAnswer | None, None, None]:
        """The cited answer last; None between the passes of the model, where the work may be stopped."""
        if not isinstance(given, dict) or not {"question", "documents"} <= set(given):
            msg = 'a RetrievalGuard takes {"question": ..., "documents": [...]} and perhaps "answer"'
            raise ConfigError(msg)
        documents, question = given["documents"], str(given["question"])
        if not isinstance(documents, (list, tuple)) or not all(isinstance(each, Document) for each in documents):
            msg = f"documents must be a list of LangChain's Documents, not {shown(documents)}"
            raise ConfigError(msg)
        evidence = Documents([_parts(document, number) for number, document in enumerate(documents)], question)
        message = None if given.get("answer") is None else as_answer(given["answer"])
        if message is not None and not says_something(message):
            yield CitedAnswer(message, (), accepted=False)
            return
        prompt = self._scorer.prepare(evidence.messages)
        yield None
        if message is None:
            written = self._scorer.write(prompt, self.policy, max_new_tokens=self.max_tokens)
            message = AIMessage(written.text, usage_metadata=usage_metadata(written.usage))
            yield None
        # What was written is scored as a text, too: the text may be split into other tokens than were written.
        scored = self._scorer.score(prompt, message.text, self.policy)
        yield None
        outcome = None if self.policy is None else self.policy.check(scored, messages=evidence.messages)
        gains = evidence.gains(self._scorer.lvlm_for(self.policy), scored)
        rests = rests_on(gains, scored, self.min_gain)
        names, shares = _ids(documents), evidence.shares(scored)
        citations: list[Citation] = []
        for number, document in enumerate(documents):
            tokens = [index for index, rests_on_number in enumerate(rests) if rests_on_number == number]
            if tokens:
                gain = sum(gains[index][number] or 0.0 for index in tokens) / len(tokens)
                words = tuple(scored.tokens[index].text.strip() for index in tokens)
                citations.append(Citation(document, names[number], gain, shares[number], words))
        sources = {
            "documents": dict(zip(names, shares, strict=True)),
            "rests_on": [None if number is None else names[number] for number in rests],
        }
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
        report = answer_report(scored, outcome) | sources
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
    """A name for each, all different: pages of the same source get numbers."""
    names: list[str] = []
    for number, document in enumerate(documents):
        name, count = _id(document, number), 1
        while (unique := name if count == 1 else f"{name}#{count}") in names:
            count += 1
        names.append(unique)
    return names


def _id(document: Document, number: int) -> str:
    return str(document.id or document.metadata.get("source") or number)
