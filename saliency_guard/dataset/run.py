"""A whole file, scored: in shards, each record exactly once, and where it was when it was interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

from saliency_guard.dataset.rows import LARGEST, Question, Row, is_parquet, load_question, read_rows
from saliency_guard.dataset.scoring import Problem, Scored, ScoreQuestions, Scoring
from saliency_guard.dataset.shards import Format, SetAside, ShardFolder
from saliency_guard.engines.engine import Engine, Lost
from saliency_guard.engines.weights import model_settings
from saliency_guard.errors import ConfigError, InputError
from saliency_guard.storage import digest_of


@dataclass(frozen=True, slots=True)
class Summary:
    """The summary of a run.

    Attributes:
        scored: records that were scored, those without a score included.
        unscored: those of them whose grounding is not known; their reports say why.
        set_aside: records that could not be scored; ``errors/`` says why.
    """

    scored: int
    unscored: int
    set_aside: int


def score_dataset(
    file: Path,
    out: Path,
    engine: Engine,
    *,
    model: str,
    scoring: Scoring = Scoring(),  # noqa: B008 - frozen
    form: Format | None = None,
    shard_size: int = 64,
    on_records: Callable[[int], None] = lambda _: None,
) -> Summary:
    """Score all records of a file.

    Args:
        file: JSONL or parquet; a record has ``question`` and ``image`` (or ``images``), or ``messages``, and may have
            ``id`` and ``answer``. Without an answer one is written. Paths of pictures are from the file's folder.
        out: folder of the results; a run that was interrupted goes on there.
        engine: where the work is done.
        model: name of the model, for the run's settings.
        scoring: how records are scored.
        form: of the results; None is that of the file.
        shard_size: records of a shard: so many are done again at most where a run is interrupted.
        on_records: called with how many records were finished, those of an earlier run included.

    Raises:
        InputError: if the file cannot be read, or the folder has another run.
        ConfigError: if the policy needs a calibration and the model has none.
    """
    if shard_size < 1:
        msg = f"shard_size={shard_size} is below 1"
        raise ConfigError(msg)
    policy = scoring.policy.model_dump_json() if scoring.policy is not None else ""
    settings: dict[str, Any] = {
        "file": file.name,
        "file_sha256": digest_of(file, max_bytes=LARGEST),
        **engine.ask_worker(partial(model_settings, model=model)),
        **scoring.model_dump(exclude={"policy", "batch_size"}),
        "policy_sha256": hashlib.sha256(policy.encode()).hexdigest()[:16] if policy else None,
        "shard_size": shard_size,
    }
    folder = ShardFolder(out, settings, form or ("parquet" if is_parquet(file) else "jsonl"))
    shards = _Shards(file, shard_size, folder, on_records)
    for batch, results in engine.map(ScoreQuestions(scoring), shards.questions()):
        shards.finish(batch, results)
    done = folder.done.values()
    return Summary(
        sum(shard.scored for shard in done),
        sum(shard.unscored for shard in done),
        sum(shard.set_aside for shard in done),
    )


class _Shards:
    """The shards of a file that are not done yet, with the progress of those in work."""

    def __init__(self, file: Path, size: int, folder: ShardFolder, on_records: Callable[[int], None]) -> None:
        self._file = file
        self._size = size
        self._folder = folder
        self._on_records = on_records
        self._started: list[tuple[int, list[Row], list[SetAside]]] = []

    def questions(self) -> Iterator[list[Question]]:
        """The records of each shard that can be worked on."""
        rows = read_rows(self._file)
        for number in count():
            shard = list(islice(rows, self._size))
            if not shard:
                return
            if number in self._folder.done:
                self._on_records(len(shard))
                continue
            loaded: list[Question] = []
            good: list[Row] = []
            set_aside: list[SetAside] = []
            for row in shard:
                try:
                    loaded.append(load_question(row, self._file.parent))
                    good.append(row)
                except InputError as error:
                    set_aside.append(_set_aside(row, Problem.of(error)))
            self._started.append((number, good, set_aside))
            yield loaded

    def finish(self, batch: int, results: Sequence[Scored | Problem | Lost]) -> None:
        """Write what came of a shard."""
        number, rows, set_aside = self._started[batch]
        scored: list[Scored] = []
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Scored):
                scored.append(result)
            else:
                problem = Problem(error="WorkerDied", message=result.error) if isinstance(result, Lost) else result
                set_aside.append(_set_aside(row, problem))
        self._folder.write(number, scored, sorted(set_aside, key=lambda record: record.record))
        self._on_records(len(scored) + len(set_aside))


def _set_aside(row: Row, problem: Problem) -> SetAside:
    return SetAside(id=row.id, record=row.number + 1, error=problem.error, message=problem.message)
