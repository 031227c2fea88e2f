"""``saliency-guard records``: labelled answers, to fit and to test a calibration on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from saliency_guard.cli.engines import Address, EngineName, GPUs, Workers, engine_named
from saliency_guard.cli.options import (
    MAX_NEW_TOKENS,
    RETRY_TEMPERATURE,
    Coco,
    Images,
    Limit,
    Model,
    Out,
    Pope,
    Quantize,
    Synonyms,
)
from saliency_guard.cli.shared import progress, reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError

if TYPE_CHECKING:
    from saliency_guard.engines.engine import Engine
    from saliency_guard.evaluation.labelled import LabelledAnswer
    from saliency_guard.evaluation.labelling import Looking
    from saliency_guard.evaluation.questions import Question
    from saliency_guard.evaluation.record_file import RecordFile
    from saliency_guard.evaluation.world_records import WorldRun

SCENES = "calibration"
"""The split of the picture world that calibrations are fitted on."""

_Draws = Annotated[int, typer.Option(min=1, help="Answers to each question; a policy with n retries needs n + 1.")]
_Temperature = Annotated[float, typer.Option(min=0.0, help="Temperature of the first answer; 0 is greedy.")]
_RetryTemperature = Annotated[float, typer.Option(min=0.0, help="Lowest temperature of the other answers.")]
_MaxNewTokens = Annotated[int, typer.Option(min=1, help="Largest number of tokens in an answer.")]


def records(
    *,
    out: Out,
    model: Model = EMBEDDED,
    quantize: Quantize = None,
    scenes: Annotated[int | None, typer.Option(min=1, help="Number of picture-world scenes to ask about.")] = None,
    several: Annotated[
        int, typer.Option(min=0, help="With --scenes: prompts with two, three and four pictures, so many of each.")
    ] = 0,
    redrawn: Annotated[
        int, typer.Option(min=0, help="With --scenes: further scenes, drawn unlike all others; fits learn from them.")
    ] = 0,
    documents: Annotated[
        int, typer.Option(min=0, help="Number of prompts with text documents to ask about; with --scenes or alone.")
    ] = 0,
    pope: Pope = None,
    coco: Coco = None,
    labelled: Annotated[
        Path | None, typer.Option(help="Your own answers (JSONL): image, question, answer, grounded, mentions.")
    ] = None,
    images: Images = None,
    synonyms: Synonyms = None,
    split: Annotated[str, typer.Option(help="With --scenes: the split of the picture world.")] = SCENES,
    draws: _Draws = 1,
    temperature: _Temperature = 0.0,
    retry_temperature: _RetryTemperature = RETRY_TEMPERATURE,
    max_new_tokens: _MaxNewTokens = MAX_NEW_TOKENS,
    limit: Limit = None,
    given: Annotated[
        bool, typer.Option("--given", help="With --scenes: also score given answers, true and false ones.")
    ] = False,
    vectors: Annotated[
        bool, typer.Option(help="Also keep the signals per layer and head, not only the summary signals.")
    ] = True,
    engine: EngineName = "local",
    workers: Workers = None,
    num_gpus: GPUs = 0.0,
    ray_address: Address = None,
) -> None:
    """Make labelled records: ask about pictures whose truth is known, and score every answer.

    Interrupted, the same command resumes where it was.
    """
    from saliency_guard.evaluation.engine_records import empty_records, labelled_answers_records
    from saliency_guard.evaluation.labelling import Looking
    from saliency_guard.evaluation.record_file import RecordFile
    from saliency_guard.evaluation.world_records import WorldRun, generation, world_records

    with reported():
        run = WorldRun(
            split=split,
            scenes=scenes or 0,
            several=several,
            draws=draws,
            temperature=temperature,
            retry_temperature=retry_temperature,
            max_new_tokens=max_new_tokens,
            given=given,
            documents=documents,
            redrawn=redrawn,
        )
        looking = Looking(vectors=vectors)
        source = _records_source(run, pope, coco, labelled, images, synonyms, limit)
        with engine_named(
            engine, model, workers=workers, num_gpus=num_gpus, address=ray_address, quantize=quantize
        ) as chosen:
            file = RecordFile(out, empty_records(chosen, looking, None if labelled is not None else generation(run)))
            if isinstance(source, WorldRun):
                with progress("answers", source.answers) as done:
                    made = world_records(chosen, source, looking=looking, file=file, on_answer=done)
            else:
                questions, answers = source
                ask_all(chosen, questions, run, file, looking=looking)
                with progress("given answers", len(answers)) as done:
                    folder = labelled.parent if labelled is not None else Path()
                    for record in labelled_answers_records(
                        chosen, answers, folder, looking=looking, done=file.done, on_answer=done
                    ):
                        file.add(record)
                made = file.finish()
    wrong = sum(record.grounded is False for record in made)
    unknown = sum(record.grounded is None for record in made)
    not_known = f", {unknown} of which it is not known" if unknown else ""
    Console().print(f"{out}: {len(made)} answers, {wrong} of them not grounded{not_known}")


def _records_source(  # noqa: PLR0917 - one caller's options
    run: WorldRun,
    pope: Path | None,
    coco: Path | None,
    labelled: Path | None,
    images: Path | None,
    synonyms: Path | None,
    limit: int | None,
) -> WorldRun | tuple[Sequence[Question], Sequence[LabelledAnswer]]:
    """The questions to ask or the answers to label: of scenes, or from files."""
    from saliency_guard.evaluation.labelled import read_labelled
    from saliency_guard.evaluation.world import pictures

    made_up = run.scenes > 0 or run.documents > 0
    if sum([made_up, pope is not None, coco is not None, labelled is not None]) != 1:
        msg = (
            "give exactly one source of records: --scenes N (with or without --documents N), --pope FILE, --coco FILE "
            "or --labelled FILE"
        )
        raise ConfigError(msg)
    if made_up:
        next(pictures(run.split, 1))  # What is missing is said before the work.
        return run
    if labelled is not None:
        return (), read_labelled(labelled)[:limit]
    return photo_questions(pope, coco, images, synonyms, limit), ()


def photo_questions(
    pope: Path | None, coco: Path | None, images: Path | None, synonyms: Path | None, limit: int | None
) -> list[Question]:
    """What is asked about photographs whose truth is known: POPE's questions, and COCO's pictures to be described.

    Args:
        pope: POPE's file.
        coco: COCO's instances.
        images: folder with the pictures of both.
        synonyms: CHAIR's list.
        limit: of the questions, and of the pictures to be described.

    Raises:
        ConfigError: if there is no folder.
        InputError: if a file is of another form, or pictures are missing.
    """
    from saliency_guard.evaluation.files import read_instances, read_pope
    from saliency_guard.evaluation.mentions import ObjectVocabulary
    from saliency_guard.evaluation.questions import caption_questions, pope_questions
    from saliency_guard.scenes.language import DESCRIBE

    if images is None:
        msg = "--pope and --coco need --images, the folder with the pictures"
        raise ConfigError(msg)
    questions = list(pope_questions(read_pope(pope, images, limit))) if pope is not None else []
    if coco is not None:
        vocabulary = ObjectVocabulary.coco(synonyms)
        shown = read_instances(coco, images, limit)
        vocabulary.require(frozenset().union(*(picture.shown for picture in shown)))
        questions += caption_questions(shown, vocabulary, DESCRIBE)
    return questions


def ask_all(
    engine: Engine, questions: Sequence[Question], run: WorldRun, file: RecordFile, *, looking: Looking
) -> None:
    """Ask, and write the records of the answers to a file; those that are there are not made again.

    Args:
        engine: where the questions are answered.
        questions: what is asked.
        run: how answers are written; its scenes are nobody's.
        file: where the records go.
        looking: how answers are looked at.
    """
    from saliency_guard.evaluation.engine_records import Writing, written_records

    writing = Writing(run.draws, run.temperature, run.retry_temperature, run.max_new_tokens)
    with progress("answers", writing.answers(len(questions))) as done:
        for record in written_records(engine, questions, writing, looking=looking, done=file.done, on_answer=done):
            file.add(record)
