"""Figures to draw on, without a window and without changing how anybody else's look. Needs the extra ``plot``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saliency_guard.errors import require_extra

TRUE, WRONG, INK = "#2a7f62", "#b3423a", "#333333"


def require_matplotlib() -> None:
    """Raise `MissingExtraError` now rather than later if matplotlib is missing."""
    require_extra("matplotlib", "matplotlib", "plot")


def new_figure(width: float, height: float, panels: int = 1, *, share_y: bool = True) -> tuple[Any, Sequence[Any]]:
    """A `matplotlib.figure.Figure` and its axes, side by side; notebooks show it by themselves.

    Args:
        width: in inches.
        height: in inches.
        panels: how many axes.
        share_y: whether they have one vertical axis.

    Raises:
        MissingExtraError: if matplotlib is missing.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False, sharey=share_y)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes
