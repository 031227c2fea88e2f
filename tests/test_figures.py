"""Figures without a window, and an error that names the extra."""

from __future__ import annotations

import pytest

from saliency_guard.errors import MissingExtraError
from saliency_guard.figures import new_figure


def test_a_figure_has_its_axes_and_no_window() -> None:
    figure, axes = new_figure(4.0, 3.0, 2)
    assert len(axes) == 2
    assert figure.get_size_inches().tolist() == [4.0, 3.0]


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saliency_guard.errors.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="plot"):
        new_figure(4.0, 3.0)
