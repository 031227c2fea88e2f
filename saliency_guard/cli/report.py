"""``saliency-guard report``: a page about an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from saliency_guard.cli.options import Calibration, Model, Out, Quantize
from saliency_guard.cli.shared import load, reported
from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import ConfigError, InputError

if TYPE_CHECKING:
    from saliency_guard.answer import GroundedAnswer
    from saliency_guard.chat.template import Messages
    from saliency_guard.lvlm import LVLM

_MAX_SAVED = 100


def report(
    image: Annotated[Path | None, typer.Argument(help="A picture file.", show_default=False)] = None,
    question: Annotated[str | None, typer.Argument(help="What to ask about it.", show_default=False)] = None,
    *,
    out: Out,
    answer: Annotated[
        str | None, typer.Option(help="An answer from anywhere, to score instead of writing one.", show_default=False)
    ] = None,
    saved: Annotated[
        Path | None,
        typer.Option(
            help="Answers that `ask --json` printed, instead of a picture and a question.", show_default=False
        ),
    ] = None,
    model: Model = EMBEDDED,
    calibrator: Calibration = None,
    quantize: Quantize = None,
    max_new_tokens: Annotated[int, typer.Option(help="Largest number of tokens in the answer.")] = 128,
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="A threshold on the grounding, to show beside it.")
    ] = None,
    repair: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Show what is left without claims below this grounding.")
    ] = None,
) -> None:
    """Write a page about an answer: how far it is grounded, claim by claim, and where each word comes from.

    Several saved answers become several files: OUT, OUT-2 and so on.
    """
    with reported():
        from saliency_guard.chat.messages import chat

        if threshold is not None and repair is not None:
            msg = "--repair shows what is left at its own threshold: leave out --threshold"
            raise ConfigError(msg)
        if saved is not None:
            if image is not None or question is not None or answer is not None:
                msg = "give either a picture and a question, or --saved"
                raise ConfigError(msg)
            answers = saved_answers(saved)
        else:
            if image is None or question is None:
                msg = "give a picture and a question, or --saved with answers that `ask --json` printed"
                raise ConfigError(msg)
            lvlm = load(model, calibrator, quantize)
            answers = [_explained(lvlm, chat(image, question), answer, max_new_tokens)]
        _write(answers, out, threshold, repair)


def _explained(lvlm: LVLM, messages: Messages, text: str | None, max_new_tokens: int) -> GroundedAnswer:
    prompt = lvlm.prepare(messages)
    written = lvlm.generate(prompt, max_new_tokens=max_new_tokens) if text is None else lvlm.score(prompt, text)
    return lvlm.explain(prompt, written)


def saved_answers(path: Path) -> list[GroundedAnswer]:
    """Answers from a file: one as JSON, several as a JSON list, or one on each line.

    Raises:
        InputError: if it cannot be read, or holds anything else.
    """
    import json

    from saliency_guard.answer import GroundedAnswer
    from saliency_guard.storage import parse_json, read_model, read_text

    text = read_text(path, name="answers")
    try:
        documents = parse_json(text)
        parts = documents if isinstance(documents, list) else [documents]
    except ValueError:
        parts = [line for line in text.split("\n") if line.strip()]  # JSON's texts may hold other line ends.
    if not 0 < len(parts) <= _MAX_SAVED:
        msg = f"cannot read answers from {str(path)!r}: it holds {len(parts)}, and 1 to {_MAX_SAVED} can be shown"
        raise InputError(msg)
    answers: list[GroundedAnswer] = []
    for number, part in enumerate(parts, start=1):
        try:
            answers.append(read_model(GroundedAnswer, part if isinstance(part, str) else json.dumps(part)))
        except ValueError as error:
            msg = f"cannot read answers from {str(path)!r}: number {number} is none that `ask --json` printed ({error})"
            raise InputError(msg) from error
    return answers


def _write(answers: list[GroundedAnswer], out: Path, threshold: float | None, repair: float | None) -> None:
    from saliency_guard.storage import replace_file

    for number, answer in enumerate(answers, start=1):
        target = out if number == 1 else out.with_stem(f"{out.stem}-{number}")
        page = answer.to_html(threshold=threshold) if repair is None else answer.repaired(threshold=repair).to_html()
        replace_file(target, page.encode())
        Console(highlight=False, soft_wrap=True).print(f"wrote {target}", markup=False)
