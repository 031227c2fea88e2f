"""Where commands do the work on many records: the options, and the engine that they name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from saliency_guard.errors import ConfigError

if TYPE_CHECKING:
    from saliency_guard.engines.engine import Engine

EngineName = Annotated[str, typer.Option("--engine", help="local (this process) or ray (the workers of a cluster).")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="With ray: how many workers.", show_default="as many as there is room for")
]
GPUs = Annotated[float, typer.Option("--num-gpus", min=0.0, help="With ray: GPUs of each worker, or a part of one.")]
Address = Annotated[
    str | None, typer.Option("--ray-address", help="Of a running cluster.", show_default="a new one on this machine")
]


def engine_named(
    name: str,
    model: str,
    *,
    workers: int | None = None,
    num_gpus: float = 0.0,
    address: str | None = None,
    quantize: str | None = None,
) -> Engine:
    """The engine that a command's options name.

    Raises:
        ConfigError: if there is none of that name, or an option has no effect with it.
        MissingExtraError: if Ray is not installed.
    """
    if name == "ray":
        from saliency_guard.engines.ray_engine import RayEngine
        from saliency_guard.lvlm import LVLM
        from saliency_guard.models.quantized import quantized

        weights = quantized(quantize)
        return RayEngine(partial(LVLM.load, model, **weights), workers=workers, num_gpus=num_gpus, address=address)
    if name != "local":
        msg = f"there is no engine {name!r}: local or ray"
        raise ConfigError(msg)
    given = {"--workers": workers, "--num-gpus": num_gpus, "--ray-address": address}
    without_effect = [option for option, value in given.items() if value]
    if without_effect:
        msg = f"{without_effect[0]} has no effect without --engine ray"
        raise ConfigError(msg)
    from saliency_guard.cli.shared import load
    from saliency_guard.engines.engine import LocalEngine

    return LocalEngine(partial(load, model, quantize=quantize))
