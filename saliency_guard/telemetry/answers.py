"""The spans of a call of a model: one for each answer that is written or scored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from opentelemetry import context, trace
from opentelemetry.trace import Span

from saliency_guard.answer import GroundedAnswer, Step
from saliency_guard.chat.template import PreparedPrompt
from saliency_guard.errors import CancelledError
from saliency_guard.lvlm import LVLM
from saliency_guard.telemetry import names
from saliency_guard.telemetry.evaluation import Evaluation, grounding_of
from saliency_guard.telemetry.recorder import Recorder, as_json, ids, known, response_id

Operation = Literal["chat", "score"]

CANCELS = (GeneratorExit, asyncio.CancelledError, CancelledError, KeyboardInterrupt)
"""Errors that say that nobody wants the result any more."""

_INSIDE: ContextVar[bool] = ContextVar("inside a call of a model", default=False)
IN_GUARD: ContextVar[bool] = ContextVar("inside a policy's run", default=False)


def inside_of_a_call() -> bool:
    """Whether a call of a model is being made: what it calls of the model itself has no spans of its own."""
    return _INSIDE.get()


@dataclass(slots=True)
class AnswerCall:
    """A call that gives one answer or several; see `ObservedCall`.

    Attributes:
        recorder: where spans go.
        operation: ``"chat"`` writes answers, ``"score"`` scores them.
        lvlm: the model.
        prompts: messages of each answer.
        options: of the call.
    """

    recorder: Recorder
    operation: Operation
    lvlm: LVLM
    prompts: Sequence[Any]
    options: Mapping[str, Any]
    _spans: list[Span] = field(init=False)
    _parent: Span = field(init=False)
    _started: float = field(default_factory=time.monotonic)
    _has_token: bool = False
    _answers: list[GroundedAnswer] | None = None

    def __post_init__(self) -> None:
        self._parent = trace.get_current_span()
        self._spans = [self._start(number) for number in range(len(self.prompts))]

    @property
    def _of_metrics(self) -> dict[str, str]:
        return {
            names.OPERATION_NAME: self.operation,
            names.PROVIDER_NAME: names.PROVIDER,
            names.REQUEST_MODEL: self.lvlm.model_id,
        }

    def _start(self, number: int) -> Span:
        options = {name: self.options[name] for name in names.REQUEST_OPTIONS if self.options.get(name) is not None}
        if isinstance(options.get("seed"), Sequence):  # Each answer of a batch has its own.
            options["seed"] = options["seed"][number]
        stop = self.options.get("stop")
        attributes = {
            **self._of_metrics,
            **{names.REQUEST_OPTIONS[name]: value for name, value in options.items()},
            names.REQUEST_STOP: ([stop] if isinstance(stop, str) else list(stop)) if stop else None,
            names.OUTPUT_TYPE: "json" if self.options.get("json_schema") is not None else "text",
            names.SPAN_KIND: "LLM" if self.operation == "chat" else "EVALUATOR",
            names.LLM_MODEL: self.lvlm.model_id,
            names.LLM_PARAMETERS: as_json(options) if self.operation == "chat" else None,
            names.IS_ATTEMPT: True if IN_GUARD.get() else None,
        }
        if self.recorder.contents:
            attributes |= _input(self.prompts[number])
        return self.recorder.start(f"{self.operation} {self.lvlm.model_id}", attributes)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Its span is current, and calls within it are part of it."""
        inside = _INSIDE.set(True)
        token = context.attach(trace.set_span_in_context(self._spans[0])) if len(self._spans) == 1 else None
        try:
            yield
        finally:
            if token is not None:
                context.detach(token)
            _INSIDE.reset(inside)

    def saw(self, item: Any) -> None:
        """A step of a stream."""
        if not isinstance(item, Step):
            return
        if item.answer is not None:
            self._answers = [item.answer]
        elif not self._has_token:
            self._has_token = True
            self.recorder.measure(names.TIME_TO_FIRST_TOKEN, time.monotonic() - self._started, self._of_metrics)

    def finished(self, result: Any) -> None:
        """The answers are there."""
        if isinstance(result, GroundedAnswer):
            self._answers = [result]
        elif isinstance(result, list):
            self._answers = result
        evaluations = [self._answered(*pair) for pair in zip(self._spans, self._answers or (), strict=False)]
        self._end()
        for evaluation in evaluations:
            self.recorder.report(evaluation)

    def failed(self, error: BaseException) -> None:
        """There is no answer."""
        if isinstance(error, CANCELS):
            self.left()
            return
        for span in self._spans:
            self.recorder.fail(span, error)
        self._end(type(error).__name__)

    def left(self) -> None:
        """Nobody wants the rest; a stream may be left with its answer."""
        if self._answers is not None:
            self.finished(None)
            return
        for span in self._spans:
            span.set_attribute(names.CANCELLED, value=True)
        self._end()

    def _end(self, error_type: str | None = None) -> None:
        attributes = {**self._of_metrics, names.ERROR_TYPE: error_type}
        self.recorder.measure(names.DURATION, time.monotonic() - self._started, attributes)
        for span in self._spans:
            span.end()

    def _answered(self, span: Span, answer: GroundedAnswer) -> Evaluation:
        usage = answer.usage
        attributes = {
            names.RESPONSE_ID: response_id(span),
            names.RESPONSE_MODEL: answer.model_id,
            names.FINISH_REASONS: [answer.finish_reason],
            names.INPUT_TOKENS: usage.prompt_tokens,
            names.OUTPUT_TOKENS: usage.completion_tokens,
            names.LLM_PROMPT_TOKENS: usage.prompt_tokens,
            names.LLM_COMPLETION_TOKENS: usage.completion_tokens,
            names.LLM_TOTAL_TOKENS: usage.total_tokens,
            names.SCORE: answer.grounding,
            names.CALIBRATED: answer.calibrated,
            names.REASON: answer.grounding_reason,
            names.CLAIMS: len(answer.claims),
        }
        if self.recorder.contents:
            attributes |= _output(answer.text, answer.finish_reason)
        span.set_attributes(known(attributes))
        evaluation = grounding_of(answer, *ids(span))
        self.recorder.evaluate(span, evaluation)
        if len(self._spans) == 1:
            carry(self._parent, {names.SCORE: answer.grounding, names.REASON: answer.grounding_reason})
        for kind, count in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
            self.recorder.measure(names.TOKEN_USAGE, count, {**self._of_metrics, names.TOKEN_TYPE: kind})
        if answer.grounding is not None:
            self.recorder.measure(names.GROUNDING, answer.grounding, self._of_metrics)
        self.recorder.count(names.ANSWERS, {**self._of_metrics, names.EVALUATION_LABEL: evaluation.label})
        return evaluation


