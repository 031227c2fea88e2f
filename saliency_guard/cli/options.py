"""Options that several commands share.

An option that is not given takes the default of the setting itself. The help shows that default as text, because the
settings' modules import torch; a test compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saliency_guard.errors import ConfigError

if TYPE_CHECKING:
    from saliency_guard.decoding.sgrs import SGRSConfig
    from saliency_guard.models.locore import LocoREConfig

Model = Annotated[str, typer.Option(help="'embedded', a local folder, or a hub id.")]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibrator", help="A calibration: a file, a folder, or a hub id.", show_default="the one beside the model"
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(help="int8 or nf4 (bitsandbytes): weights in 8 or 4 bits.", show_default="as the checkpoint has them"),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Out = Annotated[Path, typer.Option(help="The file to write.", show_default=False)]
Pope = Annotated[Path | None, typer.Option(help="POPE's questions (JSONL); needs --images.")]
Coco = Annotated[Path | None, typer.Option(help="COCO's instances (JSON): pictures to describe; needs --images.")]
Images = Annotated[Path | None, typer.Option(help="Folder with the pictures of --pope and --coco.")]
Synonyms = Annotated[Path | None, typer.Option(help="With --coco: CHAIR's list of synonyms.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first so many.")]
Sgrs = Annotated[bool, typer.Option("--sgrs", help="Saliency-guided rejection sampling on, at the paper's settings.")]
Alpha = Annotated[
    float | None,
    typer.Option(
        help="With --sgrs: threshold, as a fraction of the mean saliency of recent tokens.", show_default="0.6"
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(
        help="With --sgrs: candidates need at least this fraction of the most probable token's probability.",
        show_default="0.0",
    ),
]
Locore = Annotated[bool, typer.Option("--locore", help="Local coherence reinforcement on, at the paper's settings.")]
Beta = Annotated[
    float | None,
    typer.Option(help="With --locore: how much attention to recent tokens is raised.", show_default="0.15"),
]

RETRY_TEMPERATURE = 0.7
"""The temperature of `RetryPlan`."""

MAX_NEW_TOKENS = 96
"""``MAX_NEW_TOKENS`` of `saliency_guard.evaluation.labelling`."""

DESCRIBE = "Describe the image in detail."
"""``DESCRIBE`` of `saliency_guard.scenes.language`."""


def sgrs_settings(*, on: bool, alpha: float | None, min_p: float | None) -> SGRSConfig | None:
    """The settings of ``--sgrs``; None if it is off.

    Raises:
        ConfigError: if a setting is given without ``--sgrs``, or is out of range.
    """
    given = {name: value for name, value in (("alpha", alpha), ("min_p", min_p)) if value is not None}
    _require_switch("--sgrs", given, on=on)
    if not on:
        return None
    from saliency_guard.decoding.sgrs import SGRSConfig

    settings: dict[str, Any] = dict(given)
    return SGRSConfig(**settings)


def locore_settings(*, on: bool, beta: float | None) -> LocoREConfig | None:
    """The settings of ``--locore``; None if it is off.

    Raises:
        ConfigError: if its strength is given without ``--locore``, or is out of range.
    """
    given = {} if beta is None else {"beta": beta}
    _require_switch("--locore", given, on=on)
    if not on:
        return None
    from saliency_guard.models.locore import LocoREConfig

    settings: dict[str, Any] = dict(given)
    return LocoREConfig(**settings)


def _require_switch(switch: str, given: dict[str, float], *, on: bool) -> None:
    if given and not on:
        option = next(iter(given)).replace("_", "-")
        msg = f"--{option} has no effect without {switch}: add {switch}, or leave --{option} out"
        raise ConfigError(msg)
