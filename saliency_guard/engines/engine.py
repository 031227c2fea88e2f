"""What an engine is, and the one of this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from saliency_guard.errors import ModelError
from saliency_guard.lvlm import LVLM

Item = TypeVar("Item")
Result = TypeVar("Result")

Load = Callable[[], LVLM]
"""Loads the model; it is sent to other processes, such as ``partial(LVLM.load, "embedded")``."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An item that ended every process that worked on it."""

    error: str


class Engine(ABC):
    """Works on batches of items, each with a model that is loaded once per worker.

    Use it as a context manager: its workers are there until it ends.
    """

    @abstractmethod
    def map(
        self, work: Callable[[LVLM, Sequence[Item]], Sequence[Result]], batches: Iterable[Sequence[Item]]
    ) -> Iterator[tuple[int, list[Result | Lost]]]:
        """Work on batches; every batch comes out exactly once, whatever happens to workers.

        Args:
            work: what is to be done with a batch; gives one result for each item, in order. An error that it raises
                ends the run.
            batches: the batches; they are taken as workers become free.

        Yields:
            The number of a batch and its results, as they are finished.
        """

    def ask_worker(self, question: Callable[[LVLM], Result]) -> Result:
        """Ask one worker about its model.

        Raises:
            ModelError: if no worker lives long enough to say it.
        """
        ((_, (result,)),) = self.map(_Asking(question), [[None]])
        if isinstance(result, Lost):
            raise ModelError(result.error)
        return result

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class _Asking(Generic[Result]):
    """A question about the model as work on a batch of nothing; a class, because a closure may not be sent on."""

    question: Callable[[LVLM], Result]

    def __call__(self, lvlm: LVLM, _: Sequence[None]) -> Sequence[Result]:
        return [self.question(lvlm)]


class LocalEngine(Engine):
    """One worker: this process.

    Args:
        lvlm: a loaded model, or what loads it when it is first needed.
    """

    def __init__(self, lvlm: LVLM | Load) -> None:
        self._lvlm = lvlm

    @property
    def lvlm(self) -> LVLM:
        """The model."""
        if not isinstance(self._lvlm, LVLM):
            self._lvlm = self._lvlm()
        return self._lvlm

    def map(
        self, work: Callable[[LVLM, Sequence[Item]], Sequence[Result]], batches: Iterable[Sequence[Item]]
    ) -> Iterator[tuple[int, list[Result | Lost]]]:
        """See `Engine.map`."""
        for number, batch in enumerate(batches):
            yield number, list(work(self.lvlm, batch))

    def __enter__(self) -> Self:
        """Load the model."""
        _ = self.lvlm
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


def engine_of(model: LVLM | Engine) -> Engine:
    """The engine of this process for a loaded model; an engine as it is."""
    return LocalEngine(model) if isinstance(model, LVLM) else model
