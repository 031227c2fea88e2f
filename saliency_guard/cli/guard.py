"""``saliency-guard records``, ``calibrate`` and ``check``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from saliency_guard.cli.engines import Address, EngineName, GPUs, Workers, engine_named
from saliency_guard.cli.options import MAX_NEW_TOKENS, RETRY_TEMPERATURE, Json, Model
from saliency_guard.cli.shared import load, progress, reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError

if TYPE_CHECKING:
    from saliency_guard.calibration.calibrator import Calibrator
    from saliency_guard.calibration.guarantee import NoGuarantee, RiskGuarantee
    from saliency_guard.calibration.records import Records
    from saliency_guard.calibration.reliability import Reliability
    from saliency_guard.engines.engine import Engine
    from saliency_guard.evaluation.labelled import LabelledAnswer
    from saliency_guard.evaluation.questions import Asked
    from saliency_guard.evaluation.world_records import WorldRun
    from saliency_guard.scenes.claims import Extractor

REFUSED = 3
NO_GUARANTEE = 1
_SCENES = "calibration"

_Out = Annotated[Path, typer.Option(help="The file to write.", show_default=False)]
_Draws = Annotated[int, typer.Option(min=1, help="Answers to each question; a policy with n retries needs n + 1.")]
_Temperature = Annotated[float, typer.Option(min=0.0, help="Temperature of the first answer; 0 is greedy.")]
_RetryTemperature = Annotated[float, typer.Option(min=0.0, help="Lowest temperature of the other answers.")]
_Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first so many.")]
_MaxNewTokens = Annotated[int, typer.Option(min=1, help="Largest number of tokens in an answer.")]


def records(
    *,
    out: _Out,
    model: Model = EMBEDDED,
    scenes: Annotated[int | None, typer.Option(min=1, help="Number of picture-world scenes to ask about.")] = None,
    several: Annotated[
        int, typer.Option(min=0, help="With --scenes: prompts with two, three and four pictures, so many of each.")
    ] = 0,
    pope: Annotated[Path | None, typer.Option(help="POPE's questions (JSONL); needs --images.")] = None,
    coco: Annotated[
        Path | None, typer.Option(help="COCO's instances (JSON): pictures to describe; needs --images.")
    ] = None,
    labelled: Annotated[
        Path | None, typer.Option(help="Your own answers (JSONL): image, question, answer, grounded, mentions.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder with the pictures of --pope and --coco.")] = None,
    synonyms: Annotated[Path | None, typer.Option(help="With --coco: CHAIR's list of synonyms.")] = None,
    split: Annotated[str, typer.Option(help="With --scenes: the split of the picture world.")] = _SCENES,
    draws: _Draws = 1,
    temperature: _Temperature = 0.0,
    retry_temperature: _RetryTemperature = RETRY_TEMPERATURE,
    max_new_tokens: _MaxNewTokens = MAX_NEW_TOKENS,
    limit: _Limit = None,
    told: Annotated[
        bool, typer.Option("--told", help="With --scenes: also score given answers, true and false ones.")
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

    Stopped, the same command goes on where it was.
    """
    from saliency_guard.evaluation.engine_records import (
        Writing,
        empty_records,
        labelled_answers_records,
        written_records,
    )
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
            told=told,
        )
        looking = Looking(vectors=vectors)
        source = _records_source(run, pope, coco, labelled, images, synonyms, limit)
        with engine_named(engine, model, workers=workers, num_gpus=num_gpus, address=ray_address) as chosen:
            file = RecordFile(out, empty_records(chosen, looking, None if labelled is not None else generation(run)))
            if isinstance(source, WorldRun):
                with progress("answers", source.answers) as done:
                    made = world_records(chosen, source, looking=looking, file=file, on_answer=done)
            else:
                questions, answers = source
                writing = Writing(draws, temperature, retry_temperature, max_new_tokens)
                folder = labelled.parent if labelled is not None else Path()
                with progress("answers", writing.answers(len(questions)) + len(answers)) as done:
                    kept: dict[str, Any] = {"looking": looking, "done": file.done, "on_answer": done}
                    for record in chain(
                        written_records(chosen, questions, writing, **kept),
                        labelled_answers_records(chosen, answers, folder, **kept),
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
) -> WorldRun | tuple[Sequence[Asked], Sequence[LabelledAnswer]]:
    """What is to be asked, or was answered: scenes, or questions and answers."""
    from saliency_guard.evaluation.files import read_instances, read_pope
    from saliency_guard.evaluation.labelled import read_labelled
    from saliency_guard.evaluation.mentions import ObjectVocabulary
    from saliency_guard.evaluation.questions import caption_questions, pope_questions
    from saliency_guard.evaluation.world import pictures
    from saliency_guard.scenes.language import DESCRIBE

    if sum([run.scenes > 0, pope is not None, coco is not None, labelled is not None]) != 1:
        msg = "give exactly one source of records: --scenes N, --pope FILE, --coco FILE or --labelled FILE"
        raise ConfigError(msg)
    if run.scenes:
        next(pictures(run.split, 1))  # What is missing is said before the work.
        return run
    if labelled is not None:
        return (), read_labelled(labelled)[:limit]
    if images is None:
        msg = "--pope and --coco need --images, the folder with the pictures"
        raise ConfigError(msg)
    if pope is not None:
        return list(pope_questions(read_pope(pope, images, limit))), ()
    assert coco is not None  # noqa: S101 - one of the four is given
    vocabulary = ObjectVocabulary.coco(synonyms)
    shown = read_instances(coco, images, limit)
    vocabulary.require(frozenset().union(*(picture.shown for picture in shown)))
    return list(caption_questions(shown, vocabulary, DESCRIBE)), ()


