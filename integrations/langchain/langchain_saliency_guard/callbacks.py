"""Callback handlers with a method for each grounding event."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler

from langchain_saliency_guard._events import PROGRESS, REJECTION, REPORT, RETRY, TOKEN

_METHODS = {
    TOKEN: "on_grounding_token",
    REPORT: "on_grounding_report",
    REJECTION: "on_grounding_rejection",
    RETRY: "on_grounding_retry",
    PROGRESS: "on_grounding_progress",
}


class GroundingCallbackHandler(BaseCallbackHandler):
    """Override the methods of the events you need; the others do nothing.

    Every handler also gets these events through ``on_custom_event``, under the names ``grounding_token``,
    ``grounding_report``, ``grounding_rejection``, ``grounding_retry`` and ``grounding_progress``; in a LangGraph graph
    ``stream_mode="custom"`` has them, too, as ``{"type": name, "run_id": ..., **data}``.
    """

    def on_grounding_token(self, token: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """A token was written: the fields of `saliency_guard.TokenGrounding`; its ``grounding`` is not known yet.

        ``attempt`` is the number of the attempt it belongs to.
        """

    def on_grounding_report(self, report: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """An answer is finished, or comes from a cache: the report in its ``response_metadata["grounding"]``.

        ``attempt`` is the number of the attempt that is given out; None where none is, and for an answer from a cache.
        """

    def on_grounding_rejection(self, rejection: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """SGRS rejected a candidate.

        Its ``text, token_id, logprob, saliency``, the ``position``, the ``threshold``, and the ``taken`` token.
        """

    def on_grounding_retry(self, attempt: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """A policy retries after this ``attempt``: its number, ``verdict``, ``score`` and ``reason``.

        Its ``text`` is there with ``report="full"`` only.
        """

    def on_grounding_progress(self, progress: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """Under a policy: the ``state`` of an ``attempt``, ``"writing"`` or ``"judging"``; nothing of its text."""

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Pass a grounding event on to its method."""
        if name in _METHODS:
            getattr(self, _METHODS[name])(data, run_id=run_id, **kwargs)


class AsyncGroundingCallbackHandler(AsyncCallbackHandler):
    """`GroundingCallbackHandler` with coroutines."""

    async def on_grounding_token(self, token: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """As `GroundingCallbackHandler.on_grounding_token`."""

    async def on_grounding_report(self, report: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """As `GroundingCallbackHandler.on_grounding_report`."""

    async def on_grounding_rejection(self, rejection: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """As `GroundingCallbackHandler.on_grounding_rejection`."""

    async def on_grounding_retry(self, attempt: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """As `GroundingCallbackHandler.on_grounding_retry`."""

    async def on_grounding_progress(self, progress: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        """As `GroundingCallbackHandler.on_grounding_progress`."""

    async def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Pass a grounding event on to its method."""
        if name in _METHODS:
            await getattr(self, _METHODS[name])(data, run_id=run_id, **kwargs)
