"""RetrievalGuard: which retrieved picture or document each word of an answer rests on, and whether it rests on any."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_saliency_guard._events import REPORT, Emitter
from langchain_saliency_guard._judging import Judge, as_answer, says_something, with_report
from langchain_saliency_guard._messages import image_of
from langchain_saliency_guard._report import GROUNDING, usage_metadata
from saliency_guard import ConfigError, GroundedAnswer, GuardPolicy, LowGroundingError
from saliency_guard.adapters.citations import Documents, rests_on
from saliency_guard.adapters.run import answer_report
from saliency_guard.adapters.settings import Scorer
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import shown

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

    It takes ``{"question": ..., "documents": [...]}`` and, for an answer that is there already, ``"answer"``. Documents
    have text, or a picture under ``metadata["image"]``, or both.

    Every document is shown to the model alone, and alone it says what it makes of each word. A word rests on the
    document that makes it likelier by the most (against no document, or a picture that shows nothing), if that is at
    least ``min_gain``, and, where the model is calibrated, if that document alone grounds it. Shares of the saliency
    under all documents together are reported beside: on the embedded model they name the right one of two pictures for
    58 % of the words of other people's sentences and 75 % of its own, where a look at each alone names it for all
    (docs/langchain.md). What it costs: one more prompt per document, side by side.

    Args:
        policy: decides on the grounding under all documents together, too; None looks at the citations alone.
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
        scorer: Scorer = EMBEDDED,
        min_gain: float = 1.0,
        max_tokens: int = 128,
    ) -> None:
        if not min_gain > 0.0:
            msg = f"min_gain={min_gain} is not above 0"
            raise ConfigError(msg)
        self.policy = policy
        self.min_gain = min_gain
        self.max_tokens = max_tokens
        self._judge = Judge(scorer)

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
        return self._call_with_config(self._told, input, config)

    async def ainvoke(
        self,
        input: dict[str, Any],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> CitedAnswer:
        """As `invoke`, in a thread."""

        async def cited(given: dict[str, Any], run_manager: AsyncCallbackManagerForChainRun) -> CitedAnswer:
            found = await asyncio.to_thread(self._cited, given)
            await Emitter.of_run(run_manager).send(REPORT, found.message.response_metadata.get(GROUNDING, {}))
            return found

        return await self._acall_with_config(cited, input, config)

    def _told(self, given: dict[str, Any], run_manager: CallbackManagerForChainRun) -> CitedAnswer:
        found = self._cited(given)
        Emitter.of_run(run_manager)(REPORT, found.message.response_metadata.get(GROUNDING, {}))
        return found

    def _cited(self, given: dict[str, Any]) -> CitedAnswer:
        if not isinstance(given, dict) or not {"question", "documents"} <= set(given):
            msg = 'a RetrievalGuard takes {"question": ..., "documents": [...]} and perhaps "answer"'
            raise ConfigError(msg)
        documents, question = given["documents"], str(given["question"])
        if not isinstance(documents, (list, tuple)) or not all(isinstance(one, Document) for one in documents):
            msg = f"documents must be a list of LangChain's Documents, not {shown(documents)}"
            raise ConfigError(msg)
        asked = Documents([_parts(document, number) for number, document in enumerate(documents)], question)
        messages = asked.messages
        answer = None if given.get("answer") is None else as_answer(given["answer"])
        if answer is not None and not says_something(answer):
            return CitedAnswer(answer, (), accepted=False)
        message, scored = self._answered(messages, answer)
        outcome = None if self.policy is None else self.policy.check(scored, messages=messages)
        names = _ids(documents)
        gains = asked.gains(self._judge.lvlm, scored)
        rests = rests_on(gains, scored, self.min_gain)
        shares = asked.shares(scored)
        citations = [
            Citation(
                document,
                names[number],
                sum(gains[index][number] or 0.0 for index in own) / len(own),
                shares[number],
                tuple(scored.tokens[index].text.strip() for index in own),
            )
            for number, document in enumerate(documents)
            if (own := [index for index, one in enumerate(rests) if one == number])
        ]
        low = not citations or (outcome is not None and outcome.decision != "accepted")
        if not citations and outcome is not None and self.policy is not None and self.policy.on_low == "raise":
            raise LowGroundingError(scored, scored.grounding, self.policy.min_grounding, outcome.attempts)
        report = answer_report(scored, outcome) | {
            "documents": dict(zip(names, shares, strict=True)),
            "rests_on": [None if number is None else names[number] for number in rests],
        }
        if outcome is None or outcome.decision == "accepted":
            report["decision"] = "flagged" if low else "accepted"
        text = outcome.text if outcome is not None else scored.text
        ordered = sorted(citations, key=lambda one: (-len(one.words), -one.gain))
        return CitedAnswer(with_report(message, report, text), tuple(ordered), not low)

    def _answered(self, messages: list[dict[str, Any]], answer: AIMessage | None) -> tuple[AIMessage, GroundedAnswer]:
        wanted = self.policy or GuardPolicy(min_grounding=0.0)
        if answer is None:
            written = self._judge.write(messages, wanted, max_new_tokens=self.max_tokens)
            # Scored as a text: what was written may be cut into tokens otherwise than the same text is.
            scored = self._judge.score(messages, written.text, wanted)
            return AIMessage(scored.text, usage_metadata=usage_metadata(written.usage)), scored
        return answer, self._judge.score(messages, answer.text, wanted)


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
    """A name for each, no two the same: pages of one source get numbers."""
    found: list[str] = []
    for number, document in enumerate(documents):
        name, count = _id(document, number), 1
        while (unique := name if count == 1 else f"{name}#{count}") in found:
            count += 1
        found.append(unique)
    return found


def _id(document: Document, number: int) -> str:
    return str(document.id or document.metadata.get("source") or number)
