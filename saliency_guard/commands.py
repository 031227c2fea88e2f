"""The commands: ask, score, info. Needs the extra ``cli`` (typer, rich)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from saliency_guard.errors import ConfigError, SaliencyGuardError
from saliency_guard.grounding import GroundedAnswer
from saliency_guard.locore import LayerChoice, LocoREConfig
from saliency_guard.lvlm import EMBEDDED, LVLM
from saliency_guard.report.terminal import answer_view, tokens_table
from saliency_guard.saliency import SaliencyConfig
from saliency_guard.sgrs import SGRSConfig

app = typer.Typer(
    help="Ask a local vision-language model about a picture and see what every token rests on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_FAILED = 2

_Image = Annotated[Path, typer.Argument(help="A picture file.", show_default=False)]
_Question = Annotated[str, typer.Argument(help="What to ask about it.", show_default=False)]
_Model = Annotated[str, typer.Option(help="'embedded', a local folder, or a hub id.")]
_Layers = Annotated[
    str | None,
    typer.Option(
        help="Target layers: two fractions of the depth (0.5,1.0) or indices (6,7,8).", show_default="0.5,1.0"
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_Tokens = Annotated[bool, typer.Option("--tokens", help="Show every token with its numbers.")]


@app.command()
def ask(
    image: _Image,
    question: _Question,
    *,
    model: _Model = EMBEDDED,
    max_new_tokens: Annotated[int, typer.Option(help="The most tokens to write.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None,
    alpha: Annotated[float, typer.Option(help="SGRS: threshold as a part of the recent mean.")] = 0.6,
    min_p: Annotated[
        float, typer.Option(help="SGRS: candidates less probable than this part of the first are none. The paper: 0.")
    ] = 0.5,
    beta: Annotated[float, typer.Option(help="LocoRE: strength.")] = 0.15,
    no_sgrs: Annotated[bool, typer.Option("--no-sgrs", help="Accept every token.")] = False,
    no_locore: Annotated[bool, typer.Option("--no-locore", help="Leave attention as it is.")] = False,
    layers: _Layers = None,
    as_json: _Json = False,
    tokens: _Tokens = False,
) -> None:
    """Ask about a picture."""
    with _reported():
        saliency = _saliency(layers)
        sgrs = None if no_sgrs else SGRSConfig(alpha=alpha, min_p=min_p)
        locore = None if no_locore else LocoREConfig(beta=beta)
        answer = _load(model).generate(
            _messages(image, question),
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            sgrs=sgrs,
            locore=locore,
            saliency=saliency,
        )
    _show(answer, question, as_json=as_json, tokens=tokens)


@app.command()
def score(
    image: _Image,
    question: _Question,
    answer: Annotated[str, typer.Argument(help="The answer to score, from anywhere.", show_default=False)],
    *,
    model: _Model = EMBEDDED,
    layers: _Layers = None,
    as_json: _Json = False,
    tokens: _Tokens = False,
) -> None:
    """Score an answer that is already there."""
    with _reported():
        saliency = _saliency(layers)
        scored = _load(model).score(_messages(image, question), answer, saliency=saliency)
    _show(scored, question, as_json=as_json, tokens=tokens)


@app.command()
def info(
    model: Annotated[str, typer.Argument(help="'embedded', a local folder, or a hub id.")] = EMBEDDED,
    *,
    as_json: _Json = False,
) -> None:
    """Say what a model is made of, and what works with it (reads its config, not its weights)."""
    from saliency_guard.inspection import describe_model  # noqa: PLC0415 - slow to import, used here alone

    with _reported():
        facts = describe_model(model)
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    table = Table(title=Text(model), title_justify="left", show_header=False)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), Text(str(value)))
    Console().print(table)


def _messages(image: Path, question: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}]


def _load(model: str) -> LVLM:
    console = Console(stderr=True)
    if model == EMBEDDED:
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

        disable_progress_bar()  # It loads at once; a hub model's download keeps its bar.
    with console.status(f"Loading {model} ..."):
        return LVLM.load(model)


def _saliency(layers: str | None) -> SaliencyConfig:
    return SaliencyConfig() if layers is None else SaliencyConfig(layers=_layers(layers))


def _layers(text: str) -> LayerChoice:
    """``"0.5,1.0"`` as fractions, ``"6,7,8"`` as indices."""
    parts = [part.strip() for part in text.split(",")]
    try:
        return (
            tuple(map(float, parts)) if any(set(part) & set(".eE") for part in parts) else [int(part) for part in parts]
        )
    except ValueError as error:
        msg = f"--layers {text!r} is neither two fractions (0.5,1.0) nor layer indices (6,7,8)"
        raise ConfigError(msg) from error


@contextmanager
def _reported() -> Iterator[None]:
    """Errors of our tree as one line on standard error, and exit code 2."""
    try:
        yield
    except SaliencyGuardError as error:
        Console(stderr=True).print(f"[bold red]{type(error).__name__}[/]: ", end="")
        Console(stderr=True, highlight=False).print(str(error), markup=False)
        raise typer.Exit(_FAILED) from error


def _show(answer: GroundedAnswer, question: str, *, as_json: bool, tokens: bool) -> None:
    if as_json:
        print(json.dumps(answer.to_dict(), indent=2, ensure_ascii=False))
        return
    console = Console()
    console.print(answer_view(answer, question))
    if tokens:
        console.print(tokens_table(answer))
