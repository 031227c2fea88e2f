"""The workers of a Ray cluster: actors with a model each, replaced where they die."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from saliency_guard.engines.engine import Engine, Item, Load, Lost, Result
from saliency_guard.engines.worker import ModelWorker
from saliency_guard.errors import ConfigError, ModelError, require_extra
from saliency_guard.lvlm import LVLM

_DEATHS = 2
"""How many workers a batch, and then an item alone, may end before it is taken for the cause."""
_STARTS = 3
"""How many workers in a row may die before their model is loaded."""


@dataclass(slots=True)
class _Task:
    """The items of a batch for one worker.

    Attributes:
        batch: number of the batch.
        first: position of the first of them in the batch.
        items: the items.
        deaths: how many workers died of it.
    """

    batch: int
    first: int
    items: Sequence[Any]
    deaths: int = 0

    def parts(self) -> list[_Task]:
        """Each item alone."""
        return [_Task(self.batch, self.first + index, [item]) for index, item in enumerate(self.items)]


@dataclass(slots=True)
class _Pending:
    """Tasks that wait for a worker, and the results of batches that are not finished."""

    batches: Iterator[tuple[int, Sequence[Any]]]
    again: deque[_Task] = field(default_factory=deque)
    results: dict[int, dict[int, Any]] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    exhausted: bool = False

    def next(self) -> _Task | None:
        """The next task: one that has to be done again, or the next batch."""
        if self.again:
            return self.again.popleft()
        number, items = next(self.batches, (-1, ()))
        if number < 0:
            self.exhausted = True
            return None
        self.sizes[number] = len(items)
        self.results[number] = {}
        return _Task(number, 0, items)

    @property
    def is_done(self) -> bool:
        """Whether every batch has come out."""
        return self.exhausted and not self.results

    def finish(self, task: _Task, results: Sequence[Any]) -> list[Any] | None:
        """Keep results; all those of the batch where it is finished."""
        if len(results) != len(task.items):
            msg = f"the work on {len(task.items)} items gave {len(results)} results"
            raise ValueError(msg)
        kept = self.results[task.batch]
        kept.update(enumerate(results, task.first))
        if len(kept) < self.sizes[task.batch]:
            return None
        del self.results[task.batch]
        return [kept[position] for position in range(self.sizes[task.batch])]


class RayEngine(Engine):
    """Workers of a Ray cluster.

    A worker that dies is replaced, and its batch is done again. A batch that ends two workers is done item by item;
    an item that ends two more is `Lost`.

    Args:
        load: loads the model, in each worker.
        workers: how many; None is as many as the cluster has room for.
        num_cpus: cores of each.
        num_gpus: GPUs of each; a fraction lets several workers share one.
        address: of a cluster; None is the one of this process or of ``RAY_ADDRESS``, or a new one on this machine.

    Raises:
        MissingExtraError: if Ray is not installed.
        ConfigError: if a number is out of range.
    """

    def __init__(
        self,
        load: Load,
        *,
        workers: int | None = None,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        address: str | None = None,
    ) -> None:
        require_extra("ray", "Ray", "ray")
        for name, value, least in (("workers", workers, 1), ("num_cpus", num_cpus, 0), ("num_gpus", num_gpus, 0)):
            if value is not None and value < least:
                msg = f"{name}={value} is below {least}"
                raise ConfigError(msg)
        self._load = load
        self._workers = workers
        self._needs = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self._address = address
        self._own_cluster = False
        self._idle: deque[Any] = deque()
        self._busy: dict[Any, tuple[Any, _Task | None]] = {}
        self._starts = 0

    def __enter__(self) -> Self:
        ray = _ray()
        if not ray.is_initialized():
            ray.init(address=self._address, include_dashboard=False, log_to_driver=False)
            self._own_cluster = True
        for _ in range(self._workers or self._room(ray.cluster_resources())):
            self._start_worker()
        return self

    def _room(self, resources: dict[str, float]) -> int:
        """How many workers the cluster has room for."""
        rooms = [
            resources.get(name, 0.0) / needed
            for name, needed in (("CPU", self._needs["num_cpus"]), ("GPU", self._needs["num_gpus"]))
            if needed
        ]
        room = int(min(rooms, default=1.0))
        if room < 1:
            msg = f"the cluster has no room for a worker with {self._needs}: it has {resources}"
            raise ConfigError(msg)
        return room

    def _start_worker(self) -> None:
        # Neither restarted nor tried again by Ray itself: which batch is done again is decided here.
        worker = _ray().remote(max_restarts=0, max_task_retries=0, **self._needs)(ModelWorker).remote()
        self._busy[worker.load.remote(self._load)] = worker, None

    def map(
        self, work: Callable[[LVLM, Sequence[Item]], Sequence[Result]], batches: Iterable[Sequence[Item]]
    ) -> Iterator[tuple[int, list[Result | Lost]]]:
        """See `Engine.map`."""
        ray = _ray()
        shared_work = ray.put(work)
        pending = _Pending(iter(enumerate(batches)))
        try:
            while True:
                while self._idle and (task := pending.next()) is not None:
                    worker = self._idle.popleft()
                    self._busy[worker.run.remote(shared_work, task.items)] = worker, task
                if pending.is_done:
                    return
                (ready,), _ = ray.wait(list(self._busy), num_returns=1)
                task, results = self._collect(ready, pending)
                if task is not None and (batch := pending.finish(task, results)) is not None:
                    yield task.batch, batch
        finally:  # Where the run was left, the workers are free after what they are doing.
            self._busy = {reference: (worker, None) for reference, (worker, _) in self._busy.items()}

    def _collect(self, ready: Any, pending: _Pending) -> tuple[_Task | None, list[Any]]:
        """A task that is finished, and its results; None where a worker was loading, or died and it is done again."""
        from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415 - an extra

        ray = _ray()
        worker, task = self._busy.pop(ready)
        try:
            results = ray.get(ready)
        except RayTaskError as error:
            self._idle.append(worker)
            raise error.cause from error
        except RayError as error:
            ray.kill(worker)
            problem = str(error).strip().split("\n", 1)[0]
            self._count_start(problem, was_loading=task is None)
            self._start_worker()
            if task is None:
                return None, []
            task.deaths += 1
            if task.deaths < _DEATHS:
                pending.again.append(task)
            elif len(task.items) > 1:
                pending.again.extend(task.parts())
            else:
                return task, [Lost(f"{_DEATHS} workers died while they worked on it: {problem}")]
            return None, []
        self._starts = 0
        self._idle.append(worker)
        return task, results

    def _count_start(self, problem: str, *, was_loading: bool) -> None:
        self._starts = self._starts + 1 if was_loading else 0
        if self._starts >= _STARTS:
            msg = f"{_STARTS} workers in a row died while they loaded the model: {problem}"
            raise ModelError(msg)

    def __exit__(self, *_: object) -> None:
        """End the workers, and the cluster where it was started here."""
        ray = _ray()
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            ray.kill(worker)
        self._idle.clear()
        self._busy.clear()
        if self._own_cluster:
            ray.shutdown()
            self._own_cluster = False


def _ray() -> Any:
    """Ray, whose own types do not say what can be called with what."""
    import ray  # noqa: PLC0415 - an extra

    return ray