def calibrate(
    records_file: Annotated[
        Path | None, typer.Argument(metavar="RECORDS", help="Labelled records.", show_default=False)
    ] = None,
    *,
    out: _Out,
    own: Annotated[Path | None, typer.Option("--records", help="The same as RECORDS.")] = None,
    model: Model = EMBEDDED,
    scenes: Annotated[
        int | None, typer.Option(min=8, help="Without records: number of picture-world scenes to run the model on.")
    ] = None,
    calibrator: Annotated[
        Path | None, typer.Option(help="With --risk: a calibration fitted on other pictures, instead of a new one.")
    ] = None,
    method: Annotated[str, typer.Option(help="logistic, platt or isotonic.")] = "logistic",
    features: Annotated[
        str | None, typer.Option(help="signals, verified, evidence or all.", show_default="by cross-validation")
    ] = None,
    extract: Annotated[
        str, typer.Option(help="What takes answers apart: english, or picture_world for records of scenes.")
    ] = "english",
    risk: Annotated[
        float | None,
        typer.Option(help="Make a policy that guarantees: at most this share of the accepted answers is ungrounded."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="With --risk: confidence of the guarantee.")] = 0.95,
    metric: Annotated[
        str, typer.Option(help="With --risk: share of the 'accepted' answers, or of 'all' questions.")
    ] = "accepted",
    max_retries: Annotated[int, typer.Option(min=0, help="With --risk: the policy's number of retries.")] = 0,
    keep: Annotated[
        str, typer.Option(help="With --risk: keep the 'first' good answer, or the 'best' of all.")
    ] = "first",
    as_json: Json = False,
    engine: EngineName = "local",
    workers: Workers = None,
    num_gpus: GPUs = 0.0,
    ray_address: Address = None,
) -> None:
    """Fit a calibration for a model; with --risk, make a policy with a risk guarantee.

    With --risk and no --calibrator, half of the pictures fit the calibration and the other half test the guarantee.
    Exit code 1 if the guarantee can be given for no threshold.
    """
    from saliency_guard.calibration.calibrator import Calibrator
    from saliency_guard.calibration.fit import require_scikit_learn
    from saliency_guard.calibration.guarantee import NoGuarantee
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.guard.policy import GuardPolicy
    from saliency_guard.guard.retry import RetryPlan
    from saliency_guard.report.plots import plot_reliability, require_matplotlib

    with reported():
        require_scikit_learn()
        require_matplotlib()
        output_folder(out.parent)
        how = _one_of(method, "logistic", "platt", "isotonic")
        chosen = engine_named(engine, model, workers=workers, num_gpus=num_gpus, address=ray_address)
        found, source = _source(records_file or own, chosen, scenes, out, draws=max_retries + 1)
        extractor: Extractor = "picture_world" if scenes is not None else _one_of(extract, "english", "picture_world")
        fit = partial(Calibrator.fit, method=how, features=features, extractor=extractor, source=source)
        if risk is None:
            fitted = fit(found)
            fitted.save(out)
            if fitted.report is not None:
                plot_reliability(fitted.report, out.with_suffix(".png"))
            _show_calibration(fitted, out, as_json=as_json)
            return
        if calibrator is not None:
            judge, rest = Calibrator.load(calibrator), found
        else:
            half = set(sorted({record.picture for record in found})[::2])
            judge = fit(found.where(record.picture in half for record in found))
            rest = found.where(record.picture not in half for record in found)
        made = GuardPolicy.calibrated(
            rest,
            risk=risk,
            confidence=confidence,
            metric=_one_of(metric, "accepted", "all"),
            calibrator=judge,
            max_retries=max_retries,
            retry=RetryPlan(keep=_one_of(keep, "first", "best")),
        )
        guarantee = made if isinstance(made, NoGuarantee) else made.guarantee
        assert guarantee is not None  # noqa: S101 - `calibrated` gives one or the other
        if isinstance(made, GuardPolicy):
            made.save(out)
    _show_guarantee(guarantee, out, as_json=as_json)
    if isinstance(made, NoGuarantee):
        raise typer.Exit(NO_GUARANTEE)


def _one_of(value: str, *choices: str) -> Any:
    if value not in choices:
        msg = f"{value!r} is none of: {', '.join(choices)}"
        raise ConfigError(msg)
    return value


