"""``saliency-guard records``, ``calibrate`` and ``check``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from saliency_guard.cli.options import MAX_NEW_TOKENS, RETRY_TEMPERATURE, Json, Model
from saliency_guard.cli.shared import load, progress, reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError

if TYPE_CHECKING:
    from saliency_guard.calibration.calibrator import Calibrator
    from saliency_guard.calibration.guarantee import NoGuarantee, RiskGuarantee
    from saliency_guard.calibration.records import GroundingRecord, Records
    from saliency_guard.evaluation import labelling
    from saliency_guard.lvlm import LVLM

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
) -> None:
    """Make labelled records: ask about pictures with known ground truth, and label and score every answer."""
    from saliency_guard.evaluation import labelling
    from saliency_guard.evaluation.files import output_folder

    with reported():
        items, count = _items(scenes, pope, coco, labelled, images, synonyms, split, limit)
        output_folder(out.parent)
        lvlm = load(model)
        total = count * (1 if labelled is not None else draws + told)
        with progress("answers", total) as done:
            if isinstance(items, list):
                folder = labelled.parent if labelled is not None else Path()
                made = list(labelling.labelled_records(lvlm, items, folder, vectors=vectors, on_answer=done))
            else:
                made = list(
                    labelling.write_records(
                        lvlm,
                        items,
                        draws=draws,
                        temperature=temperature,
                        retry_temperature=retry_temperature,
                        max_new_tokens=max_new_tokens,
                        told=told,
                        vectors=vectors,
                        on_answer=done,
                    )
                )
        generation = _generation(
            temperature=temperature, retry_temperature=retry_temperature, max_new_tokens=max_new_tokens
        )
        _records(lvlm, made, None if labelled is not None else generation).save(out)
    ungrounded = sum(not record.grounded for record in made)
    Console().print(f"{out}: {len(made)} answers, {ungrounded} of them not grounded")


def _items(  # noqa: PLR0917 - the options of one command
    scenes: int | None,
    pope: Path | None,
    coco: Path | None,
    labelled: Path | None,
    images: Path | None,
    synonyms: Path | None,
    split: str,
    limit: int | None,
) -> tuple[Iterator[labelling.CheckedQuestion] | list[labelling.LabelledAnswer], int]:
    """The questions to ask, or the labelled answers to score; and how many there are."""
    from saliency_guard.evaluation import labelling
    from saliency_guard.evaluation.files import read_instances, read_pope
    from saliency_guard.evaluation.mentions import ObjectVocabulary
    from saliency_guard.evaluation.world import pictures
    from saliency_guard.scenes.language import DESCRIBE

    if sum(source is not None for source in (scenes, pope, coco, labelled)) != 1:
        msg = "give exactly one source of records: --scenes N, --pope FILE, --coco FILE or --labelled FILE"
        raise ConfigError(msg)
    if scenes is not None:
        next(pictures(split, 1))  # Raises now, before the work, if the split or its drawings are missing.
        world = (question for picture in pictures(split, scenes) for question in labelling.world_questions(picture))
        return world, scenes * (len(labelling.TASKS) + 1)
    if labelled is not None:
        answers = labelling.read_labelled(labelled)[:limit]
        return answers, len(answers)
    if images is None:
        msg = "--pope and --coco need --images, the folder with the pictures"
        raise ConfigError(msg)
    if pope is not None:
        questions = read_pope(pope, images, limit)
        return labelling.pope_questions(questions), len(questions)
    assert coco is not None  # noqa: S101 - exactly one of the four is given
    vocabulary = ObjectVocabulary.coco(synonyms)
    coco_images = read_instances(coco, images, limit)
    vocabulary.require(frozenset().union(*(image.shown for image in coco_images)))
    return labelling.caption_questions(coco_images, vocabulary, DESCRIBE), len(coco_images)


def _records(lvlm: LVLM, made: Iterable[GroundingRecord], generation: Mapping[str, Any] | None = None) -> Records:
    """The records with the model's fingerprint and the generation settings."""
    from saliency_guard.calibration.fingerprint import fingerprint
    from saliency_guard.calibration.records import Records
    from saliency_guard.saliency.config import SaliencyConfig

    model_fingerprint = fingerprint(lvlm.model, lvlm.processor, lvlm.model_id, SaliencyConfig())
    return Records(model_fingerprint, made, generation=generation)


