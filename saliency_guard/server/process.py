"""The server as a process: it listens, and on SIGTERM finishes its running requests."""

from __future__ import annotations

import time
from types import FrameType

import uvicorn
from transformers.utils.logging import disable_progress_bar

from saliency_guard.server.app import app_of
from saliency_guard.server.arenas import limit_arenas
from saliency_guard.server.logs import LOGGER, log_to_stderr
from saliency_guard.server.settings import ServerSettings
from saliency_guard.server.state import ServerState

_CONNECTIONS = 1024
_LAST_SECONDS = 5


class DrainingServer(uvicorn.Server):
    """A server that goes on listening while it drains: new requests are told so, those it has are answered.

    Args:
        config: of uvicorn.
        state: of the server.
    """

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self._state = state
        self._until = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins to drain, the second ends the process."""
        if self._state.draining:
            super().handle_exit(sig, frame)
            return
        self._state.drain()
        self._until = time.monotonic() + self._state.settings.shutdown_timeout

    async def on_tick(self, counter: int) -> bool:
        """Whether it is time to end."""
        state = self._state
        if state.failure is not None or (state.draining and (not state.in_flight or time.monotonic() > self._until)):
            self.should_exit = True
        return await super().on_tick(counter)


def serve(settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT, and what was asked before it.

    The process is the server's from here on: on Linux its threads share two arenas of malloc (`limit_arenas`).

    Args:
        settings: of the server.

    Raises:
        SaliencyGuardError: if the model cannot be loaded.
    """
    limit_arenas()
    log_to_stderr()
    disable_progress_bar()
    state = ServerState(settings)
    config = uvicorn.Config(
        app_of(state),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    if settings.api_key is None:
        LOGGER.warning("there is no token: every process of this machine may use the server", extra={"event": "open"})
    DrainingServer(config, state).run()
    if state.failure is not None:
        raise state.failure
