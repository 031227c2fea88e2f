"""``saliency-guard bench comparison``: grounding beside likelihoods, samples and a judge, on the same answers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saliency_guard.cli.bench import Page, Quick, check_page, command_line, write_result
from saliency_guard.cli.options import Calibration, Model
from saliency_guard.cli.shared import load, progress, reported
from saliency_guard.embedded import EMBEDDED

if TYPE_CHECKING:
    from saliency_guard.evaluation.comparison import ComparedAnswer

SCENES = 200
_SPLITS = ("training styles", "openmoji")
_TIMED = 12


def comparison_command(
    *,
    model: Model = EMBEDDED,
    calibrator: Calibration = None,
    out: Annotated[Path, typer.Option(help="Where answers and results go; answers there are used again.")] = Path(
        "runs/comparison"
    ),
    count: Annotated[
        int | None, typer.Option("--scenes", min=4, help="Scenes of each split.", show_default=str(SCENES))
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only these splits.", show_default="both")] = None,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """How well likelihood, samples, the model as judge, and grounding tell right from wrong, and what each costs.

    Stopped, the same command goes on with the split that it was at.
    """
    from saliency_guard.engines.weights import weights_of
    from saliency_guard.errors import InputError
    from saliency_guard.evaluation.comparison import compare_ways, compared_answers, comparison_section, costs
    from saliency_guard.evaluation.evidence import replace_section
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.evaluation.probe import require_scikit_learn
    from saliency_guard.evaluation.questions import QUESTIONS_A_SCENE
    from saliency_guard.evaluation.world import pictures, title
    from saliency_guard.storage import replace_file

    options = {"model": model, "calibrator": calibrator, "scenes": count, "split": split, "page": page}
    count = count or (16 if quick else SCENES)
    samples, timed = (100, 1) if quick else (1000, _TIMED)
    with reported():
        require_scikit_learn()
        check_page(page, "comparison", quick=quick)
        names = split or list(_SPLITS)
        for name in names:  # Raises now, before the work, if a split or its drawings are missing.
            next(pictures(name, 1))
        output_folder(out)
        lvlm = load(model, calibrator)
        judged = "" if lvlm.calibrator is None else lvlm.calibrator.model_dump_json()
        made_by = hashlib.sha256(f"{weights_of(model, lvlm)} {judged}".encode()).hexdigest()[:8]
        results = []
        for name in names:
            kept = out / f"{name.replace(' ', '-')}-{count}-{made_by}.json"
            if kept.is_file():
                answers = _read(kept)
            else:
                with progress(f"answers, {title(name)}", QUESTIONS_A_SCENE * count) as done:
                    answers = compared_answers(lvlm, name, count, on_answer=done)
                replace_file(kept, json.dumps([answer.as_dict() for answer in answers], indent=1).encode())
            if not answers:
                msg = f"no answer about {title(name)} claims anything whose truth is known: there is nothing to compare"
                raise InputError(msg)
            results.append(compare_ways(name, answers, samples=samples))
        with progress("cost", QUESTIONS_A_SCENE * timed) as done:
            cost = costs(lvlm, names[0], timed, on_question=done)
        write_result(
            out / "result.json",
            {"scenes": count, "cost": dict(cost), "splits": [asdict(result) for result in results]},
        )
        command = command_line("comparison", options, quick=quick)
        section = comparison_section(results, cost, command, model=lvlm.model_id, scenes=count)
        if page is not None:
            replace_section(page, "comparison", section)
    print(section)


def _read(path: Path) -> list[ComparedAnswer]:
    """Answers that an earlier run has kept.

    Raises:
        InputError: if the file is none of ours.
    """
    from saliency_guard.errors import InputError
    from saliency_guard.evaluation.comparison import ComparedAnswer
    from saliency_guard.storage import parse_json, read_text

    try:
        return [ComparedAnswer(**row) for row in parse_json(read_text(path).encode())]
    except (ValueError, TypeError) as error:
        msg = f"{path} holds no answers of an earlier run: delete it, or choose another --out"
        raise InputError(msg) from error
