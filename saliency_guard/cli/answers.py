"""``saliency-guard ask``, ``score`` and ``info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from saliency_guard.cli.options import (
    Alpha,
    Beta,
    Calibration,
    Json,
    Locore,
    MinP,
    Model,
    Quantize,
    Sgrs,
    locore_settings,
    sgrs_settings,
)
from saliency_guard.cli.shared import json_text, load, reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from saliency_guard.answer import GroundedAnswer, Step
    from saliency_guard.decoding.options import GenerationOptions
    from saliency_guard.models.layer_choice import LayerChoice
    from saliency_guard.saliency.config import SaliencyConfig

_Image = Annotated[Path, typer.Argument(help="A picture file.", show_default=False)]
_Question = Annotated[str, typer.Argument(help="What to ask about it.", show_default=False)]
_Layers = Annotated[
    str | None,
    typer.Option(
        help="Target layers: two fractions of the depth (0.5,1.0) or indices (6,7,8).", show_default="0.5,1.0"
    ),
]
_Tokens = Annotated[bool, typer.Option("--tokens", help="Show every token with its numbers.")]


def ask(
    image: _Image,
    question: _Question,
    *,
    model: Model = EMBEDDED,
    calibrator: Calibration = None,
    quantize: Quantize = None,
    max_new_tokens: Annotated[int, typer.Option(help="Largest number of tokens in the answer.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same answer.")] = None,
    sgrs: Sgrs = False,
    alpha: Alpha = None,
    min_p: MinP = None,
    locore: Locore = False,
    beta: Beta = None,
    layers: _Layers = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Show the answer as it is written, and colour it once it is judged.")
    ] = False,
    as_json: Json = False,
    tokens: _Tokens = False,
) -> None:
    """Ask about a picture."""
    with reported():
        if stream and as_json:
            msg = "--json prints the whole answer at once: leave out --stream"
            raise ConfigError(msg)
        rejection = sgrs_settings(on=sgrs, alpha=alpha, min_p=min_p)
        reinforcement = locore_settings(on=locore, beta=beta)

        from saliency_guard.chat.messages import chat

        options: GenerationOptions = {
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "seed": seed,
            "sgrs": rejection,
            "locore": reinforcement,
            "saliency": _saliency(layers),
        }
        lvlm = load(model, calibrator, quantize)
        messages = chat(image, question)
        answer = _streamed(lvlm.stream(messages, **options)) if stream else lvlm.generate(messages, **options)
    _show(answer, question, as_json=as_json, tokens=tokens)


def _streamed(steps: Iterator[Step]) -> GroundedAnswer:
    """Show an answer as it is written: plain until it is judged, then in the colours of its groundings."""
    from saliency_guard.report.terminal import StreamView

    view = StreamView()
    with Live(view, console=Console(), refresh_per_second=12, transient=True):
        for step in steps:
            view.take(step)
    return view.whole


def score(
    image: _Image,
    question: _Question,
    answer: Annotated[str, typer.Argument(help="The answer to score, from any model or person.", show_default=False)],
    *,
    model: Model = EMBEDDED,
    calibrator: Calibration = None,
    quantize: Quantize = None,
    layers: _Layers = None,
    as_json: Json = False,
    tokens: _Tokens = False,
) -> None:
    """Score an existing answer."""
    from saliency_guard.chat.messages import chat

    with reported():
        saliency = _saliency(layers)
        scored = load(model, calibrator, quantize).score(chat(image, question), answer, saliency=saliency)
    _show(scored, question, as_json=as_json, tokens=tokens)


def info(
    model: Annotated[str, typer.Argument(help="'embedded', a local folder, or a hub id.")] = EMBEDDED,
    *,
    as_json: Json = False,
) -> None:
    """Show a model's architecture and what works with it (reads its config, not its weights)."""
    from saliency_guard.cli.describe import describe_model

    with reported():
        facts = describe_model(model)
    if as_json:
        print(json_text(facts))
        return
    table = Table(title=Text(model), title_justify="left", show_header=False)
    for name, value in facts.items():
        table.add_row(name.replace("_", " ").replace("gib", "(GiB)"), Text(_in_words(value)))
    Console().print(table)


def _in_words(value: object) -> str:
    """A fact about a model, as people write it."""
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _saliency(layers: str | None) -> SaliencyConfig:
    from saliency_guard.saliency.config import SaliencyConfig

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


def _show(answer: GroundedAnswer, question: str, *, as_json: bool, tokens: bool) -> None:
    if as_json:
        print(json_text(answer.to_dict()))
        return
    from saliency_guard.report.terminal import answer_view, tokens_table

    console = Console()
    console.print(answer_view(answer, question))
    if tokens:
        console.print(tokens_table(answer))
