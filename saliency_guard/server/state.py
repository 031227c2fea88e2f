"""What all requests of one server share: its model, its queue, its metrics, and whether it is shutting down."""

from __future__ import annotations

import threading
import time

from saliency_guard.lvlm import LVLM
from saliency_guard.server.chats import RecentChats
from saliency_guard.server.errors import RequestError
from saliency_guard.server.logs import LOGGER
from saliency_guard.server.metrics import Metrics
from saliency_guard.server.queue import RequestQueue
from saliency_guard.server.settings import ServerSettings


class ServerState:
    """One server.

    Args:
        settings: its settings.

    Attributes:
        settings: its settings.
        queue: its requests.
        metrics: what it counts.
        chats: requests whose answers its guardrail may be asked about.
        in_flight: how many requests are running, without those for health, metrics and models.
        draining: whether it finishes its running requests and takes no new ones.
        created: when it started.
        failure: why the model could not be loaded; None where it could, or is being loaded.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.queue = RequestQueue(settings.max_running, settings.max_waiting)
        self.metrics = Metrics(self.queue)
        self.chats = RecentChats()
        self.in_flight = 0
        self.created = int(time.time())
        self.draining = False
        self.failure: Exception | None = None
        self._lvlm: LVLM | None = None

    def start(self) -> None:
        """Load the model in a thread of its own: the server answers probes meanwhile."""
        threading.Thread(target=self.load, name="saliency-guard-load", daemon=True).start()

    def load(self) -> None:
        """Load the model now; an error is kept as the `failure`."""
        try:
            lvlm = self.settings.loaded()
            self.metrics.batching(lambda: lvlm.batching)
            self._lvlm = lvlm
        except Exception as error:  # noqa: BLE001 - `failure` is what the server ends with
            self.failure = error
            LOGGER.error("the model could not be loaded", exc_info=error, extra={"event": "failed"})
        else:
            LOGGER.info("the model is loaded", extra={"event": "ready", "model": self.settings.name})

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self._lvlm is not None and not self.draining

    @property
    def lvlm(self) -> LVLM:
        """The model.

        Raises:
            RequestError: 503, if it is not loaded yet, or cannot be.
        """
        if self._lvlm is None:
            msg = "the model could not be loaded" if self.failure is not None else "the model is still being loaded"
            raise unavailable(msg, "model_not_loaded")
        return self._lvlm

    def require_name(self, name: str | None) -> str:
        """What a request calls the model, if it is called that.

        Raises:
            RequestError: 404, if it is not.
        """
        names = (self.settings.name, self.settings.model, self.lvlm.model_id)
        if name is not None and name not in names:
            msg = f"there is no model {name[:200]!r} here: this server has {self.settings.name!r}"
            raise RequestError(404, msg, code="model_not_found", param="model")
        return name or self.settings.name

    def drain(self) -> None:
        """Take no new requests."""
        self.draining = True


def unavailable(message: str, code: str) -> RequestError:
    """An error for a server that does not answer now, and may later."""
    return RequestError(503, message, kind="server_error", code=code, headers={"retry-after": "2"})
