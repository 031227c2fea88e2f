"""The labelled answers that the evidence on calibration is measured on: made once, and anew for other weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from saliency_guard.calibration.records import Records
from saliency_guard.evaluation.engine_records import empty_records
from saliency_guard.evaluation.labelling import Looking, write_records
from saliency_guard.evaluation.questions import Question
from saliency_guard.evaluation.record_file import RecordFile
from saliency_guard.evaluation.unlike import photograph_questions, synthetic_questions
from saliency_guard.evaluation.world_records import WorldRun, generation, world_records
from saliency_guard.lvlm import LVLM
from saliency_guard.scenes import tuxpaint

DRAWS = 3
"""Answers to a question about one scene: the first, and two retries."""
WORLD = ("training styles", "openmoji", "tuxpaint")
UNLIKE = ("photographs", "synthetic pictures")
_LOOKING = Looking(vectors=False)


def evidence_sources() -> tuple[str, ...]:
    """What can be measured here: Tux Paint only where its stamps are installed."""
    return tuple(name for name in (*WORLD, *UNLIKE) if name != tuxpaint.NAME or tuxpaint.installed())


@dataclass(frozen=True, slots=True)
class EvidenceRun:
    """How many pictures of each source are asked about.

    Attributes:
        scenes: of each split of the picture world.
        several: prompts with two, three and four pictures each, in the training styles.
    """

    scenes: int
    several: int

    def world(self, split: str) -> WorldRun:
        """The run over a split."""
        several = self.several if split == WORLD[0] else 0
        return WorldRun(split=split, scenes=self.scenes, several=several, draws=DRAWS, given=True)

    def unlike(self, source: str) -> list[Question]:
        """The questions about pictures unlike the world's."""
        if source == UNLIKE[0]:
            return list(photograph_questions())
        return list(synthetic_questions(self.scenes))

    def answers(self, source: str) -> int:
        """How many answers there will be."""
        return self.world(source).answers if source in WORLD else len(self.unlike(source))


def evidence_records(
    lvlm: LVLM, source: str, run: EvidenceRun, folder: Path, *, on_answer: Callable[[], None] = lambda: None
) -> Records:
    """The labelled answers of a source; an interrupted run is resumed.

    Args:
        lvlm: what answers.
        source: one of `evidence_sources`.
        run: how many.
        folder: where they are kept; those of other weights have other names.
        on_answer: called after each that is not there yet.
    """
    empty = empty_records(lvlm, _LOOKING, generation(run.world(WORLD[0])))
    size = f"{run.scenes}+{run.several}" if source == WORLD[0] and run.several else f"{run.scenes}"
    path = folder / f"{source.replace(' ', '-')}-{size}-{empty.fingerprint.weights[:8]}.jsonl"
    if path.is_file():
        return Records.load(path)
    file = RecordFile(path, empty)
    if source in WORLD:
        return world_records(lvlm, run.world(source), looking=_LOOKING, file=file, on_answer=on_answer)
    return _asked_records(lvlm, run.unlike(source), file, on_answer)


def _asked_records(
    lvlm: LVLM, questions: Iterable[Question], file: RecordFile, on_answer: Callable[[], None]
) -> Records:
    for record in write_records(lvlm, questions, looking=_LOOKING, done=file.done, on_answer=on_answer):
        file.add(record)
    return file.finish()
