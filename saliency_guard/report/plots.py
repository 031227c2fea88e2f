"""Plots: reliability, risk and coverage, and those of the evidence page. Needs the extra ``plot`` (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saliency_guard.calibration.results import CalibrationReport
from saliency_guard.figures import INK, TRUE, WRONG, new_figure

_FLOORS = frozenset({"position", "repetition", "position only", "word only"})  # They look at no picture.


def _saved(figure: Any, path: Path | None) -> Any:
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def plot_auroc(rows: Mapping[str, Sequence[tuple[str, float, float, float]]], path: Path | None = None) -> Any:
    """AUROC of every signal and combination with its interval, one panel a split.

    Args:
        rows: split -> (name, value, low, high), in the order to draw them.
        path: a file name with the picture's type; None writes no file.

    Returns:
        The `matplotlib.figure.Figure`.
    """
    figure, axes = new_figure(3.1 * len(rows) + 1.6, 0.26 * max(map(len, rows.values())) + 1.2, len(rows))
    for axis, (split, entries) in zip(axes, rows.items(), strict=True):
        heights = range(len(entries), 0, -1)
        for height, (name, value, low, high) in zip(heights, entries, strict=True):
            colour = INK if name in _FLOORS else TRUE
            axis.plot([low, high], [height, height], color=colour, linewidth=1.4)
            axis.plot(value, height, "o", color=colour, markersize=4)
        axis.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
        axis.set_yticks(list(heights), [name for name, *_ in entries], fontsize=8)
        axis.set_xlim(0.3, 1.0)
        axis.set_title(split, fontsize=10)
        axis.set_xlabel("AUROC, hallucinated mentions")
    return _saved(figure, path)


def plot_quartiles(rates: Mapping[str, Sequence[float]], path: Path | None = None) -> Any:
    """Hallucination rate by quartile of S.

    Args:
        rates: name of a split and mode -> the four rates, lowest quartile first.
        path: a file name with the picture's type; None writes no file.

    Returns:
        The `matplotlib.figure.Figure`.
    """
    figure, (axis,) = new_figure(6.4, 3.8)
    for index, (name, values) in enumerate(rates.items()):
        offset = 0.8 * (index / max(1, len(rates)) - 0.5)
        shade = index / max(1, len(rates) - 1)
        positions = [quartile + offset for quartile in range(1, 5)]
        axis.bar(
            positions[: len(values)],
            values,
            0.72 / len(rates),
            align="edge",
            label=name,
            color=WRONG,
            alpha=1 - 0.75 * shade,
        )
    axis.set_xticks(range(1, 5), ["lowest quarter", "second", "third", "highest quarter"])
    axis.set_xlabel("mentions by saliency S (Eq. 6)")
    axis.set_ylabel("hallucinated")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=3)
    return _saved(figure, path)


def plot_costs(panels: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], path: Path | None = None) -> Any:
    """Ratio to plain ``generate`` against length.

    Args:
        panels: what the length is of -> way -> (length, ratio), in order.
        path: a file name with the picture's type; None writes no file.

    Returns:
        The `matplotlib.figure.Figure`.
    """
    figure, axes = new_figure(9.0, 3.4, len(panels))
    for axis, (name, ways) in zip(axes, panels.items(), strict=True):
        for way, points in ways.items():
            lengths, ratios = zip(*points, strict=True)
            axis.plot(lengths, ratios, "o-", label=way, linewidth=1.4, markersize=4)
        axis.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
        axis.set_xscale("log", base=2)
        axis.set_xticks(sorted({length for points in ways.values() for length, _ in points}))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
        axis.set_xlabel(f"positions of the {name}")
    axes[0].set_ylabel("time, ratio to plain generate")
    axes[0].legend(frameon=False, fontsize=8)
    return _saved(figure, path)


def plot_reliability(report: CalibrationReport, path: Path | None = None) -> Any:
    """How often what was said to be grounded is, against how likely it was said to be.

    Args:
        report: of a calibration, on pictures it never saw.
        path: a file name with the picture's type; None writes no file.

    Returns:
        The `matplotlib.figure.Figure`.
    """
    panels = {name: measured for name in ("claims", "answers") if (measured := getattr(report, name)) is not None}
    figure, axes = new_figure(4.2 * len(panels), 3.8, len(panels))
    for axis, (name, measured) in zip(axes, panels.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        axis.plot(
            [part.predicted for part in measured.bins], [part.observed for part in measured.bins], "o-", color=TRUE
        )
        axis.set_title(f"{name}: ECE {measured.ece:.3f}, {measured.count} of them", fontsize=9)
        axis.set_xlabel("calibrated grounding")
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
    axes[0].set_ylabel("grounded")
    return _saved(figure, path)


def plot_coverage(
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]], path: Path | None = None
) -> Any:
    """Risk among the answered questions against how many are answered, one panel a split.

    Args:
        curves: split -> policy -> (threshold, part answered, part of those ungrounded).
        path: a file name with the picture's type; None writes no file.

    Returns:
        The `matplotlib.figure.Figure`.
    """
    figure, axes = new_figure(4.6 * len(curves), 3.8, len(curves))
    for axis, (name, policies) in zip(axes, curves.items(), strict=True):
        for policy, points in policies.items():
            axis.plot([taken for _, taken, _ in points], [risk for _, _, risk in points], label=policy, linewidth=1.4)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("questions answered")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes[0].set_ylabel("ungrounded among the answered")
    axes[0].legend(frameon=False, fontsize=8)
    return _saved(figure, path)