def carry(span: Span, attributes: Mapping[str, Any]) -> None:
    """Write to the span of a framework's own call of a model, where that is what the call was made in."""
    there = getattr(span, "attributes", None) or {}  # Only spans of an SDK can be read.
    if span.is_recording() and (there.get(names.SPAN_KIND) == "LLM" or there.get(names.OPERATION_NAME) == "chat"):
        span.set_attributes(known(attributes))


def _input(prompt: Any) -> dict[str, Any]:
    """A prompt's texts; of a picture only that it is there."""
    messages: Any = prompt
    if isinstance(prompt, PreparedPrompt):
        messages = prompt.conversation.messages if prompt.conversation is not None else None
    if not isinstance(messages, (list, tuple)):
        return {}
    shown = [
        {"role": str(message.get("role")), "parts": [_part(part) for part in _parts(message.get("content"))]}
        for message in messages
        if isinstance(message, Mapping)
    ]
    text = as_json(shown)
    return {names.INPUT_MESSAGES: text, names.INPUT_VALUE: text, names.INPUT_MIME_TYPE: "application/json"}


def _parts(content: Any) -> Sequence[Any]:
    return content if isinstance(content, (list, tuple)) else [content] if isinstance(content, str) else []


def _part(part: Any) -> dict[str, str]:
    if isinstance(part, str):
        return {"type": "text", "content": part}
    kind = str(part.get("type")) if isinstance(part, Mapping) else "unknown"
    return {"type": "text", "content": str(part.get("text"))} if kind == "text" else {"type": kind}


def _output(text: str, finish_reason: str) -> dict[str, Any]:
    message = {"role": "assistant", "parts": [{"type": "text", "content": text}], "finish_reason": finish_reason}
    return {names.OUTPUT_MESSAGES: as_json([message]), names.OUTPUT_VALUE: text}
