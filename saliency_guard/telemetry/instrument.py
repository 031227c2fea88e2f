"""Switches spans and metrics on and off: the methods of `LVLM` and `GuardPolicy` are put into wrappers.

Nothing of it is there until `instrument` is called, so that it costs nothing where it is off.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from saliency_guard.errors import require_extra
from saliency_guard.guard.policy import GuardPolicy
from saliency_guard.lvlm import LVLM
from saliency_guard.telemetry.calls import ObservedCall, ObservedGenerator, observed_result
from saliency_guard.telemetry.evaluation import Evaluation

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from saliency_guard.telemetry.answers import Operation
    from saliency_guard.telemetry.recorder import Recorder

Begin = Callable[..., "ObservedCall | None"]
"""What begins the observation of a call, of its arguments; None where it is part of another one."""

_ORIGINALS: list[tuple[type, str, Any]] = []
_GUARD = threading.Lock()
_ABSENT = object()


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    contents: bool = False,
    on_evaluation: Callable[[Evaluation], object] | None = None,
) -> None:
    """Give every answer and every policy's run a span, from now on, in all of this process.

    Called again, the new settings take the place of the old ones.

    Args:
        tracer_provider: of the spans; None is OpenTelemetry's global one.
        meter_provider: of the metrics; None is the global one.
        logger_provider: gets ``gen_ai.evaluation.result`` as log records; None puts them on the spans as events.
        contents: record questions and answers, too. Those of attempts that a policy refused are then among them, on
            spans of their own that say so. Pictures are never recorded.
        on_evaluation: called with every evaluation when its span has ended, to send it to Langfuse, Phoenix or MLflow.

    Raises:
        MissingExtraError: if OpenTelemetry is not installed.
    """
    require_extra("opentelemetry", "opentelemetry-api", "otel")
    from saliency_guard.telemetry.recorder import Recorder  # noqa: PLC0415 - an extra

    recorder = Recorder(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
        contents=contents,
        on_evaluation=on_evaluation,
    )
    with _GUARD:
        _remove()
        for kind, name, wrapped in _wrapped(recorder):
            _ORIGINALS.append((kind, name, kind.__dict__.get(name, _ABSENT)))
            setattr(kind, name, wrapped)


def uninstrument() -> None:
    """Make no spans any more."""
    with _GUARD:
        _remove()


def _remove() -> None:
    while _ORIGINALS:
        kind, name, original = _ORIGINALS.pop()
        if original is _ABSENT:
            delattr(kind, name)
        else:
            setattr(kind, name, original)


def _wrapped(recorder: Recorder) -> list[tuple[type, str, Any]]:
    """Class, name and wrapper of every method."""
    from saliency_guard.telemetry.answers import (  # noqa: PLC0415 - an extra
        IN_GUARD,
        AnswerCall,
        inside_of_a_call,
    )
    from saliency_guard.telemetry.guards import GuardCall  # noqa: PLC0415 - an extra

    def answers(operation: Operation, prompts_of: Callable[[Any], Sequence[Any]]) -> Begin:
        def begin(lvlm: LVLM, given: Any, *_: Any, **options: Any) -> ObservedCall | None:
            if inside_of_a_call():
                return None
            return AnswerCall(recorder, operation, lvlm, prompts_of(given), options)

        return begin

    chat, chat_batch = answers("chat", lambda messages: [messages]), answers("chat", list)
    score = answers("score", lambda messages: [messages])
    score_batch = answers("score", lambda batch: [messages for messages, _ in batch])

    def guard(policy: GuardPolicy, *_: Any, **__: Any) -> ObservedCall:
        return GuardCall(recorder, policy)

    def decide(policy: GuardPolicy, *_: Any, **__: Any) -> ObservedCall | None:
        return None if IN_GUARD.get() else GuardCall(recorder, policy)

    ways: list[tuple[type, str, Callable[..., Any], Begin]] = [
        (LVLM, "generate", _function, chat),
        (LVLM, "stream", _iterator, chat),
        (LVLM, "generate_batch", _function, chat_batch),
        (LVLM, "score", _function, score),
        (LVLM, "score_batch", _function, score_batch),
        (LVLM, "agenerate", _coroutine, chat),
        (LVLM, "astream", _async_iterator, chat),
        (LVLM, "ascore", _coroutine, score),
        (LVLM, "ascore_batch", _coroutine, score_batch),
        (GuardPolicy, "steps", _generator, guard),
        (GuardPolicy, "planned_attempts", _generator, guard),
        (GuardPolicy, "decide", _function, decide),
    ]
    return [(kind, name, wrap(getattr(kind, name), begin)) for kind, name, wrap, begin in ways]


def _function(original: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        call = begin(self, *arguments, **options)
        if call is None:
            return original(self, *arguments, **options)
        return observed_result(lambda: original(self, *arguments, **options), call)

    return wrapped


def _iterator(original: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        call = begin(self, *arguments, **options)
        if call is None:
            return original(self, *arguments, **options)
        try:
            with call.active():
                items = original(self, *arguments, **options)
        except BaseException as error:
            call.failed(error)
            raise
        return ObservedGenerator(items, lambda: call)

    return wrapped


def _generator(original: Callable[..., Any], begin: Callable[..., ObservedCall]) -> Callable[..., Any]:
    """As `_iterator`, where nothing is done before the first step, and perhaps none is ever taken."""

    @functools.wraps(original)
    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        items = original(self, *arguments, **options)
        return ObservedGenerator(items, functools.partial(begin, self, *arguments, **options))

    return wrapped


def _coroutine(original: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    @functools.wraps(original)
    async def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        call = begin(self, *arguments, **options)
        if call is None:
            return await original(self, *arguments, **options)
        try:
            with call.active():
                result = await original(self, *arguments, **options)
        except BaseException as error:
            call.failed(error)
            raise
        call.finished(result)
        return result

    return wrapped


def _async_iterator(original: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    @functools.wraps(original)
    async def wrapped(self: Any, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        call = begin(self, *arguments, **options)
        if call is None:
            async with aclosing(original(self, *arguments, **options)) as steps:
                async for step in steps:
                    yield step
            return
        try:
            async with aclosing(original(self, *arguments, **options)) as steps:
                while True:
                    with call.active():
                        step = await anext(steps, None)
                    if step is None:
                        break
                    call.saw(step)
                    yield step
        except BaseException as error:
            call.failed(error)
            raise
        call.finished(None)

    return wrapped
