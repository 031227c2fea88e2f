"""The command line's commands. Needs the extra ``cli`` (typer, rich)."""

from __future__ import annotations

import typer

from saliency_guard.cli import answers, bench, calibration, evaluate, guard, speed

app = typer.Typer(
    help="Ask a local vision-language model about a picture and see what every token rests on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(answers.ask)
app.command()(answers.score)
app.command()(answers.info)
app.command()(guard.records)
app.command()(guard.calibrate)
app.command()(guard.check)
app.add_typer(evaluate.app, name="eval")
bench.app.command("calibration")(calibration.calibration_command)
bench.app.command("speed")(speed.speed_command)
app.add_typer(bench.app, name="bench")
