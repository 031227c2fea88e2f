"""``saliency-guard bench pointing``: where maps of the picture point, on scenes whose objects' places are known."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from saliency_guard.cli.bench import Page, Quick, check_page, command_line, write_result
from saliency_guard.cli.options import MAX_NEW_TOKENS, Model
from saliency_guard.cli.shared import load, progress, reported
from saliency_guard.embedded import EMBEDDED

SCENES = 300
_QUICK = 24


def pointing_command(
    *,
    model: Model = EMBEDDED,
    out: Annotated[Path, typer.Option(help="Folder for what is measured; what is there is not measured again.")] = Path(
        "runs/pointing"
    ),
    scenes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Scenes of each split; for a third as many prompts there are two, three and four pictures.",
            show_default=str(SCENES),
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length limit of all answers.")] = MAX_NEW_TOKENS,
    page: Page = None,
    quick: Quick = False,
) -> None:
    """How often the maps of the picture are largest in the object that a token names.

    Stopped, the same command goes on with the split that it was at.
    """
    from saliency_guard.engines.weights import weights_of
    from saliency_guard.evaluation.evidence import replace_section
    from saliency_guard.evaluation.files import output_folder
    from saliency_guard.evaluation.pointing import PointedTable, collect
    from saliency_guard.evaluation.pointing_page import plays, pointing_section, split_result

    options = {"model": model, "scenes": scenes, "max-new-tokens": max_new_tokens, "page": page}
    count = scenes or (_QUICK if quick else SCENES)
    with reported():
        check_page(page, "pointing", quick=quick)
        output_folder(out)
        lvlm = load(model)
        weights = weights_of(model, lvlm)
        results = []
        for play in plays(count):
            kept = out / f"{play.name.replace(' ', '-')}-{count}-{max_new_tokens}-{weights[:8]}.npz"
            if kept.is_file():
                table = PointedTable.load(kept)
            else:
                with progress(play.name, play.questions) as done:
                    table = collect(lvlm, play.ask(), max_new_tokens=max_new_tokens, on_question=done)
                table.save(kept)
            results.append(split_result(play.name, table))
            write_result(
                out / "result.json",
                {"settings": {"model": lvlm.model_id, "scenes": count}, "splits": [asdict(each) for each in results]},
            )
        section = pointing_section(results, command_line("pointing", options, quick=quick), model=lvlm.model_id)
        if page is not None:
            replace_section(page, "pointing", section)
    print(section)