def _generation(
    *,
    temperature: float = 0.0,
    retry_temperature: float = RETRY_TEMPERATURE,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> dict[str, Any]:
    """The generation settings of `labelling.write_records`, as arguments of `LVLM.generate`."""
    return {
        "temperature": temperature,
        "retry_temperature": retry_temperature,
        "max_new_tokens": max_new_tokens,
        "sgrs": None,
        "locore": None,
    }


def calibrate(
    records_file: Annotated[
        Path | None, typer.Argument(metavar="RECORDS", help="Labelled records.", show_default=False)
    ] = None,
    *,
    out: _Out,
    records_option: Annotated[Path | None, typer.Option("--records", help="The same as RECORDS.")] = None,
    model: Model = EMBEDDED,
    scenes: Annotated[
        int | None, typer.Option(min=8, help="Without records: number of picture-world scenes to run the model on.")
    ] = None,
    calibrator: Annotated[
        Path | None, typer.Option(help="With --risk: a calibration fitted on other pictures, instead of a new one.")
    ] = None,
    method: Annotated[str, typer.Option(help="logistic, platt or isotonic.")] = "logistic",
    features: Annotated[
        str | None, typer.Option(help="signals, 'saliency probe' or all.", show_default="by cross-validation")
    ] = None,
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
) -> None:
    """Fit a calibration for a model; with --risk, make a policy with a risk guarantee.

    With --risk and without --calibrator, half of the pictures fit the calibration and the other half test the
    guarantee. Exit code 1 if there is no threshold with this guarantee.
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
        checked_method = _choice(method, "logistic", "platt", "isotonic")
        loaded, source = _source(records_file or records_option, model, scenes, draws=max_retries + 1)
        fit = partial(Calibrator.fit, method=checked_method, features=features, source=source)
        if risk is None:
            fitted = fit(loaded)
            fitted.save(out)
            if fitted.report is not None:
                plot_reliability(fitted.report, out.with_suffix(".png"))
            _show_calibration(fitted, out, as_json=as_json)
            return
        if calibrator is not None:
            policy_calibrator, test_records = Calibrator.load(calibrator), loaded
        else:
            fitting_pictures = set(sorted({record.picture for record in loaded})[::2])
            policy_calibrator = fit(loaded.where(record.picture in fitting_pictures for record in loaded))
            test_records = loaded.where(record.picture not in fitting_pictures for record in loaded)
        policy = GuardPolicy.calibrated(
            test_records,
            risk=risk,
            confidence=confidence,
            metric=_choice(metric, "accepted", "all"),
            calibrator=policy_calibrator,
            max_retries=max_retries,
            retry=RetryPlan(keep=_choice(keep, "first", "best")),
        )
        guarantee = policy if isinstance(policy, NoGuarantee) else policy.guarantee
        assert guarantee is not None  # noqa: S101 - a policy from `calibrated` has a guarantee
        if isinstance(policy, GuardPolicy):
            policy.save(out)
    _show_guarantee(guarantee, out, as_json=as_json)
    if isinstance(policy, NoGuarantee):
        raise typer.Exit(NO_GUARANTEE)


def _choice(value: str, *choices: str) -> Any:
    if value not in choices:
        msg = f"{value!r} is none of: {', '.join(choices)}"
        raise ConfigError(msg)
    return value


def _source(path: Path | None, model: str, scenes: int | None, *, draws: int) -> tuple[Records, str]:
    from saliency_guard.calibration.records import Records
    from saliency_guard.evaluation import labelling

    if (path is None) == (scenes is None):
        msg = "give either a file of records or --scenes N to calibrate on"
        raise ConfigError(msg)
    if path is not None:
        return Records.load(path), path.name
    assert scenes is not None  # noqa: S101 - exactly one of the two is given
    lvlm = load(model)
    # Greedy answers of a good model are too rarely wrong to fit on; a guarantee needs the policy's own sampling.
    sampling = {"draws": draws} if draws > 1 else {"draws": 2, "retry_temperature": 1.0}
    with progress("answers", scenes * (len(labelling.TASKS) + 1) * (int(sampling["draws"]) + 1)) as done:
        made = make_records(lvlm, _SCENES, scenes, **sampling, told=True, on_answer=done)
    return made, f"{scenes} scenes of the picture world"


def make_records(lvlm: LVLM, split: str, count: int, **settings: Any) -> Records:
    """Ask about the scenes of a split and label the answers; settings as for `labelling.write_records`."""
    from saliency_guard.evaluation import labelling
    from saliency_guard.evaluation.world import pictures

    questions = (question for picture in pictures(split, count) for question in labelling.world_questions(picture))
    temperatures = {name: settings[name] for name in ("temperature", "retry_temperature") if name in settings}
    return _records(lvlm, labelling.write_records(lvlm, questions, **settings), _generation(**temperatures))


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
    for name in ("tokens", "answers"):
        reliability = getattr(report, name) if report is not None else None
        if reliability is not None:
            auroc = "" if reliability.auroc is None else f"{reliability.auroc:.3f}"
            ece, brier = f"{reliability.ece:.3f}", f"{reliability.brier:.3f}"
            table.add_row(name, str(reliability.count), f"{reliability.grounded:.3f}", auroc, ece, brier)
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
