"""What runs in the process of a Ray actor; it imports nothing itself, so that a new worker is there at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class ModelWorker:
    """A model and the work on it."""

    def __init__(self) -> None:
        self._lvlm: Any = None

    def load(self, load: Callable[[], Any]) -> None:
        """Load the model; not where the actor is made, so that an error of it is told from a death."""
        self._lvlm = load()

    def run(self, work: Callable[[Any, Sequence[Any]], Sequence[Any]], items: Sequence[Any]) -> list[Any]:
        """Work on a batch."""
        return list(work(self._lvlm, items))
