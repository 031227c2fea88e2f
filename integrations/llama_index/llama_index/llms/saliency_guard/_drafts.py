"""Drafts: the events, spans and callbacks of an attempt are held back until its answer is given out.

LlamaIndex notifies every handler of every call as it is made: its instrumentation (`Dispatcher`) and its callbacks
(`CallbackManager`) have no hook to hold a call back, so their methods are wrapped once. Outside of a draft the wrappers
only call the originals.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent
from llama_index.core.schema import NodeWithScore
from llama_index_instrumentation.dispatcher import Dispatcher

from llama_index.llms.saliency_guard.events import dispatcher, raised_event
from saliency_guard import LowGroundingError
from saliency_guard.adapters import ReportDetail

_HELD = ("event", "span_enter", "span_exit", "span_drop")
"""Methods of a dispatcher that tell its handlers something."""


class Draft:
    """What an attempt tells, held back until `show` or `drop`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[Callable[[], Any]] = []
        self._events: list[Any] = []
        self._is_open = True
        self._is_dropped = False

    @property
    def retrieved(self) -> list[NodeWithScore]:
        """The nodes that were retrieved for it, each once; different nodes may have one id."""
        nodes: list[NodeWithScore] = []
        for event in self._events:
            if isinstance(event, RetrievalEndEvent):
                nodes += [node for node in event.nodes if not any(is_same_node(node, known) for known in nodes)]
        return nodes

    def hold(self, tell: Callable[[], Any], event: Any = None) -> bool:
        """Hold something back; False if it may be told now, because the draft has been shown.

        Args:
            tell: tells it.
            event: the event that is told, if it is one.
        """
        with self._lock:
            if self._is_open:
                self._held.append(tell)
                self._events.append(event)
            return self._is_open or self._is_dropped

    def show(self) -> None:
        """Tell everything, in order; what comes later is told as it comes."""
        with self._lock:
            held, self._held, self._is_open = self._held, [], False
        for tell in held:
            tell()

    def drop(self) -> None:
        """Forget everything, and what comes later."""
        with self._lock:
            self._held, self._is_open, self._is_dropped = [], False, True


def is_same_node(node: NodeWithScore, other: NodeWithScore) -> bool:
    """Whether two results hold equal nodes; arrays cannot be compared, so nodes with different ones are not."""
    try:
        return bool(node.node == other.node)
    except ValueError:
        return False


_DRAFT: ContextVar[Draft | None] = ContextVar("draft", default=None)


@contextmanager
def drafting() -> Iterator[Draft]:
    """What calls inside tell is held back, in tasks and threads that are started inside, too."""
    _wrap()
    draft = Draft()
    token = _DRAFT.set(draft)
    try:
        yield draft
    except BaseException:
        draft.show()  # A failure is no refused answer: its events are needed to find the reason.
        raise
    finally:
        _DRAFT.reset(token)


@contextmanager
def attempts(detail: ReportDetail) -> Iterator[list[Draft]]:
    """The drafts of the attempts at one answer: those that were not shown are dropped in the end.

    Of an answer that the policy raises an event tells, and nothing else.

    Args:
        detail: how much the report of that event holds.
    """
    drafts: list[Draft] = []
    try:
        yield drafts
    except LowGroundingError as error:
        dispatcher.event(raised_event(error, detail))
        raise
    finally:
        for draft in drafts:
            draft.drop()


def _wrap() -> None:
    """Wrap the methods that tell; once."""
    with _WRAPPING:
        if hasattr(Dispatcher.event, "__wrapped__"):
            return
        for name in _HELD:
            setattr(Dispatcher, name, _holding(getattr(Dispatcher, name)))
        asynchronous = getattr(Dispatcher, "aevent", None)  # Older versions have none.
        if asynchronous is not None:
            Dispatcher.aevent = _holding_async(asynchronous)  # type: ignore[method-assign]
        for name in ("on_event_start", "on_event_end"):
            setattr(CallbackManager, name, _holding_callback(getattr(CallbackManager, name)))


_WRAPPING = threading.Lock()


def _holding(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def tell(self: Dispatcher, *args: Any, **kwargs: Any) -> Any:
        draft = _DRAFT.get()
        event = args[0] if args else None
        if draft is not None and draft.hold(lambda: tell(self, *args, **kwargs), event):
            return None
        return method(self, *args, **kwargs)

    return tell


def _holding_async(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def tell(self: Dispatcher, event: Any, **kwargs: Any) -> Any:
        draft = _DRAFT.get()
        if draft is not None and draft.hold(lambda: self.event(event, **kwargs), event):
            return None
        return await method(self, event, **kwargs)

    return tell


def _holding_callback(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def tell(self: CallbackManager, event_type: Any, payload: Any = None, event_id: str = "", **kwargs: Any) -> Any:
        draft = _DRAFT.get()
        event_id = event_id or str(uuid.uuid4())  # The caller needs it now, to say later that the event ended.
        if draft is not None and draft.hold(lambda: tell(self, event_type, payload, event_id, **kwargs)):
            return event_id
        return method(self, event_type, payload, event_id=event_id, **kwargs)

    return tell
