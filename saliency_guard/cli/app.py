"""The command line's commands."""

from __future__ import annotations

from typing import Annotated

import typer

from saliency_guard import __version__
from saliency_guard.cli import (
    answers,
    bench,
    calibration,
    comparison,
    dataset,
    evaluate,
    guard,
    load,
    pointing,
    records,
    report,
    serve,
    speed,
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    if wanted:
        print(f"saliency-guard {__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Ask a local vision-language model about a picture and see what every token rests on."""


app.command()(answers.ask)
app.command()(answers.score)
app.command()(report.report)
app.command()(answers.info)
app.command()(records.records)
app.command()(guard.calibrate)
app.command()(guard.check)
app.command()(dataset.score_dataset)
app.command("serve")(serve.serve_command)
app.add_typer(evaluate.app, name="eval")
bench.app.command("calibration")(calibration.calibration_command)
bench.app.command("comparison")(comparison.comparison_command)
bench.app.command("speed")(speed.speed_command)
bench.app.command("pointing")(pointing.pointing_command)
bench.app.command("serve")(load.load_command)
app.add_typer(bench.app, name="bench")
