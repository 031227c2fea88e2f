"""``saliency-guard score-dataset``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from saliency_guard.cli.engines import Address, EngineName, GPUs, Workers, engine_named
from saliency_guard.cli.options import Model, Quantize
from saliency_guard.cli.shared import progress, reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError

SET_ASIDE = 1
_FORMATS = ("jsonl", "parquet")


def score_dataset(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="JSONL or parquet: id, question, image or images (or messages), answer.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default=False)],
    model: Model = EMBEDDED,
    quantize: Quantize = None,
    engine: EngineName = "local",
    workers: Workers = None,
    num_gpus: GPUs = 0.0,
    ray_address: Address = None,
    policy: Annotated[Path | None, typer.Option(help="A policy that decides on every answer.")] = None,
    report: Annotated[
        str, typer.Option(help="How much is written of each answer: summary, tokens or full.")
    ] = "summary",
    form: Annotated[
        str | None, typer.Option("--format", help="Of the results: jsonl or parquet.", show_default="as IN")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of an answer that is written.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="Of an answer that is written; 0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="How many answers are worked on side by side.")] = 8,
    shard_size: Annotated[int, typer.Option(min=1, help="Records of one file of results.")] = 64,
) -> None:
    """Score the answers of a whole file; where a record has none, one is written.

    Stopped, the same command goes on where it was: every record comes out once, in DIR/scores or, where it cannot be
    scored, in DIR/errors with the reason. Exit code 1 if there are any of those.
    """
    from saliency_guard.dataset.rows import count_rows
    from saliency_guard.dataset.run import score_dataset as run
    from saliency_guard.dataset.scoring import Scoring
    from saliency_guard.guard.policy import GuardPolicy

    with reported():
        if form is not None and form not in _FORMATS:
            msg = f"--format {form!r} is none of: {', '.join(_FORMATS)}"
            raise ConfigError(msg)
        settings: dict[str, Any] = {
            "policy": GuardPolicy.load(policy) if policy is not None else None,
            "report": report,
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "seed": seed,
            "batch_size": batch_size,
        }
        scoring = Scoring(**settings)
        records = count_rows(file)
        with (
            engine_named(
                engine, model, workers=workers, num_gpus=num_gpus, address=ray_address, quantize=quantize
            ) as chosen,
            progress("records", records) as done,
        ):
            kind: Any = form
            summary = run(
                file,
                out,
                chosen,
                model=model,
                scoring=scoring,
                form=kind,
                shard_size=shard_size,
                on_records=done,
            )
    unscored = f", {summary.unscored} of them without a score" if summary.unscored else ""
    Console().print(f"{out}: {summary.scored} records scored{unscored}, {summary.set_aside} set aside")
    if summary.set_aside:
        raise typer.Exit(SET_ASIDE)