def _source(path: Path | None, engine: Engine, scenes: int | None, out: Path, *, draws: int) -> tuple[Records, str]:
    from saliency_guard.calibration.records import Records
    from saliency_guard.evaluation.engine_records import empty_records
    from saliency_guard.evaluation.labelling import Looking
    from saliency_guard.evaluation.record_file import RecordFile
    from saliency_guard.evaluation.world_records import WorldRun, generation, world_records

    if (path is None) == (scenes is None):
        msg = "give either a file of records or --scenes N to calibrate on"
        raise ConfigError(msg)
    if path is not None:
        return Records.load(path), path.name
    assert scenes is not None  # noqa: S101 - one of the two is given
    # Greedy answers of a good model are too rarely wrong to learn from; a guarantee needs a policy's own draws.
    run = WorldRun(split=_SCENES, scenes=scenes, several=scenes // 12, told=True, draws=max(2, draws))
    if draws == 1:
        run = replace(run, retry_temperature=1.0)
    part = out.with_name(f"{out.stem}-records.jsonl")
    with engine, progress("answers", run.answers) as done:
        file = RecordFile(part, empty_records(engine, Looking(), generation(run)))
        made = world_records(engine, run, file=file, on_answer=done)
    return made, f"{scenes} scenes of the picture world"


def _show_calibration(fitted: Calibrator, out: Path, *, as_json: bool) -> None:
    report = fitted.report
    if as_json:
        print(json.dumps({"out": str(out), "report": report.model_dump(mode="json") if report else None}, indent=2))
        return
    table = Table(
        title=f"{out}: fitted on {fitted.fitted_on.source}, measured on held-out pictures", title_justify="left"
    )
    for column in ("", "items", "grounded", "AUROC", "ECE", "Brier"):
        table.add_column(column, justify="right" if column else "left")
    measured: dict[str, Reliability | None] = {}
    if report is not None:
        measured = {"claims": report.claims, **{str(kind): each for kind, each in report.kinds.items()}}
        measured["answers"] = report.answers
    for name, values in measured.items():
        if values is not None:
            auroc = "" if values.auroc is None else f"{values.auroc:.3f}"
            table.add_row(
                name, str(values.count), f"{values.grounded:.3f}", auroc, f"{values.ece:.3f}", f"{values.brier:.3f}"
            )
    Console().print(table)


def _show_guarantee(guarantee: RiskGuarantee | NoGuarantee, out: Path, *, as_json: bool) -> None:
    from saliency_guard.calibration.guarantee import RiskGuarantee

    if as_json:
        print(json.dumps(guarantee.model_dump(mode="json"), indent=2))
        return
    group = "accepted answers are" if guarantee.metric == "accepted" else "questions get an answer that is"
    statement = f"at most {guarantee.risk:.1%} of the {group} ungrounded, with {guarantee.confidence:.0%} confidence"
    if isinstance(guarantee, RiskGuarantee):
        Console().print(
            f"{out}: {statement}: accept grounding {guarantee.threshold:.3f} and above. Of {guarantee.units} questions "
            f"{guarantee.accepted:.1%} are answered, {guarantee.observed:.2%} ungrounded."
        )
        return
    more = (
        f"about {guarantee.more_records} more questions of the same kind might be enough"
        if guarantee.more_records is not None
        else "no reasonable number of questions would be enough, because no threshold is clearly below that risk"
    )
    Console().print(
        f"{guarantee.units} questions support no threshold with this guarantee ({statement}): {more}. "
        "Nothing was written."
    )


def check(
    image: Annotated[Path, typer.Argument(help="A picture file.", show_default=False)],
    question: Annotated[str, typer.Argument(help="The question about it.", show_default=False)],
    answer: Annotated[str, typer.Argument(help="The answer to check, from any model or person.", show_default=False)],
    *,
    policy: Annotated[Path, typer.Option(help="A policy, from `saliency-guard calibrate --risk`.", show_default=False)],
    model: Model = EMBEDDED,
    as_json: Json = False,
) -> None:
    """Check an existing answer. Exit code 0: accepted; 3: refused, or it could not be judged."""
    from saliency_guard.chat.messages import chat
    from saliency_guard.guard.policy import GuardPolicy

    with reported():
        guard = GuardPolicy.load(policy)
        lvlm = load(model)
        scorer = lvlm if guard.calibrator is None else lvlm.with_calibrator(guard.calibrator)
        guard.require_calibrator(scorer)
        unscored = "flag" if guard.unscored == "raise" else guard.unscored
        outcome = guard.model_copy(update={"on_low": "flag", "unscored": unscored}).check(
            scorer.score(chat(image, question), answer, signals=guard.signals)
        )
    attempt = outcome.attempts[0]
    if as_json:
        print(
            json.dumps(
                {
                    "accepted": outcome.accepted,
                    "decision": outcome.decision,
                    "reason": outcome.reason,
                    "score": attempt.score,
                    "threshold": outcome.threshold,
                    "refused": attempt.refused,
                    "calibrated": outcome.calibrated,
                },
                indent=2,
            )
        )
    else:
        score = "" if attempt.score is None else f": grounding {attempt.score:.3f}"
        unscored_text = f"unscored: {outcome.reason}" if outcome.reason else f"accepted{score}"
        Console().print(f"refused: {attempt.refused}" if attempt.refused else unscored_text)
    if not outcome.passes:
        raise typer.Exit(REFUSED)
