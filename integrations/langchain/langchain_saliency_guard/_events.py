"""Grounding as LangChain custom events, sent to every handler of a run, and to LangGraph's ``stream_mode="custom"``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID, uuid4

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, BaseCallbackManager, CallbackManager
from langchain_core.callbacks.manager import BaseRunManager, ahandle_event, handle_event
from langchain_core.runnables import RunnableConfig, ensure_config

from saliency_guard.adapters import bound

TOKEN = "grounding_token"  # noqa: S105 - an event's name
REPORT = "grounding_report"
REJECTION = "grounding_rejection"
RETRY = "grounding_retry"
PROGRESS = "grounding_progress"

Event = tuple[str, dict[str, Any]]
"""The name and the data of an event."""

Item = TypeVar("Item")


_SILENT: ContextVar[bool] = ContextVar("saliency_guard_silent", default=False)


def silent() -> AbstractContextManager[object]:
    """Calls inside write nothing to a graph's custom stream."""
    return bound(_SILENT, value=True)


def _graph_writer() -> Callable[[Any], None] | None:
    """The custom stream of the LangGraph node that is running; LangGraph itself need not be installed."""
    if _SILENT.get():
        return None
    runtime = (ensure_config().get("configurable") or {}).get("__pregel_runtime")
    writer: Callable[[Any], None] | None = getattr(runtime, "stream_writer", None)
    return writer


@dataclass(frozen=True, slots=True)
class Emitter:
    """Sends the custom events of a run.

    Attributes:
        handlers: receive the events.
        run_id: id of the run.
        tags: tags of the run.
        metadata: metadata of the run.
        write: writes to the custom stream of the graph that the run is part of; None outside of a graph.
    """

    handlers: list[BaseCallbackHandler] = field(default_factory=list)
    run_id: UUID | None = None
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    write: Callable[[Any], None] | None = field(default_factory=_graph_writer)

    @classmethod
    def of_run(cls, manager: BaseRunManager) -> Emitter:
        """An emitter for a run that has a manager."""
        return cls(list(manager.handlers), manager.run_id, list(manager.tags), dict(manager.metadata))

    @classmethod
    def of_config(cls, config: RunnableConfig, local: Any, *, asynchronous: bool) -> Emitter:
        """An emitter for a run of which only the configuration is known, ``run_id`` included.

        `BaseChatModel.stream` does not pass its run manager on.
        """
        kind: type[CallbackManager | AsyncCallbackManager] = AsyncCallbackManager if asynchronous else CallbackManager
        manager = kind.configure(
            config.get("callbacks"),
            local,
            inheritable_tags=config.get("tags"),
            inheritable_metadata=config.get("metadata"),
        )
        return cls(list(manager.handlers), config.get("run_id"), list(manager.tags), dict(manager.metadata))

    @classmethod
    def of_parent(cls) -> Emitter:
        """An emitter for the run that the current call is part of, such as an agent's step; silent outside of one."""
        manager = ensure_config().get("callbacks")
        if not isinstance(manager, BaseCallbackManager) or manager.parent_run_id is None:
            return cls()
        return cls(list(manager.handlers), manager.parent_run_id, list(manager.tags), dict(manager.metadata))

    @property
    def is_heard(self) -> bool:
        """Whether anybody gets the events."""
        return bool(self.handlers) or self.write is not None

    def __call__(self, name: str, data: dict[str, Any]) -> None:
        """Send an event."""
        self._write(name, data)
        if self.handlers:
            handle_event(self.handlers, "on_custom_event", "ignore_custom_event", name, data, **self._run_info())

    async def send(self, name: str, data: dict[str, Any]) -> None:
        """Send an event from a coroutine."""
        self._write(name, data)
        if self.handlers:
            run_info = self._run_info()
            await ahandle_event(self.handlers, "on_custom_event", "ignore_custom_event", name, data, **run_info)

    def _write(self, name: str, data: dict[str, Any]) -> None:
        if self.write is not None:
            self.write({"type": name, "run_id": str(self.run_id) if self.run_id is not None else None, **data})

    def _run_info(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "tags": self.tags, "metadata": self.metadata}


_CURRENT: ContextVar[Emitter | None] = ContextVar("saliency_guard_emitter", default=None)


def current(manager: BaseRunManager | None) -> Emitter:
    """The emitter of the current run: from its manager if there is one, else the caller's."""
    if manager is not None:
        return Emitter.of_run(manager)
    return _CURRENT.get() or Emitter()


def during(emitter: Emitter, call: Callable[[], Item]) -> Item:
    """Call a function while an emitter is current."""
    with bound(_CURRENT, emitter):
        return call()


async def aduring(emitter: Emitter, call: Awaitable[Item]) -> Item:
    """Await a call while an emitter is current."""
    with bound(_CURRENT, emitter):
        return await call


_RUNS: ContextVar[list[bool] | None] = ContextVar("saliency_guard_runs", default=None)


def watched() -> AbstractContextManager[list[bool]]:
    """Whether the model runs inside: the list is empty after a call that a cache answered."""
    runs: list[bool] = []
    return bound(_RUNS, runs)


def note_run() -> None:
    """Say to `watched` that the model runs."""
    runs = _RUNS.get()
    if runs is not None:
        runs.append(True)


def with_run_id(config: RunnableConfig | None) -> RunnableConfig:
    """The configuration with a run id: the given one or a new one."""
    complete = ensure_config(config)
    return complete if complete.get("run_id") else {**complete, "run_id": uuid4()}


def iterate(emitter: Emitter, items: Generator[Item, None, None]) -> Iterator[Item]:
    """Yield the items; the emitter is current while an item is computed, and not between two items."""
    end: Any = object()
    try:
        while (item := during(emitter, lambda: next(items, end))) is not end:
            yield item
    finally:
        items.close()


async def aiterate(emitter: Emitter, items: AsyncGenerator[Item, None]) -> AsyncIterator[Item]:
    """As `iterate`, for asynchronous generators."""
    try:
        while True:
            try:
                item = await aduring(emitter, anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        await items.aclose()
