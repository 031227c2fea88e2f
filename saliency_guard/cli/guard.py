"""``saliency-guard calibrate`` and ``check``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from saliency_guard.cli.engines import Address, EngineName, GPUs, Workers, engine_named
from saliency_guard.cli.options import Coco, Images, Json, Limit, Model, Out, Pope, Quantize, Synonyms
from saliency_guard.cli.records import SCENES, ask_all, photo_questions
from saliency_guard.cli.shared import json_text, load, progress, reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError

if TYPE_CHECKING:
    from saliency_guard.calibration.calibrator import Calibrator
    from saliency_guard.calibration.guarantee import NoGuarantee, RiskGuarantee
    from saliency_guard.calibration.records import Records
    from saliency_guard.calibration.reliability import Reliability
    from saliency_guard.engines.engine import Engine
    from saliency_guard.scenes.claims import Extractor

REFUSED = 3
NO_GUARANTEE = 1


def calibrate(
    records_file: Annotated[
        Path | None, typer.Argument(metavar="RECORDS", help="Labelled records.", show_default=False)
    ] = None,
    *,
    out: Out,
    records_option: Annotated[Path | None, typer.Option("--records", help="The same as RECORDS.")] = None,
    model: Model = EMBEDDED,
    quantize: Quantize = None,
    scenes: Annotated[
        int | None, typer.Option(min=8, help="Without records: number of picture-world scenes to run the model on.")
    ] = None,
    documents: Annotated[
        int, typer.Option(min=0, help="With --scenes: also ask about text documents, in so many prompts.")
    ] = 0,
    pope: Pope = None,
    coco: Coco = None,
    images: Images = None,
    synonyms: Synonyms = None,
    limit: Limit = None,
    calibrator: Annotated[
        str | None,
        typer.Option(
            help="A calibration (file or hub id) fitted on other pictures, not a new one: the policy's with --risk, "
            "else one that records of text documents are added to."
        ),
    ] = None,
    method: Annotated[str, typer.Option(help="logistic, platt or isotonic.")] = "logistic",
    features: Annotated[
        str | None,
        typer.Option(help="signals, verified, recognised, evidence or all.", show_default="by cross-validation"),
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

    Fitted on records, or on what the model answers meanwhile: about scenes (--scenes), or about photographs (--pope,
    --coco). Those answers are kept beside --out: stopped, the same command goes on where it was.

    With --risk and no --calibrator, half of the pictures fit the calibration and the other half test the guarantee.
    Exit code 1 if the guarantee can be given for no threshold.
    """
    from saliency_guard.calibration.calibrator import Calibrator
    from saliency_guard.calibration.fit import require_scikit_learn
    from saliency_guard.calibration.guarantee import NoGuarantee
    from saliency_guard.calibration.sharing import read_calibrator
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.figures import require_matplotlib
    from saliency_guard.guard.policy import GuardPolicy
    from saliency_guard.guard.retry import RetryPlan
    from saliency_guard.report.plots import plot_reliability

    with reported():
        require_scikit_learn()
        require_matplotlib()
        output_folder(out.parent)
        how = _one_of(method, "logistic", "platt", "isotonic")
        photos = (pope, coco, images, synonyms, limit)
        chosen = engine_named(engine, model, workers=workers, num_gpus=num_gpus, address=ray_address, quantize=quantize)
        records, source = _source(
            records_file or records_option, chosen, scenes, photos, out, draws=max_retries + 1, documents=documents
        )
        extractor: Extractor = "picture_world" if scenes is not None else _one_of(extract, "english", "picture_world")
        fit = partial(Calibrator.fit, method=how, features=features, extractor=extractor, source=source)
        known = read_calibrator(calibrator)
        if risk is None:
            added = partial(known.with_documents, method=how, source=source) if known is not None else fit
            fitted = added(records)
            fitted.save(out)
            if fitted.report is not None:
                plot_reliability(fitted.report, out.with_suffix(".png"))
            _show_calibration(fitted, out, as_json=as_json)
            return
        if known is not None:
            judge, rest = known, records
        else:
            half = set(sorted({record.picture for record in records})[::2])
            judge = fit(records.where(record.picture in half for record in records))
            rest = records.where(record.picture not in half for record in records)
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


_Photos = tuple[Path | None, Path | None, Path | None, Path | None, int | None]


