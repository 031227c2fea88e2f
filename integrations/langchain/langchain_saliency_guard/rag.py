"""RetrievalGuard: answers from retrieved documents, judged claim by claim."""

from __future__ import annotations

import base64
import threading
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_saliency_guard._citations import CitedAnswer, annotated, citations_of, piece
from langchain_saliency_guard._drafts import pieces
from langchain_saliency_guard._events import Emitter
from langchain_saliency_guard._grounding_events import outcome_events, raised_event
from langchain_saliency_guard._judged import judged_text
from langchain_saliency_guard._messages import BASE64, image_of
from langchain_saliency_guard._report import usage_metadata
from langchain_saliency_guard._scoring import as_answer, with_report
from langchain_saliency_guard._verdicts import record
from saliency_guard import ConfigError, GuardOutcome, GuardPolicy, LowGroundingError, SaliencyGuardError
from saliency_guard.adapters import (
    EMBEDDED,
    NO_ARGUMENTS,
    Documents,
    JudgedAnswer,
    LocalScorer,
    OnError,
    ReportDetail,
    ScorerModel,
    answer_report,
    empty_attempt,
    fetched,
    in_thread,
    is_remote,
    not_applicable,
    scorer_trouble,
    shown,
    unique_names,
    unscored_attempt,
)

IMAGE = "image"
"""Key of a document's metadata for its picture: a path, bytes, base64, a data URI, an http(s) URL or a PIL image."""

_DEFAULT = GuardPolicy(min_grounding=0.5)
_LEAST_PICTURE = 64
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")
"""The first bytes of pictures, by which base64 in a document's content is told from text."""

_Result = tuple[CitedAnswer, GuardOutcome]


