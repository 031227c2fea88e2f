"""The context of an agent's step that may be discarded."""

from __future__ import annotations

from typing import Any

from llama_index.core.agent.workflow.agent_context import AgentContext
from llama_index.core.agent.workflow.workflow_events import AgentStream
from llama_index.core.workflow import Context


class DraftContext:
    """The context of a step that may be discarded: what it stores and streams is held back until `commit`.

    Args:
        context: the agent's context.
        is_live: whether events are streamed as they come: nothing of the step will be discarded.
    """

    def __init__(self, context: AgentContext, *, is_live: bool = False) -> None:
        self._context = context
        self._is_live = is_live
        self._values: dict[str, Any] = {}
        self._streamed: list[Any] = []

    @property
    def store(self) -> Any:
        return self

    @property
    def is_running(self) -> bool:
        # A workflow is always running inside a step, and `Context.is_running` cannot be read there.
        return isinstance(self._context, Context) or self._context.is_running

    async def get(self, path: str, default: Any = None) -> Any:
        if path in self._values:
            return self._values[path]
        stored = await self._context.store.get(path, default=default)
        # Agents append to the list they get: the stored list must not change.
        return list(stored) if isinstance(stored, list) else stored

    async def set(self, path: str, value: Any) -> None:
        self._values[path] = value

    def write_event_to_stream(self, event: Any) -> None:
        if self._is_live:
            self._context.write_event_to_stream(event)
        else:
            self._streamed.append(event)

    async def commit(self, replaced: AgentStream | None = None) -> None:
        """Store and stream what was held back.

        Args:
            replaced: streamed instead of the model's answer.
        """
        for path, value in self._values.items():
            await self._context.store.set(path, value)
        for event in self._streamed if replaced is None else [replaced]:
            self._context.write_event_to_stream(event)
