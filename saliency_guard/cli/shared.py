"""What the commands share: loading a model, and errors as one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from saliency_guard.embedded import EMBEDDED
from saliency_guard.errors import SaliencyGuardError
from saliency_guard.storage import json_value

if TYPE_CHECKING:
    from saliency_guard.lvlm import LVLM

FAILED = 2


def load(model: str, calibrator: str | None = None, quantize: str | None = None) -> LVLM:
    """Load a model, with a message on standard error meanwhile.

    Args:
        model: its name.
        calibrator: a calibration's file, or a hub id; None takes the model's own.
        quantize: ``"int8"`` or ``"nf4"``; None leaves the weights as they are.
    """
    from transformers.utils.logging import disable_progress_bar

    from saliency_guard.lvlm import LVLM
    from saliency_guard.models.quantized import quantized

    weights = quantized(quantize)
    console = Console(stderr=True)
    if model == EMBEDDED:
        disable_progress_bar()  # It loads quickly; a hub model keeps its download bar.
    with console.status(f"Loading {model} ..."):
        return LVLM.load(model, calibrator=calibrator, **weights)


_CONTROLS = re.compile("[\x7f-\x9f]")  # JSON itself escapes those below them.


def json_text(result: Mapping[str, Any]) -> str:
    """Strict JSON (see `json_value`), with no control character that a terminal would act on."""
    text = json.dumps(json_value(result), indent=2, allow_nan=False, ensure_ascii=False)
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@contextmanager
def reported() -> Iterator[None]:
    """Print a `SaliencyGuardError` or `OSError` as one line on standard error, and exit with code 2."""
    try:
        yield
    except SaliencyGuardError as error:
        Console(stderr=True).print(f"[bold red]{type(error).__name__}[/]: ", end="")
        Console(stderr=True, highlight=False).print(str(error), markup=False)
        raise typer.Exit(FAILED) from error
    except OSError as error:
        Console(stderr=True, highlight=False).print(f"cannot read or write: {error}", markup=False)
        raise typer.Exit(FAILED) from error


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error; call the yielded function once per item, or with how many there were."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count=1: bar.advance(task, count)