class RetrievalGuard(Runnable[dict[str, Any], CitedAnswer]):
    """Answers a question from retrieved documents, or checks an existing answer against them, claim by claim.

    Its input is ``{"question": ..., "documents": [...]}`` and, to check an existing answer, ``"answer"``. Documents
    have text, or a picture, or both; base64 of a picture, or a data URI, in ``page_content`` is a picture.

    Every claim of the answer is judged against all pictures: an answer is accepted if the policy accepts its grounding
    and the grounding of each of its claims, and every claim is cited with the picture that speaks most for it. Claims
    about texts are put to the model with each text alone; no calibration covers them, so such an answer is
    ``"unscored"`` and not accepted, unless the pictures speak for all of it. An empty answer is refused.

    Streams are held back until the answer is judged; their pieces add up to the `CitedAnswer`.

    Args:
        policy: decides; None refuses, flagged, what has a grounding below 0.5. Nothing is retried here.
        scorer: a `SaliencyGuardedLVLM`, a `saliency_guard.LVLM`, or the name of a model. It also writes the answer if
            none is given, and its ``fetch_image`` gets pictures behind URLs.
        image_key: the key of a document's metadata for its picture.
        max_new_tokens: the largest number of tokens of an answer that is written here.
        on_error: what the scorer's own trouble with an answer that is given does (a picture that it may not fetch,
            documents that do not fit into its context): ``"unscored"`` leaves the decision to the policy's
            ``unscored``, ``"raise"`` raises it.
        report: how much the report holds; refused texts with ``"full"`` only.
    """

    def __init__(
        self,
        policy: GuardPolicy | None = None,
        *,
        scorer: ScorerModel = EMBEDDED,
        image_key: str = IMAGE,
        max_new_tokens: int = 128,
        on_error: OnError = "unscored",
        report: ReportDetail = "summary",
    ) -> None:
        self.policy = policy
        self.image_key = image_key
        self.max_new_tokens = max_new_tokens
        self.on_error = on_error
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
            LowGroundingError: with ``on_low="raise"``, if the answer is not accepted.
        """
        return self._answered(input, config)[0]

    async def ainvoke(
        self,
        input: dict[str, Any],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> CitedAnswer:
        """As `invoke`, without blocking the event loop; cancelling the task stops it after the current model call."""
        return (await self._aanswered(input, config))[0]

    def stream(
        self,
        input: dict[str, Any],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Iterator[CitedAnswer]:
        """The judged answer in pieces that add up to it; arguments and errors as for `invoke`."""
        yield from _pieces(*self._answered(input, config))

    async def astream(
        self,
        input: dict[str, Any],  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> AsyncIterator[CitedAnswer]:
        """As `stream`."""
        for part in _pieces(*await self._aanswered(input, config)):
            yield part

    def _answered(self, rag_input: dict[str, Any], config: RunnableConfig | None) -> _Result:
        results: list[_Result] = []

        def answered(given: dict[str, Any], run_manager: CallbackManagerForChainRun) -> CitedAnswer:
            emit = Emitter.of_run(run_manager)
            try:
                *_, last = self._steps(given)
            except LowGroundingError as error:
                emit(*raised_event(error, self.report))
                raise
            results.append(cast("_Result", last))
            for event in self._events(results[0]):
                emit(*event)
            return results[0][0]

        self._call_with_config(answered, rag_input, config)
        return results[0]

    async def _aanswered(self, rag_input: dict[str, Any], config: RunnableConfig | None) -> _Result:
        results: list[_Result] = []

        async def answered(given: dict[str, Any], run_manager: AsyncCallbackManagerForChainRun) -> CitedAnswer:
            emit = Emitter.of_run(run_manager)
            try:
                async with aclosing(in_thread(self._steps(given), threading.Event())) as steps:
                    last = [step async for step in steps][-1]
            except LowGroundingError as error:
                await emit.send(*raised_event(error, self.report))
                raise
            results.append(cast("_Result", last))
            for event in self._events(results[0]):
                await emit.send(*event)
            return results[0][0]

        await self._acall_with_config(answered, rag_input, config)
        return results[0]

    def _events(self, result: _Result) -> list[tuple[str, dict[str, Any]]]:
        cited, outcome = result
        record(outcome)
        return outcome_events(outcome.answer, outcome, cited.message.response_metadata["grounding"])

    def _steps(self, rag_input: dict[str, Any]) -> Generator[_Result | None, None, None]:
        """Yields None after each call of the model, where the caller may stop, and the result last."""
        documents, question, message = _parsed(rag_input)
        applied = self.policy or _DEFAULT
        judged: JudgedAnswer | None = None
        said = judged_text(message) if message is not None else None
        if message is not None and said is None:
            outcome = not_applicable(message.text, NO_ARGUMENTS, applied)
        elif message is not None and said is not None and not said.text:
            outcome = applied.decide((empty_attempt(),))
        else:
            evidence: Documents | None = None
            try:
                evidence = self._evidence(documents, question)
                prompt = self._scorer.prepare(evidence.messages)
                yield None
                if message is None:
                    generated = self._scorer.write(prompt, self.policy, max_new_tokens=self.max_new_tokens)
                    message = AIMessage(generated.text, usage_metadata=usage_metadata(generated.usage))
                    yield None
                    said = judged_text(message)
                if said is not None and said.text:
                    # A generated answer is scored as text: it may be tokenized differently from how it was written.
                    for step in evidence.judging(self._scorer, said, self.policy, prompt):
                        yield None
                        judged = step
                attempt = empty_attempt() if judged is None else judged.attempt(applied)
            except LowGroundingError:
                raise
            except SaliencyGuardError as error:
                if message is None:  # There is no answer to give out.
                    raise
                attempt = unscored_attempt(message.text, scorer_trouble(error, self.on_error))
            outcome = applied.decide((attempt,), evidence.messages if evidence is not None else None)
        assert message is not None  # noqa: S101 - given or written by now
        names = unique_names([_id(document, number) for number, document in enumerate(documents)])
        yield self._cited(message, said.text if said is not None else "", judged, outcome, names), outcome

    def _evidence(self, documents: Sequence[Document], question: str) -> Documents:
        parts = [self._parts(document, number) for number, document in enumerate(documents)]
        return Documents(parts, question)

    def _cited(
        self, message: AIMessage, said: str, judged: JudgedAnswer | None, outcome: GuardOutcome, names: Sequence[str]
    ) -> CitedAnswer:
        report = answer_report(outcome.answer, outcome, detail=self.report)
        shares = judged.shares if judged is not None else ()
        report["documents"] = dict(zip(names, shares, strict=False))
        given_out = with_report(message, report, outcome.replacement(said))
        citations = citations_of(judged, outcome, names) if judged is not None else ()
        has_calls = bool(given_out.tool_calls)  # Then what was judged is not the text alone.
        return CitedAnswer(
            annotated(given_out, [] if has_calls else citations), citations, outcome.passes and bool(outcome.text)
        )

    def _parts(self, document: Document, number: int) -> list[dict[str, Any]]:
        """A document as parts of a message."""
        picture, text = document.metadata.get(self.image_key), document.page_content
        parts: list[dict[str, Any]] = []
        if picture is not None:
            parts.append({"type": "image", "image": self._picture(picture)})
        if _is_picture(text):
            parts.append({"type": "image", "image": image_of(text.strip())})
        elif text.strip():
            parts.append({"type": "text", "text": text, "source": Documents.text_source(number)})
        if not parts:
            name = _id(document, number)
            msg = f"document {name!r} has no text and no picture, in its content or under metadata[{self.image_key!r}]"
            raise ConfigError(msg)
        return parts

    def _picture(self, picture: Any) -> Any:
        is_url = isinstance(picture, str) and is_remote(picture)
        return fetched(picture, self._scorer.fetch_image) if is_url else image_of(picture)


def _parsed(rag_input: Any) -> tuple[Sequence[Document], str, AIMessage | None]:
    """The documents, the question and the answer in a guard's input.

    Raises:
        ConfigError: if it has another form.
    """
    if not isinstance(rag_input, Mapping) or not {"question", "documents"} <= set(rag_input):
        msg = 'a RetrievalGuard takes {"question": ..., "documents": [...]} and optionally "answer"'
        raise ConfigError(msg)
    documents = rag_input["documents"]
    if not isinstance(documents, (list, tuple)) or not all(isinstance(item, Document) for item in documents):
        msg = f"documents must be a list of LangChain Documents, not {shown(documents)}"
        raise ConfigError(msg)
    answer = rag_input.get("answer")
    return documents, str(rag_input["question"]), None if answer is None else as_answer(answer)


def _pieces(cited: CitedAnswer, outcome: GuardOutcome) -> Iterator[CitedAnswer]:
    for chunk in pieces(cited.message, outcome.answer):
        yield piece(chunk, cited)


def _is_picture(content: str) -> bool:
    """Whether a document's content is a picture: a data URI, or base64 that begins as a picture's file does."""
    text = content.strip()
    if text.startswith("data:image/"):
        return True
    if len(text) < _LEAST_PICTURE:
        return False
    try:
        start = base64.b64decode("".join(text[:_LEAST_PICTURE].split())[:16])
    except ValueError:  # Not ASCII, or not base64.
        return False
    return start.startswith(_SIGNATURES) and BASE64.fullmatch(text) is not None


def _id(document: Document, number: int) -> str:
    return str(document.id or document.metadata.get("source") or number)
