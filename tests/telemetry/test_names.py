"""Names of attributes and metrics."""

from __future__ import annotations

from saliency_guard.decoding.options import DEFAULTS
from saliency_guard.telemetry import names


def test_no_two_things_have_one_name() -> None:
    values = [value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)]
    assert len(values) == len(set(values)) > 40


def test_options_are_those_of_generation() -> None:
    assert set(names.REQUEST_OPTIONS) <= set(DEFAULTS)
    assert all(value.startswith("gen_ai.request.") for value in names.REQUEST_OPTIONS.values())