def _source(
    path: Path | None,
    engine: Engine,
    scenes: int | None,
    photos: _Photos,
    out: Path,
    *,
    draws: int,
    documents: int,
) -> tuple[Records, str]:
    """Labelled answers and what they are about, in words: those that are there, or those that a model gives now."""
    from saliency_guard.calibration.records import Records
    from saliency_guard.evaluation.engine_records import empty_records
    from saliency_guard.evaluation.labelling import Looking
    from saliency_guard.evaluation.record_file import RecordFile
    from saliency_guard.evaluation.world_records import WorldRun, generation, world_records

    pope, coco, *_ = photos
    if sum([path is not None, scenes is not None, pope is not None or coco is not None]) != 1:
        msg = "give either a file of records, --scenes N, or --pope and --coco to calibrate on"
        raise ConfigError(msg)
    if documents and (scenes is None or draws > 1):
        msg = "--documents goes with --scenes, and not with --max-retries: prompts with documents are answered once"
        raise ConfigError(msg)
    if path is not None:
        return Records.load(path), path.name
    kept = out.with_name(f"{out.stem}-records.jsonl")
    if scenes is not None:
        # Greedy answers of a good model are too rarely wrong to learn from; a guarantee needs a policy's own draws.
        # There are retries only of answers about one picture: a policy with retries is tested on these alone.
        several = scenes // 12 if draws == 1 else 0
        run = WorldRun(SCENES, scenes, several, given=True, draws=max(2, draws), documents=documents)
        if draws == 1:
            run = replace(run, retry_temperature=1.0, redrawn=scenes // 3)
        with engine, progress("answers", run.answers) as done:
            file = RecordFile(kept, empty_records(engine, Looking(), generation(run)))
            made = world_records(engine, run, file=file, on_answer=done)
        return made, f"{scenes} scenes of the picture world" + (f" and {documents} of documents" if documents else "")
    questions = photo_questions(*photos)
    run = WorldRun(split=SCENES, scenes=0, draws=draws)
    with engine:
        file = RecordFile(kept, empty_records(engine, Looking(), generation(run)), extends=True)
        ask_all(engine, questions, run, file, looking=Looking())
    wanted = {(question.picture, question.question) for question in questions}
    made = file.finish()
    named = " and ".join(place.name for place in (pope, coco) if place is not None)
    return made.where((record.picture, record.question) in wanted for record in made), f"{len(wanted)} of {named}"


def _show_calibration(fitted: Calibrator, out: Path, *, as_json: bool) -> None:
    report = fitted.report
    if as_json:
        print(json_text({"out": str(out), "report": report.model_dump(mode="json") if report else None}))
        return
    table = Table(
        title=f"{out}: fitted on {fitted.fitted_on.source}, measured on held-out pictures", title_justify="left"
    )
    for column in ("", "items", "grounded", "AUROC", "ECE", "Brier", "Brier skill"):
        table.add_column(column, justify="right" if column else "left")
    measured: dict[str, Reliability | None] = {}
    if report is not None:
        measured = {"claims": report.claims, **{str(kind): each for kind, each in report.kinds.items()}}
        measured["answers"] = report.answers
    if fitted.documents is not None:
        of = fitted.documents.report
        measured |= {f"documents, {kind}": each for kind, each in of.kinds.items()} if of is not None else {}
    for name, values in measured.items():
        if values is not None:
            numbers = (values.grounded, values.auroc, values.ece, values.brier, values.skill)
            table.add_row(name, str(values.count), *("" if number is None else f"{number:.3f}" for number in numbers))
    Console().print(table)
    if fitted.documents is not None:
        for kind, value in fitted.documents.auroc.items():
            known = any(each.kind == kind for each in fitted.documents.kinds)
            end = "" if known else ": too little for a number"
            Console().print(f"text documents, {kind} claims: AUROC {value:.3f} of their verification{end}")


def _show_guarantee(guarantee: RiskGuarantee | NoGuarantee, out: Path, *, as_json: bool) -> None:
    from saliency_guard.calibration.guarantee import RiskGuarantee

    if as_json:
        print(json_text(guarantee.model_dump(mode="json")))
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
        outcome = guard.without_actions().check(scorer.score(chat(image, question), answer, signals=guard.signals))
    attempt = outcome.attempts[0]
    if as_json:
        print(
            json_text(
                {
                    "accepted": outcome.accepted,
                    "decision": outcome.decision,
                    "reason": outcome.reason,
                    "score": attempt.score,
                    "threshold": outcome.threshold,
                    "refused": attempt.refused,
                    "calibrated": outcome.calibrated,
                }
            )
        )
    else:
        score = "" if attempt.score is None else f": grounding {attempt.score:.3f}"
        unscored_text = f"unscored: {outcome.reason}" if outcome.reason else f"accepted{score}"
        Console().print(f"refused: {attempt.refused}" if attempt.refused else unscored_text)
    if not outcome.passes:
        raise typer.Exit(REFUSED)
